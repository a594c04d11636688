//! A provider that answers whatever a test tells it to, remembers what it was asked, and signs whatever
//! it is given; and a browser that has begun a login there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Browser, Edge, location};

/// What one path answers.
#[derive(Debug, Clone)]
pub(crate) enum Canned {
    /// Status, content type and body.
    Whole(u16, &'static str, String),
    /// 307 to there.
    Redirect(String),
    /// The same once so many wait for it at a time, and not before.
    RedirectTogether(usize, String),
    /// This many bytes, after a head that does not say how many.
    Huge(usize),
    /// The connection ends without an answer.
    Reset,
    /// No answer, ever.
    Hang,
}

impl Canned {
    /// 200 and this JSON.
    pub(crate) fn json(body: &Value) -> Self {
        Self::Whole(200, "application/json", body.to_string())
    }
}

#[derive(Debug, Default)]
struct Script {
    answers: HashMap<String, Canned>,
    /// Path and body of every request.
    asked: Vec<(String, String)>,
    /// For `RedirectTogether`.
    waiting: usize,
}

/// The provider.
pub(crate) struct Liar {
    /// Its issuer, without a slash at the end.
    pub(crate) base: String,
    key: rcgen::KeyPair,
    script: Arc<Mutex<Script>>,
}

impl Liar {
    /// In good order but for a token endpoint that has no answer yet.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::<Mutex<Script>>::default();
        tokio::spawn(serve(listener, Arc::clone(&script)));
        let liar = Self { base, key: rcgen::KeyPair::generate().unwrap(), script };
        liar.answer("/.well-known/openid-configuration", Canned::json(&liar.document()));
        liar.publish(&[]);
        liar
    }

    /// The discovery document in good order.
    pub(crate) fn document(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.base);
        json!({
            "issuer": self.base, "authorization_endpoint": at("/auth"), "token_endpoint": at("/token"),
            "jwks_uri": at("/jwks"), "userinfo_endpoint": at("/userinfo"),
            "authorization_response_iss_parameter_supported": true,
        })
    }

    /// The key that it signs with, as published.
    pub(crate) fn jwk(&self) -> Value {
        jwk(&self.key, "k1")
    }

    /// The key set: its own key, and before it these.
    pub(crate) fn publish(&self, others: &[Value]) {
        let keys: Vec<Value> = others.iter().cloned().chain([self.jwk()]).collect();
        self.answer("/jwks", Canned::json(&json!({ "keys": keys })));
    }

    /// What a path answers from now on; `/token refresh_token`: what it answers to that grant.
    pub(crate) fn answer(&self, path: &str, canned: Canned) {
        self.script.lock().unwrap().answers.insert(path.to_owned(), canned);
    }

    /// The bodies of all requests to a path so far.
    pub(crate) fn asked(&self, path: &str) -> Vec<String> {
        let script = self.script.lock().unwrap();
        script.asked.iter().filter(|(asked, _)| asked == path).map(|(_, body)| body.clone()).collect()
    }

    /// A JWT of these claims, signed with its key.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({ "alg": "ES256", "kid": "k1" }), claims)
    }

    /// The same with whatever header.
    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        sign(&self.key, header, claims)
    }

    /// The token endpoint answers well from now on, with this ID token.
    pub(crate) fn hand_out(&self, id_token: &Value) {
        self.answer("/token", Canned::json(&tokens(&json!({ "id_token": id_token }))));
    }
}

/// A token response in good order with `more` laid over it.
pub(crate) fn tokens(more: &Value) -> Value {
    let mut all = json!({ "access_token": "at", "token_type": "Bearer", "expires_in": 300 });
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

/// A P-256 key as in a JWK set.
pub(crate) fn jwk(key: &rcgen::KeyPair, kid: &str) -> Value {
    let point = key.public_key_raw();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
    json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y })
}

/// A JWT with whatever header, signed with ES256.
pub(crate) fn sign(key: &rcgen::KeyPair, header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::ES256).unwrap())
}

/// A JWT with whatever header, and an HMAC of this secret.
pub(crate) fn hmac(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret);
    format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap())
}

/// JSON in base64url.
pub(crate) fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

async fn serve(listener: TcpListener, script: Arc<Mutex<Script>>) {
    while let Ok((stream, _peer)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&script)));
    }
}

