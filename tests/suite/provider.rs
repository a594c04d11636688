//! The harness itself, without the program: the provider is as strict as the suite takes it to be,
//! the form driver gets through, and the echo service records the bytes it was sent.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use serde_json::{Value, json};

use crate::harness::{AUDIENCES, Behaviour, Browser, Provider, RawClient, Upstream, claims, has_audience, raw};

const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0123456789";
const SECRET: &str = "another secret, long enough for basic";

fn challenge() -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, VERIFIER.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

fn authorization_url(issuer: &str, client_id: &str, with_pkce: bool) -> Url {
    let mut url = Url::parse(&format!("{issuer}/auth")).unwrap();
    url.query_pairs_mut()
        .append_pair("client_id", client_id)
        .append_pair("redirect_uri", "http://localhost:1/auth/callback")
        .append_pair("response_type", "code")
        .append_pair("scope", "openid profile email offline_access application.all")
        .append_pair("prompt", "consent")
        .append_pair("state", "a-state")
        .append_pair("resource", AUDIENCES[0])
        .append_pair("resource", AUDIENCES[1]);
    if with_pkce {
        let mut query = url.query_pairs_mut();
        query.append_pair("code_challenge", &challenge()).append_pair("code_challenge_method", "S256");
    }
    url
}

async fn token(provider: &Provider, client_id: &str, form: &[(&str, &str)]) -> Value {
    let request = crate::harness::http_client().post(format!("{}/token", provider.issuer)).form(form);
    let answer = request.basic_auth(client_id, Some(SECRET.replace(' ', "%20").replace(',', "%2C"))).send().await;
    answer.unwrap().json().await.unwrap()
}

async fn refresh(provider: &Provider, client_id: &str, refresh_token: &Value, audience: &str) -> Value {
    let refresh_token = refresh_token.as_str().expect("a refresh token");
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token), ("resource", audience)];
    token(provider, client_id, &form).await
}

#[tokio::test]
async fn the_provider_mints_one_audience_at_a_time_and_rotates() {
    let (provider, client_id) = (Provider::shared(), "driver-rotation");
    provider.register(client_id, "http://localhost:1", &json!({"client_secret": SECRET})).await;
    let start = authorization_url(&provider.issuer, client_id, true);
    let callback = Browser::new().walk(start, "ada", "http://localhost:1/auth/callback").await;
    let callback = Url::parse(&callback).unwrap();
    let query: std::collections::HashMap<_, _> = callback.query_pairs().collect();
    assert_eq!((query["state"].as_ref(), query["iss"].as_ref()), ("a-state", provider.issuer.as_str()));

    let form = [
        ("grant_type", "authorization_code"),
        ("code", query["code"].as_ref()),
        ("redirect_uri", "http://localhost:1/auth/callback"),
        ("code_verifier", VERIFIER),
        ("resource", AUDIENCES[0]),
    ];
    let first = token(provider, client_id, &form).await;
    assert!(has_audience(&claims(first["access_token"].as_str().unwrap()), AUDIENCES[0]), "{first}");
    let id_token = claims(first["id_token"].as_str().unwrap());
    assert_eq!((&id_token["sub"], &id_token["email"]), (&json!("ada"), &json!("ada@example.test")));

    let second = refresh(provider, client_id, &first["refresh_token"], AUDIENCES[1]).await;
    assert!(has_audience(&claims(second["access_token"].as_str().unwrap()), AUDIENCES[1]), "{second}");
    assert_eq!(provider.live_refresh_tokens(client_id).await, 1);
    let reused = refresh(provider, client_id, &first["refresh_token"], AUDIENCES[1]).await;
    assert_eq!(reused["error"], "invalid_grant");
    assert_eq!(provider.live_refresh_tokens(client_id).await, 0, "reuse revokes the grant");
    let counted = (provider.count(client_id, "refresh_token").await, provider.count(client_id, "refused").await);
    assert_eq!(counted, (1, 1));
}

#[tokio::test]
async fn the_provider_refuses_a_login_without_pkce() {
    let (provider, client_id) = (Provider::shared(), "driver-pkce");
    provider.register(client_id, "http://localhost:1", &json!({"client_secret": SECRET})).await;
    let start = authorization_url(&provider.issuer, client_id, false);
    let callback = Browser::new().walk(start, "ada", "http://localhost:1/auth/callback").await;
    assert!(callback.contains("error=invalid_request"), "{callback}");
}

#[tokio::test]
async fn the_token_endpoint_misbehaves_for_one_client_only() {
    let provider = Provider::shared();
    for client_id in ["driver-sane", "driver-broken"] {
        provider.register(client_id, "http://localhost:1", &json!({"client_secret": SECRET})).await;
    }
    provider.set_mode("driver-broken", "500").await;
    let form = [("grant_type", "client_credentials"), ("resource", AUDIENCES[2]), ("scope", "read")];
    let sane = token(provider, "driver-sane", &form).await;
    assert!(has_audience(&claims(sane["access_token"].as_str().unwrap()), AUDIENCES[2]), "{sane}");
    let url = format!("{}/token", provider.issuer);
    let request = crate::harness::http_client().post(url).form(&form).basic_auth("driver-broken", Some("x"));
    assert_eq!(request.send().await.unwrap().status(), 500);
    assert_eq!(provider.count("driver-broken", "faulted").await, 1);
}

#[tokio::test]
async fn the_echo_service_records_the_bytes_it_was_sent() {
    let upstream = Upstream::start().await;
    let request = b"POST /a%2Fb?q=1 HTTP/1.1\r\nHOST: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let (head, body) = raw(upstream.address, request).await;
    assert_eq!(head.status(), 200);
    let echo: Value = serde_json::from_slice(&body.start).unwrap();
    assert_eq!((&echo["target"], &echo["body_length"]), (&json!("/a%2Fb?q=1"), &json!(3)));
    let received = upstream.last();
    assert_eq!((received.target().as_str(), received.body.start.as_slice()), ("/a%2Fb?q=1", &b"abc"[..]));
    assert_eq!(received.head.headers()[0], ("HOST".to_owned(), b"x".to_vec()));
}

#[tokio::test]
async fn the_echo_service_sends_events_one_at_a_time() {
    let upstream = Upstream::start().await;
    upstream.behave(Behaviour::Events { count: 2, every: Duration::from_millis(30) });
    let mut client = RawClient::connect(upstream.address).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.head().await.one("content-type").as_deref(), Some("text/event-stream"));
    let first = client.reader.chunk().await.unwrap();
    assert!(first.starts_with(b"data: "));
    assert!(upstream.epoch.elapsed() < Duration::from_secs(5));
    client.reader.chunk().await.unwrap();
    assert!(client.reader.chunk().await.unwrap().is_empty());
}
