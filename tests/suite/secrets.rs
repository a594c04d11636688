//! Everything that the program writes during a whole life of a session, at the most talkative log level of
//! its own and of every library, searched for every secret that occurred.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use reqwest::Url;
use serde_json::json;

use crate::harness::liar::{Canned, Liar, now, tokens};
use crate::harness::{
    AUDIENCES, Behaviour, Browser, Edge, RawClient, SECRET, SESSION_SECRET, Setup, Upstream, claims, free_port,
    http_client, location,
};

const API: &str = "https://api.example.test";

/// Secrets by what they are, and whatever else the program showed to a client.
#[derive(Default)]
struct Haul {
    secrets: Vec<(String, String)>,
    shown: Vec<String>,
}

impl Haul {
    fn note(&mut self, what: &str, secret: impl Into<String>) {
        let secret = secret.into();
        assert!(secret.len() >= 8, "{what} is too short to be searched for");
        self.secrets.push((what.to_owned(), secret));
    }

    /// A JWT is a secret by its parts, too: a log that cuts it in the middle still shows it.
    fn note_jwt(&mut self, what: &str, token: &str) {
        let mut parts = token.split('.').skip(1);
        self.note(&format!("payload of {what}"), parts.next().unwrap());
        self.note(&format!("signature of {what}"), parts.next().unwrap());
    }

    async fn show(&mut self, answer: reqwest::Response) {
        assert!(!answer.status().is_success(), "only what we say ourselves: {}", answer.url());
        self.shown.push(format!("{:?}", answer.headers()));
        self.shown.push(answer.text().await.unwrap());
    }
}

/// How a secret may be spelled: raw, percent-encoded, base64 at each of the three alignments, hex.
pub(crate) fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let mut all = vec![secret.as_bytes().to_vec()];
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    all.push(form.clone().into_bytes());
    all.push(form.replace('+', "%20").into_bytes());
    all.push(secret.bytes().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect());
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for shift in 0..3 {
            let text = engine.encode([vec![0; shift], secret.as_bytes().to_vec()].concat());
            // The first and the last characters mix with the neighbours.
            all.push(text.as_bytes()[[0, 2, 3][shift]..text.len() - 2].to_vec());
        }
    }
    // What a secret in base64 stands for.
    for engine in [&STANDARD, &URL_SAFE_NO_PAD] {
        all.extend(engine.decode(secret).ok().filter(|bytes| bytes.len() >= 16));
    }
    all
}

