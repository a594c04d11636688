//! A provider on a loopback socket that answers what it is told to, and remembers what it was asked.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::{Url, form_urlencoded};

use super::keys::Key;
use crate::config::{AssertionAudience, AudienceParameter, ClientAuthMethod, IdpConfig, IdpEndpoints, Secret};
use crate::oidc::{CallbackParams, Flow, Login, LoginAsk, LoginError, RelyingParty};
use crate::resilience::ManualClock;
use crate::telemetry::Metrics;

/// Where the clock of every test stands at first.
pub(super) const NOW: i64 = 1_700_000_000;

/// What one path answers.
#[derive(Debug, Clone)]
pub(super) enum Canned {
    Json(u16, Value),
    Html(u16, &'static str),
    Redirect(String),
    /// This many bytes, after a header that does not say how many.
    Huge(usize),
    /// The connection ends without an answer.
    Reset,
    Hang,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) head: String,
    pub(super) form: HashMap<String, String>,
}

#[derive(Debug, Default)]
struct Script {
    answers: HashMap<String, Canned>,
    requests: Vec<Request>,
}

/// The provider with the party that relies on it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) base: String,
    pub(super) clock: Arc<ManualClock>,
    pub(super) key: Key,
    pub(super) rp: RelyingParty,
    script: Arc<Mutex<Script>>,
}

impl World {
    /// A provider in good order.
    pub(super) async fn new() -> Self {
        Self::with(|_idp| {}).await
    }

    /// The same with another `idps.yaml` entry.
    pub(super) async fn with(change: impl FnOnce(&mut IdpConfig)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::<Mutex<Script>>::default();
        tokio::spawn(serve(listener, Arc::clone(&script)));
        let clock = Arc::new(ManualClock::at(NOW));
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut idp = entry(&base);
        change(&mut idp);
        let public = Url::parse("http://localhost:8080").unwrap();
        let scopes = ["openid".to_owned(), "offline_access".to_owned()];
        let rp = RelyingParty::new(&idp, &public, &scopes, None, clock.clone(), metrics).unwrap();
        let world = Self { base, clock, key: Key::ed25519("k1"), rp, script };
        world.answer("/.well-known/openid-configuration", Canned::Json(200, world.document()));
        world.publish(&[&world.key]);
        world
    }

    pub(super) fn document(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.base);
        json!({
            "issuer": self.base,
            "authorization_endpoint": at("/authorize?tenant=1"),
            "token_endpoint": at("/token"),
            "jwks_uri": at("/jwks"),
            "revocation_endpoint": at("/revoke"),
            "end_session_endpoint": at("/end"),
        })
    }

    pub(super) fn publish(&self, keys: &[&Key]) {
        let keys: Vec<_> = keys.iter().map(|key| key.published()).collect();
        self.answer("/jwks", Canned::Json(200, json!({ "keys": keys })));
    }

    pub(super) fn answer(&self, path: &str, canned: Canned) {
        self.script.lock().unwrap().answers.insert(path.to_owned(), canned);
    }

    pub(super) fn requests(&self, path: &str) -> Vec<Request> {
        self.script.lock().unwrap().requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// An ID token in good order for `flow`, then changed.
    pub(super) fn claims(&self, flow: &Flow, change: impl FnOnce(&mut Value)) -> Value {
        let mut claims = json!({
            "iss": self.base, "aud": "client", "sub": "alice", "iat": NOW, "exp": NOW + 600,
            "nonce": flow.nonce.expose(), "sid": "s1", "auth_time": NOW - 5, "name": "Alice",
        });
        change(&mut claims);
        claims
    }

    pub(super) async fn begin(&self) -> Flow {
        self.rp.begin_login(LoginAsk::default()).await.unwrap().1
    }

    /// Comes back with the right state and a code; the provider answers with this ID token.
    pub(super) async fn finish(&self, flow: Flow, id_token: &str) -> Result<Login, LoginError> {
        self.answer("/token", Canned::Json(200, tokens(json!({ "id_token": id_token }))));
        let query = format!("code=c1&state={}", flow.state.expose());
        self.rp.finish_login(flow, &CallbackParams::parse(&query).unwrap()).await
    }

    /// A whole login whose ID token has these claims changed.
    pub(super) async fn login_with(&self, change: impl FnOnce(&mut Value)) -> Result<Login, LoginError> {
        let flow = self.begin().await;
        let token = self.key.sign(&self.claims(&flow, change));
        self.finish(flow, &token).await
    }
}

/// A token response in good order with `more` laid over it; null removes.
#[allow(clippy::needless_pass_by_value)] // reads better with json!
pub(super) fn tokens(more: Value) -> Value {
    let mut all = json!({ "access_token": "at-1", "token_type": "Bearer", "expires_in": 300, "refresh_token": "rt-1" });
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

fn entry(base: &str) -> IdpConfig {
    IdpConfig {
        name: "main".into(),
        provider: "corp".into(),
        issuer: base.into(),
        audience: None,
        trusted_audiences: Vec::new(),
        client_id: "client".into(),
        client_secret: Some(Secret::new("s3cret")),
        token_auth_method: ClientAuthMethod::ClientSecretBasic,
        key_id: None,
        assertion_audience: AssertionAudience::Issuer,
        scopes: None,
        endpoints: IdpEndpoints::default(),
        algorithms: vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA],
        audience_parameter: AudienceParameter::Resource,
        claims_mapping: std::collections::BTreeMap::new(),
        authorization_params: std::collections::BTreeMap::new(),
    }
}

async fn serve(listener: TcpListener, script: Arc<Mutex<Script>>) {
    while let Ok((stream, _peer)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&script)));
    }
}

async fn converse(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    let Some(request) = receive(&mut stream).await else { return };
    let canned = {
        let mut script = script.lock().unwrap();
        let canned = script.answers.get(&request.path).cloned().unwrap_or(Canned::Html(404, "not here"));
        script.requests.push(request);
        canned
    };
    let (status, extra, body) = match canned {
        Canned::Json(status, value) => (status, "content-type: application/json\r\n".into(), value.to_string()),
        Canned::Html(status, body) => (status, "content-type: text/html\r\n".into(), body.into()),
        Canned::Redirect(to) => (307, format!("location: {to}\r\n"), String::new()),
        Canned::Huge(size) => (200, String::new(), "x".repeat(size)),
        Canned::Reset => return,
        Canned::Hang => return std::future::pending().await,
    };
    let mut answer = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{extra}");
    if body.len() < 1 << 20 {
        write!(answer, "content-length: {}\r\n", body.len()).unwrap();
    }
    let _ = stream.write_all(format!("{answer}\r\n{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn receive(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.parse().unwrap());
        if body.len() < length {
            continue;
        }
        let path = head.split(' ').nth(1)?.split('?').next()?.to_owned();
        let form = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        return Some(Request { path, head: head.to_owned(), form });
    }
}