async fn converse(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    let Some((path, body)) = receive(&mut stream).await else { return };
    let canned = {
        let mut script = script.lock().unwrap();
        let grant = body.split('&').find_map(|pair| pair.strip_prefix("grant_type="));
        let of_grant = grant.and_then(|grant| script.answers.get(&format!("{path} {grant}")));
        let canned = of_grant.or_else(|| script.answers.get(&path)).cloned();
        script.asked.push((path, body));
        canned.unwrap_or(Canned::Whole(404, "text/html", String::new()))
    };
    let close = "HTTP/1.1 {status} X\r\nconnection: close\r\n";
    let head = |status: u16, more: &str| close.replace("{status}", &status.to_string()) + more + "\r\n";
    let redirect = |to: &str| head(307, &format!("location: {to}\r\ncontent-length: 0\r\n"));
    let answer = match canned {
        Canned::Whole(status, kind, body) => {
            head(status, &format!("content-type: {kind}\r\ncontent-length: {}\r\n", body.len())) + &body
        }
        Canned::Redirect(to) => redirect(&to),
        Canned::RedirectTogether(most, to) if together(&mut stream, &script, most).await => redirect(&to),
        Canned::Huge(size) => head(200, "content-type: application/json\r\n") + &"x".repeat(size),
        Canned::RedirectTogether(..) | Canned::Reset => return,
        Canned::Hang => return std::future::pending().await,
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// `false`: whoever asked has left before so many waited.
async fn together(stream: &mut TcpStream, script: &Mutex<Script>, most: usize) -> bool {
    script.lock().unwrap().waiting += 1;
    while script.lock().unwrap().waiting < most {
        let left = tokio::time::timeout(std::time::Duration::from_millis(10), stream.read(&mut [0])).await;
        if left.is_ok() {
            script.lock().unwrap().waiting -= 1;
            return false;
        }
    }
    true
}

/// Path and body of the one request of a connection.
async fn receive(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if body.len() >= length.map_or(0, |(_, value)| value.parse().unwrap()) {
            let path = head.split(' ').nth(1)?.split('?').next()?;
            return Some((path.to_owned(), body.to_owned()));
        }
    }
}

/// A login under way: the browser has been sent to the provider and has not come back.
pub(crate) struct Begun {
    /// Whose login it is.
    pub(crate) browser: Browser,
    state: String,
    /// An ID token in good order.
    pub(crate) claims: Value,
}

/// Sends a new browser to the provider; it will want to come back to `/here`.
pub(crate) async fn begin(edge: &Edge, liar: &Liar) -> Begun {
    let browser = Browser::new();
    let started = browser.get(edge.url("/auth/login?return_to=/here")).await;
    let url = Url::parse(&location(&started).expect("the way to the provider")).unwrap();
    let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
    let now = now();
    let claims = json!({
        "iss": liar.base, "aud": edge.client_id, "sub": "ada", "iat": now, "exp": now + 300, "nonce": query["nonce"],
    });
    Begun { browser, state: query["state"].clone(), claims }
}

/// A browser that has logged in there; `more` is laid over the token response.
pub(crate) async fn logged_in(edge: &Edge, liar: &Liar, more: &Value) -> Browser {
    let begun = begin(edge, liar).await;
    let mut more = more.clone();
    more["id_token"] = json!(liar.sign(&begun.claims("sid", json!("s1"))));
    liar.answer("/token", Canned::json(&tokens(&more)));
    let answer = begun.browser.get(begun.back(edge, &liar.base, "code=c")).await;
    assert_eq!(location(&answer).as_deref(), Some("/here"), "{}", answer.status());
    begun.browser
}

impl Begun {
    /// Where the provider sends the browser.
    pub(crate) fn back(&self, edge: &Edge, iss: &str, more: &str) -> String {
        edge.url(&format!("/auth/callback?state={}&iss={iss}&{more}", self.state))
    }

    /// The claims with one of them changed; null takes it out.
    pub(crate) fn claims(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims.clone();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        claims
    }

    /// A page of this status, once and again; no session, and nothing the browser would follow in circles.
    pub(crate) async fn assert_page(&self, edge: &Edge, callback: &str, status: u16, what: &str) -> String {
        let answer = self.browser.get(callback).await;
        assert_eq!(answer.status().as_u16(), status, "{what}");
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8", "{what}");
        assert_eq!(answer.headers()["cache-control"], "no-store", "{what}");
        let page = answer.text().await.unwrap();
        assert!(page.contains("/auth/login?return_to=%2Fhere"), "{what}: a way on\n{page}");
        assert_eq!(self.browser.cookie(&edge.origin, "bff_session"), None, "{what}");
        assert_eq!(self.browser.get(edge.url("/auth/session")).await.status(), 401, "{what}");
        // Reloading starts the login again once, then says that this one is over.
        let reloaded = self.browser.get(callback).await;
        assert_eq!(location(&reloaded).as_deref(), Some("/auth/login"), "{what}");
        assert_eq!(self.browser.get(callback).await.status(), 400, "{what}: no loop");
        page
    }
}
