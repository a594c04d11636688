//! The provider keeps the protocol's promises: each refusal a client relies on is seen refusing.

use std::time::Duration;

use axum::body::to_bytes;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use super::*;
use crate::config::Secret;
use crate::crypto::hashed;
use crate::resilience::ManualClock;

const REDIRECT: &str = "http://localhost:8080/auth/callback";
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0";
const BFF: &str = "https://bff.example.com";
const CRUD: &str = "https://crud.example.com";

fn provider() -> (Provider, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_700_000_000));
    let client = Client {
        id: "demo".to_owned(),
        secret: Secret::new("s&cret="),
        redirect_uri: REDIRECT.to_owned(),
        audience: BFF.to_owned(),
    };
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let provider = Provider::new(
        "http://127.0.0.1:1".to_owned(),
        client,
        list(&[BFF, CRUD, "https://other.example.com"]),
        list(&["openid", "profile", "email", "offline_access", "records.read"]),
        Arc::new(Keys::generate().unwrap()),
        Arc::clone(&clock) as Arc<dyn Clock>,
    );
    (provider, clock)
}

fn form(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn request(changes: &[(&str, &str)]) -> String {
    let challenge = hashed(VERIFIER);
    let mut pairs = vec![
        ("client_id", "demo"),
        ("redirect_uri", REDIRECT),
        ("response_type", "code"),
        ("scope", "openid profile offline_access records.read"),
        ("state", "the state"),
        ("nonce", "the nonce"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    pairs.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    pairs.extend_from_slice(&[("resource", BFF), ("resource", CRUD)]);
    pairs.extend_from_slice(changes);
    form(&pairs)
}

fn location(response: &Response) -> Url {
    Url::parse(response.headers()[header::LOCATION].to_str().unwrap()).unwrap()
}

fn param(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn log_in(provider: &Provider) -> String {
    let answer = location(&authorize::submit(provider, &request(&[]), "login=Ada&password="));
    assert_eq!(param(&answer, "state").as_deref(), Some("the state"));
    assert_eq!(param(&answer, "iss").as_deref(), Some("http://127.0.0.1:1"));
    param(&answer, "code").unwrap()
}

/// Asks `/token`, authenticated; the body, or the error word.
async fn ask(provider: &Provider, pairs: &[(&str, &str)]) -> Result<Value, String> {
    let mut headers = HeaderMap::new();
    let basic = format!("Basic {}", STANDARD.encode("demo:s%26cret%3D"));
    headers.insert(header::AUTHORIZATION, basic.parse().unwrap());
    let response = token::answer(provider, &headers, &form(pairs));
    let good = response.status().is_success();
    let body: Value = serde_json::from_slice(&to_bytes(response.into_body(), 65536).await.unwrap()).unwrap();
    if good { Ok(body) } else { Err(body["error"].as_str().unwrap().to_owned()) }
}

async fn redeem(provider: &Provider, code: &str, verifier: &str) -> Result<Value, String> {
    let pairs =
        [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", REDIRECT), ("code_verifier", verifier)];
    ask(provider, &pairs).await
}

async fn refresh(provider: &Provider, token: &Value, resource: &str) -> Result<Value, String> {
    let token = token["refresh_token"].as_str().unwrap();
    ask(provider, &[("grant_type", "refresh_token"), ("refresh_token", token), ("resource", resource)]).await
}

fn claims(provider: &Provider, token: &Value) -> serde_json::Map<String, Value> {
    provider.keys.open(token.as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_login_brings_tokens_that_verify_against_the_published_keys() {
    let (provider, _) = provider();
    let tokens = redeem(&provider, &log_in(&provider), VERIFIER).await.unwrap();
    let jwks = serde_json::to_value(provider.keys.jwks()).unwrap();
    let published = serde_json::from_value(jwks["keys"][0].clone()).unwrap();
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_audience(&["demo"]);
    rules.set_issuer(&["http://127.0.0.1:1"]);
    rules.validate_exp = false;
    let id_token = tokens["id_token"].as_str().unwrap();
    let opened = jsonwebtoken::decode::<Value>(id_token, &DecodingKey::from_jwk(&published).unwrap(), &rules).unwrap();
    assert_eq!(opened.header.kid.as_deref(), jwks["keys"][0]["kid"].as_str());
    assert_eq!(opened.claims["sub"], "ada");
    assert_eq!(opened.claims["nonce"], "the nonce");
    assert_eq!(opened.claims["auth_time"], 1_700_000_000);
    assert_eq!(opened.claims["name"], "Ada Lovelace");
    assert_eq!(opened.claims.get("email"), None, "the scope was not asked for");
    assert_eq!(opened.claims["at_hash"], keys::at_hash(tokens["access_token"].as_str().unwrap()));
    let access = claims(&provider, &tokens["access_token"]);
    assert_eq!(access["aud"], BFF);
    assert_eq!(access["exp"].as_i64().unwrap(), 1_700_000_000 + 300);
    let header = jsonwebtoken::decode_header(tokens["access_token"].as_str().unwrap()).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
}

#[test]
fn the_hash_of_an_access_token_is_its_left_half() {
    // SHA-256 of "abc" begins ba7816bf 8f01cfea 414140de 5dae2223 (FIPS 180-2, B.1).
    assert_eq!(keys::at_hash("abc"), "ungWv48Bz-pBQUDeXa4iIw");
}

#[tokio::test]
async fn a_wrong_verifier_is_refused_and_costs_the_code() {
    let (provider, _) = provider();
    let code = log_in(&provider);
    let wrong = VERIFIER.replace('a', "b");
    assert_eq!(redeem(&provider, &code, &wrong).await, Err("invalid_grant".to_owned()));
    assert_eq!(redeem(&provider, &code, VERIFIER).await, Err("invalid_grant".to_owned()));
}

#[tokio::test]
async fn a_code_used_twice_ends_what_it_started() {
    let (provider, _) = provider();
    let code = log_in(&provider);
    let tokens = redeem(&provider, &code, VERIFIER).await.unwrap();
    assert_eq!(redeem(&provider, &code, VERIFIER).await, Err("invalid_grant".to_owned()));
    assert_eq!(refresh(&provider, &tokens, CRUD).await, Err("invalid_grant".to_owned()));
}

#[tokio::test]
async fn a_code_lives_a_minute() {
    let (provider, clock) = provider();
    let code = log_in(&provider);
    clock.advance(Duration::from_secs(61));
    assert_eq!(redeem(&provider, &code, VERIFIER).await, Err("invalid_grant".to_owned()));
}

#[tokio::test]
async fn a_refresh_token_is_swapped_and_its_reuse_ends_the_grant() {
    let (provider, _) = provider();
    let first = redeem(&provider, &log_in(&provider), VERIFIER).await.unwrap();
    let second = refresh(&provider, &first, CRUD).await.unwrap();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(claims(&provider, &second["access_token"])["aud"], CRUD);
    assert_eq!(claims(&provider, &second["access_token"])["sub"], "ada");
    let third = refresh(&provider, &second, BFF).await.unwrap();
    assert_eq!(refresh(&provider, &first, CRUD).await, Err("invalid_grant".to_owned()));
    assert_eq!(refresh(&provider, &third, CRUD).await, Err("invalid_grant".to_owned()), "the successor went with it");
}

#[tokio::test]
async fn an_audience_nobody_agreed_to_is_refused_and_costs_nothing() {
    let (provider, _) = provider();
    let tokens = redeem(&provider, &log_in(&provider), VERIFIER).await.unwrap();
    for resource in ["https://nowhere.example.com", "https://other.example.com"] {
        assert_eq!(refresh(&provider, &tokens, resource).await, Err("invalid_target".to_owned()));
    }
    assert!(refresh(&provider, &tokens, CRUD).await.is_ok());
    let refused = authorize::show(&provider, &request(&[("resource", "https://nowhere.example.com")]));
    assert_eq!(param(&location(&refused), "error").as_deref(), Some("invalid_target"));
}

#[tokio::test]
async fn the_client_gets_tokens_in_its_own_name_but_no_personal_scope() {
    let (provider, _) = provider();
    let pairs = [("grant_type", "client_credentials"), ("resource", CRUD), ("scope", "records.read")];
    let tokens = ask(&provider, &pairs).await.unwrap();
    let access = claims(&provider, &tokens["access_token"]);
    assert_eq!((access["sub"].as_str(), access["aud"].as_str()), (Some("demo"), Some(CRUD)));
    assert_eq!(tokens.get("refresh_token"), None);
    let personal = [("grant_type", "client_credentials"), ("scope", "openid")];
    assert_eq!(ask(&provider, &personal).await, Err("invalid_scope".to_owned()));
}

#[tokio::test]
async fn a_client_is_known_by_its_secret_only() {
    let (provider, _) = provider();
    let post = |secret| form(&[("grant_type", "client_credentials"), ("client_id", "demo"), ("client_secret", secret)]);
    let status = |body: String| token::answer(&provider, &HeaderMap::new(), &body).status().as_u16();
    assert_eq!(status(post("s&cret=")), 200);
    assert_eq!(status(post("wrong")), 401);
    assert_eq!(status(form(&[("grant_type", "client_credentials")])), 401);
}

#[test]
fn a_request_from_an_unknown_address_is_answered_here() {
    let (provider, _) = provider();
    for change in [("redirect_uri", "http://localhost:8080/auth/callback/"), ("client_id", "other"), ("client_id", "")]
    {
        let answer = authorize::show(&provider, &request(&[change]));
        assert_eq!(answer.status().as_u16(), 400, "{change:?}");
        assert!(!answer.headers().contains_key(header::LOCATION), "{change:?}");
    }
}

#[test]
fn a_bad_request_is_told_to_the_client() {
    let (provider, _) = provider();
    let cases = [
        ("response_type", "token", "unsupported_response_type"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("scope", "profile", "invalid_scope"),
        ("scope", "openid everything", "invalid_scope"),
        ("prompt", "none", "login_required"),
    ];
    for (name, value, error) in cases {
        let answer = location(&authorize::show(&provider, &request(&[(name, value)])));
        assert_eq!(param(&answer, "error").as_deref(), Some(error), "{name}={value}");
        assert_eq!(param(&answer, "state").as_deref(), Some("the state"));
        assert!(param(&answer, "iss").is_some());
    }
}

#[tokio::test]
async fn an_unknown_name_gets_the_form_again_and_is_escaped() {
    let (provider, _) = provider();
    let answer = authorize::submit(&provider, &request(&[]), "login=%3Cscript%3E");
    assert_eq!(answer.status().as_u16(), 200);
    let page = String::from_utf8(to_bytes(answer.into_body(), 65536).await.unwrap().to_vec()).unwrap();
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
}

#[tokio::test]
async fn a_logout_ends_the_grant_and_returns_only_to_the_application() {
    let (provider, _) = provider();
    let tokens = redeem(&provider, &log_in(&provider), VERIFIER).await.unwrap();
    let hint = tokens["id_token"].as_str().unwrap();
    let out = |to: &str| {
        logout::end_session(
            &provider,
            &form(&[("id_token_hint", hint), ("post_logout_redirect_uri", to), ("state", "s")]),
        )
    };
    assert_eq!(out("http://localhost:9999/").status().as_u16(), 200);
    assert_eq!(location(&out("http://localhost:8080/bye")).as_str(), "http://localhost:8080/bye?state=s");
    assert_eq!(refresh(&provider, &tokens, CRUD).await, Err("invalid_grant".to_owned()));
}

#[tokio::test]
async fn a_revoked_refresh_token_is_dead() {
    let (provider, _) = provider();
    let tokens = redeem(&provider, &log_in(&provider), VERIFIER).await.unwrap();
    let token = tokens["refresh_token"].as_str().unwrap();
    let anonymous = logout::revoke(&provider, &HeaderMap::new(), &form(&[("token", token)]));
    assert_eq!(anonymous.status().as_u16(), 401);
    let pairs = [("token", token), ("client_id", "demo"), ("client_secret", "s&cret=")];
    assert_eq!(logout::revoke(&provider, &HeaderMap::new(), &form(&pairs)).status().as_u16(), 200);
    assert_eq!(refresh(&provider, &tokens, CRUD).await, Err("invalid_grant".to_owned()));
}
