//! What people see when the provider lies or breaks at a login: a page that says so with a way on, no
//! session, no loop. (`oidc/tests` holds every single check; this is the view from the browser.)

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Browser, Edge, Setup, Upstream, location};

/// Status, content type and body.
type Canned = (u16, &'static str, String);

/// A provider that answers what it is told to, and counts what it was asked.
struct Liar {
    base: String,
    key: rcgen::KeyPair,
    answers: Arc<Mutex<HashMap<String, Canned>>>,
    codes: Arc<Mutex<usize>>,
}

impl Liar {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (answers, codes) = (Arc::<Mutex<HashMap<String, Canned>>>::default(), Arc::<Mutex<usize>>::default());
        tokio::spawn(serve(listener, Arc::clone(&answers), Arc::clone(&codes)));
        let liar = Self { base, key: rcgen::KeyPair::generate().unwrap(), answers, codes };
        let at = |path: &str| format!("{}{path}", liar.base);
        liar.answer_json(
            "/.well-known/openid-configuration",
            &json!({
                "issuer": liar.base, "authorization_endpoint": at("/auth"), "token_endpoint": at("/token"),
                "jwks_uri": at("/jwks"), "authorization_response_iss_parameter_supported": true,
            }),
        );
        let point = liar.key.public_key_raw();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        liar.answer_json("/jwks", &json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k1", "x": x, "y": y }] }));
        liar
    }

    fn answer(&self, path: &str, canned: Canned) {
        self.answers.lock().unwrap().insert(path.to_owned(), canned);
    }

    fn answer_json(&self, path: &str, body: &Value) {
        self.answer(path, (200, "application/json", body.to_string()));
    }

    /// What was sent to the token endpoint so far.
    fn codes(&self) -> usize {
        *self.codes.lock().unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        let message = format!("{}.{}", part(&json!({ "alg": "ES256", "kid": "k1" })), part(claims));
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).unwrap();
        format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::ES256).unwrap())
    }

    /// The token endpoint answers well from now on, with this ID token.
    fn hand_out(&self, id_token: &Value) {
        let tokens = json!({ "access_token": "at", "token_type": "Bearer", "expires_in": 300, "id_token": id_token });
        self.answer_json("/token", &tokens);
    }
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

async fn serve(listener: TcpListener, answers: Arc<Mutex<HashMap<String, Canned>>>, codes: Arc<Mutex<usize>>) {
    while let Ok((stream, _peer)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&answers), Arc::clone(&codes)));
    }
}

async fn converse(mut stream: TcpStream, answers: Arc<Mutex<HashMap<String, Canned>>>, codes: Arc<Mutex<usize>>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    // One small request a connection; a form comes with its head or right after it.
    let (path, post) = loop {
        let count = stream.read(&mut chunk).await.unwrap_or(0);
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let post = text.starts_with("POST");
        let whole = text.split_once("\r\n\r\n").is_some_and(|(_, body)| !post || body.contains("grant_type"));
        if count == 0 || whole {
            let target = text.split(' ').nth(1).unwrap_or_default();
            break (target.split('?').next().unwrap_or_default().to_owned(), post);
        }
    };
    *codes.lock().unwrap() += usize::from(post);
    let (status, kind, body) = answers.lock().unwrap().get(&path).cloned().unwrap_or((404, "text/html", String::new()));
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}");
    let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A login under way.
struct Begun {
    browser: Browser,
    state: String,
    /// Claims in good order.
    claims: Value,
}

async fn begin(edge: &Edge, liar: &Liar) -> Begun {
    let browser = Browser::new();
    let started = browser.get(edge.url("/auth/login?return_to=/here")).await;
    let url = Url::parse(&location(&started).expect("a redirect to the provider")).unwrap();
    let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": liar.base, "aud": edge.client_id, "sub": "ada", "iat": now, "exp": now + 300, "nonce": query["nonce"],
    });
    Begun { browser, state: query["state"].clone(), claims }
}

impl Begun {
    /// Where the provider sends the browser.
    fn back(&self, edge: &Edge, iss: &str, more: &str) -> String {
        edge.url(&format!("/auth/callback?state={}&iss={iss}&{more}", self.state))
    }

    fn claims(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims.clone();
        claims[name] = value;
        claims
    }