pub(crate) fn contains(text: &[u8], wanted: &[u8]) -> bool {
    // Quick for long logs: the first byte decides mostly.
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == wanted[0]) {
        rest = &rest[at..];
        if rest.starts_with(wanted) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Pages for operators, files before and after the end, and last the log, whatever the program says as it ends.
pub(crate) async fn everything_written(edge: &mut Edge) -> Vec<(String, Vec<u8>)> {
    let mut written = Vec::new();
    for path in ["/metrics", "/status", "/health"] {
        let page = http_client().get(edge.admin_url(path)).send().await.unwrap().text().await.unwrap();
        written.push((path.to_owned(), page.into_bytes()));
    }
    files(edge.folder(), &mut written);
    edge.sigterm();
    assert!(edge.exit_status(std::time::Duration::from_secs(20)).await.is_some());
    files(edge.folder(), &mut written);
    written.push(("the log".to_owned(), edge.log.text().into_bytes()));
    written
}

/// Every file below the folder but the configuration, which holds secrets by its nature.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().and_then(|name| name.to_str()) {
            Some("conf" | "routes") => {}
            _ if path.is_dir() => files(&path, found),
            _ => found.push((path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
}

/// An edge at a provider of ours, that says as much as `level` asks for and waits `timeout` seconds for a service.
pub(crate) async fn edge(liar: &Liar, upstream: &Upstream, level: &str, timeout: u8) -> Edge {
    let pass = |id: &str, service: &str, more: &str| {
        format!("{{ id: {id}, path: \"/{id}/*\", target_service: {service}, preserve_path: true, {more} }}")
    };
    let own = "auth: session, token_policy: { mode: session_passthrough }";
    let setup = Setup::new()
        .service_alone("any", &upstream.url(), None, &format!("timeout: {timeout}"))
        .service_alone("dead", &format!("http://127.0.0.1:{}", free_port()), None, "timeout: 2")
        .route(&pass("pass", "any_service", own))
        .route(&pass("dead", "dead_service", own))
        .route(&pass("robots", "any_service", "auth: bearer"))
        .legacy(&format!("legacy_services: {{ svc: \"{}\" }}\n", upstream.url()))
        .env("RUST_LOG", level);
    setup.provider_at(&liar.base).own_audience(API).start().await
}

/// A login with tokens nobody has seen, all of them noted.
async fn login(haul: &mut Haul, edge: &Edge, liar: &Liar, number: usize) -> Browser {
    let browser = Browser::new();
    let started = browser.get(edge.url("/auth/login?return_to=/pass/x")).await;
    let url = Url::parse(&location(&started).unwrap()).unwrap();
    let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    let flow = browser.cookie_header(&edge.origin);
    haul.note("flow cookie", flow.split_once('=').unwrap().1);
    haul.note("state", &query["state"]);
    haul.note("nonce", &query["nonce"]);
    let id_token = liar.sign(&json!({
        "iss": liar.base, "aud": edge.client_id, "sub": "ada", "sid": "s1", "iat": now(), "exp": now() + 300,
        "nonce": query["nonce"],
    }));
    haul.note_jwt("id_token", &id_token);
    let (code, access, refresh) =
        (format!("code-{number}-K3jx9"), format!("access-{number}-Qm4tz"), format!("refresh-{number}-Vb7pw"));
    let answer = tokens(&json!({
        "id_token": id_token, "access_token": access, "refresh_token": refresh, "expires_in": 0,
    }));
    liar.answer("/token", Canned::json(&answer));
    let back = edge.url(&format!("/auth/callback?state={}&iss={}&code={code}", query["state"], liar.base));
    assert_eq!(location(&browser.get(&back).await).as_deref(), Some("/pass/x"));
    let form = liar.asked("/token").pop().unwrap();
    let verifier = url::form_urlencoded::parse(form.as_bytes()).find(|(name, _)| name == "code_verifier").unwrap().1;
    haul.note("verifier", verifier);
    for (what, secret) in [("code", code), ("access token", access), ("refresh token", refresh)] {
        haul.note(what, secret);
    }
    let cookie = browser.cookie(&edge.origin, "bff_session").unwrap();
    // The id and the key apart, so that half of it is found, too.
    haul.note("first half of the cookie", &cookie[..20]);
    haul.note("second half of the cookie", &cookie[24..]);
    haul.note("session cookie", cookie);
    // A callback that comes again, and one that never was.
    browser.get(&back).await;
    haul.show(
        http_client().get(edge.url("/auth/callback?code=stolen-code-1&code=stolen-code-2")).send().await.unwrap(),
    )
    .await;
    haul.note("code of a refused callback", "stolen-code-1");
    browser
}

async fn live(haul: &mut Haul, edge: &Edge, liar: &Liar, upstream: &Upstream, browser: &Browser, number: usize) {
    let (access, refresh) = (format!("access-{number}-renewed-Hd2"), format!("refresh-{number}-rotated-Xn8"));
    let renewed = json!({ "access_token": access, "refresh_token": refresh, "expires_in": 300 });
    // First an answer of no use, which is logged.
    liar.answer(
        "/token",
        Canned::json(&tokens(&json!({ "token_type": "mac", "refresh_token": "refresh-salvaged-Yq5" }))),
    );
    if number == 1 {
        haul.show(browser.get(edge.url("/pass/x")).await).await;
        haul.note("salvaged refresh token", "refresh-salvaged-Yq5");
    }
    liar.answer("/token", Canned::json(&tokens(&renewed)));
    eventually!("the token is renewed", browser.get(edge.url("/pass/x")).await.status() == 200);
    assert_eq!(upstream.last().bearer(), access);
    haul.note("renewed access token", access);
    haul.note("rotated refresh token", refresh);
    haul.show(browser.get(edge.url("/dead/x?token=query-secret-Zk1")).await).await;
    haul.note("query", "query-secret-Zk1");
    haul.show(browser.get(edge.url("/nowhere?token=query-secret-Zk1")).await).await;
    for _ in 0..2 {
        assert_eq!(browser.get(edge.url("/api/v1/proxy/svc/x?token=query-secret-Zk1")).await.status(), 200);
    }
    upstream.behave(Behaviour::Close);
    haul.show(browser.get(edge.url("/api/v1/proxy/svc/y")).await).await;
    upstream.behave(Behaviour::Echo);
    let cookie = browser.cookie_header(&edge.origin);
    let twice = http_client().get(edge.url("/pass/x")).header("cookie", format!("{cookie}; {cookie}"));
    haul.show(twice.send().await.unwrap()).await;
}

async fn call(haul: &mut Haul, edge: &Edge, liar: &Liar) {
    let good = json!({ "iss": liar.base, "aud": API, "sub": "robot", "iat": now(), "exp": now() + 300 });
    for (what, name, value) in [("good", "x", json!(1)), ("foreign", "aud", json!("other")), ("stale", "exp", json!(1))]
    {
        let mut said = good.clone();
        said[name] = value;
        let token = liar.sign(&said);
        let answer = http_client().get(edge.url("/robots/x")).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status().is_success(), what == "good", "{what}: {}", claims(&token));
        if what != "good" {
            haul.show(answer).await;
        }
        haul.note_jwt(what, &token);
    }
    haul.show(http_client().get(edge.url("/robots/x")).bearer_auth("opaque-bearer-Jt6").send().await.unwrap()).await;
    haul.note("opaque bearer", "opaque-bearer-Jt6");
}

async fn leave(haul: &mut Haul, edge: &Edge, liar: &Liar, browser: &Browser) {
    let claims = json!({
        "iss": liar.base, "aud": edge.client_id, "sid": "elsewhere", "iat": now(), "exp": now() + 120, "jti": "j1",
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    });
    for (claims, status) in [(claims.clone(), 200), (claims, 400)] {
        let token = liar.sign(&claims);
        haul.note_jwt("logout token", &token);
        let form = [("logout_token", token)];
        let answer = http_client().post(edge.url("/auth/backchannel-logout")).form(&form).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
    }
    assert_eq!(browser.post(edge.url("/auth/logout")).await.status(), 302);
    haul.show(browser.get(edge.url("/pass/x")).await).await;
}

#[tokio::test]
async fn no_secret_is_written_anywhere() {
    let (liar, upstream) = (Liar::start().await, Upstream::start().await);
    // Something to be talkative about.
    liar.publish(&[json!("no key")]);
    let mut document = liar.document();
    document["revocation_endpoint"] = json!(format!("{}/revoke", liar.base));
    liar.answer("/.well-known/openid-configuration", Canned::json(&document));
    liar.answer("/revoke", Canned::json(&json!({})));
    let mut edge = edge(&liar, &upstream, "trace", 2).await;
    let mut haul = Haul::default();
    haul.note("client secret", SECRET);
    haul.note("session secret", SESSION_SECRET);
    let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    haul.note("credentials", STANDARD.encode(format!("{}:{encoded}", edge.client_id)));
    for number in 0..2 {
        let browser = login(&mut haul, &edge, &liar, number).await;
        live(&mut haul, &edge, &liar, &upstream, &browser, number).await;
        if number == 0 {
            call(&mut haul, &edge, &liar).await;
            leave(&mut haul, &edge, &liar, &browser).await;
        }
    }
    // The second session is in the store.
    let mut written = everything_written(&mut edge).await;
    written.push(("answers".to_owned(), haul.shown.join("\n").into_bytes()));
    assert!(
        written.iter().any(|(name, bytes)| name.contains("sessions.db") && bytes.len() > 1000),
        "the store is looked at"
    );
    assert!(edge.log.has(&["DEBUG", "keys of the provider skipped"]), "the log is as talkative as can be");

    let mut marks = Vec::new();
    for (what, secret) in &haul.secrets {
        for spelling in spellings(secret) {
            let places = written.iter().filter(|(_, bytes)| contains(bytes, &spelling));
            marks.extend(places.map(|(place, _)| format!("{what} in {place}: {}", String::from_utf8_lossy(&spelling))));
        }
    }
    marks.dedup();
    assert!(haul.secrets.len() > 40, "{}", haul.secrets.len());
    assert!(marks.is_empty(), "{} marks:\n{}", marks.len(), marks.join("\n"));
}

/// Only the public listener has the door; the engine would write down the head that it cannot read.
#[tokio::test]
async fn the_log_has_nothing_of_a_head_that_the_admin_listener_cannot_read() {
    let upstream = Upstream::start().await;
    let mut edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).start().await;
    let admin = edge.admin_url("").trim_start_matches("http://").parse().unwrap();
    let mut client = RawClient::connect(admin).await;
    client
        .send("GET /metrics?token=QUERY-SECRET HTTP/1.1\r\nAuthorization: Bearer HEAD-SECRET\r\nBad Name: y\r\n\r\n")
        .await;
    let _ = client.reader.head().await;
    for (place, text) in everything_written(&mut edge).await {
        for secret in ["QUERY-SECRET", "HEAD-SECRET"] {
            assert!(!contains(&text, secret.as_bytes()), "{place} has {secret}");
        }
    }
}