    /// A page of this status, once and again; no session, and nothing the browser would follow in circles.
    async fn assert_page(&self, edge: &Edge, callback: &str, status: u16, what: &str) -> String {
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

async fn edge_at(liar: &Liar) -> Edge {
    let upstream = Upstream::start().await;
    Setup::new().service("echo", &upstream.url(), None).provider_at(&liar.base).start().await
}

/// What it is, and the ID token that is handed out.
type Lie<'a> = (&'a str, Box<dyn Fn(&Begun) -> Value + 'a>);

#[tokio::test]
async fn an_id_token_that_lies_ends_in_a_page_and_no_session() {
    let liar = Liar::start().await;
    let edge = edge_at(&liar).await;
    let hs256 = |claims: &Value| {
        let message = format!("{}.{}", part(&json!({ "alg": "HS256", "kid": "k1" })), part(claims));
        let key = EncodingKey::from_secret(b"a-secret:with %+& in it, long enough");
        format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap())
    };
    let liar = &liar;
    let lies: Vec<Lie<'_>> = vec![
        ("another nonce", Box::new(|begun| json!(liar.sign(&begun.claims("nonce", json!("other")))))),
        ("another issuer", Box::new(|begun| json!(liar.sign(&begun.claims("iss", json!("https://evil.example")))))),
        ("another audience", Box::new(|begun| json!(liar.sign(&begun.claims("aud", json!("somebody-else")))))),
        ("expired", Box::new(|begun| json!(liar.sign(&begun.claims("exp", json!(1_700_000_000)))))),
        ("no sub", Box::new(|begun| json!(liar.sign(&begun.claims("sub", Value::Null))))),
        ("no id_token", Box::new(|_begun| Value::Null)),
        ("alg none", Box::new(|begun| json!(format!("{}.{}.", part(&json!({ "alg": "none" })), part(&begun.claims))))),
        ("HS256 with the client secret", Box::new(|begun| json!(hs256(&begun.claims)))),
        (
            "another signature",
            Box::new(|begun| {
                let (real, other) = (liar.sign(&begun.claims), liar.sign(&begun.claims("sub", json!("eve"))));
                let (message, signature) = (other.rsplit_once('.').unwrap().0, real.rsplit_once('.').unwrap().1);
                json!(format!("{message}.{signature}"))
            }),
        ),
    ];
    for (what, lie) in &lies {
        let begun = begin(&edge, liar).await;
        liar.hand_out(&lie(&begun));
        begun.assert_page(&edge, &begun.back(&edge, &liar.base, "code=c"), 400, what).await;
    }
    assert_eq!(liar.codes(), lies.len(), "each code was sent once");
    assert_eq!(edge.metric("bff_sessions_created_total").await, 0);

    // The same provider, honest again; odd, but allowed.
    let begun = begin(&edge, liar).await;
    liar.hand_out(&json!(liar.sign(&begun.claims("aud", json!([edge.client_id])))));
    let answer = begun.browser.get(begun.back(&edge, &liar.base, "code=c")).await;
    assert_eq!(location(&answer).as_deref(), Some("/here"));
    assert_eq!(begun.browser.get(edge.url("/auth/session")).await.status(), 200);
}

#[tokio::test]
async fn a_token_endpoint_out_of_order_ends_in_a_page_and_no_session() {
    let liar = Liar::start().await;
    let edge = edge_at(&liar).await;
    let mac = json!({ "access_token": "at", "token_type": "mac", "id_token": "x" }).to_string();
    for (what, canned) in [
        ("500", (500, "application/json", r#"{"error":"invalid_grant"}"#.to_owned())),
        ("503", (503, "text/html", "down".to_owned())),
        ("HTML", (200, "text/html", "<h1>Maintenance</h1>".to_owned())),
        ("nothing", (200, "application/json", String::new())),
        ("token_type mac", (200, "application/json", mac)),
    ] {
        let begun = begin(&edge, &liar).await;
        liar.answer("/token", canned);
        let page = begun.assert_page(&edge, &begun.back(&edge, &liar.base, "code=c"), 502, what).await;
        assert!(!page.contains("Maintenance"), "{page}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_the_providers_sends_no_code_anywhere() {
    let liar = Liar::start().await;
    let edge = edge_at(&liar).await;
    for (what, iss, more, status) in [
        ("another iss", "https://evil.example", "code=c", 400),
        ("no code", liar.base.as_str(), "", 400),
        (
            "an error",
            liar.base.as_str(),
            "error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E",
            403,
        ),
    ] {
        let begun = begin(&edge, &liar).await;
        let page = begun.assert_page(&edge, &begun.back(&edge, iss, more), status, what).await;
        assert!(!page.contains("<script>"), "{what}: escaped\n{page}");
    }
    let begun = begin(&edge, &liar).await;
    let twice = begun.back(&edge, &liar.base, "code=c&code=d");
    assert_eq!(begun.browser.get(twice).await.status(), 400, "a parameter twice");
    assert_eq!(liar.codes(), 0);
}
