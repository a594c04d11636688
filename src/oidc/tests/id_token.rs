//! Every ID token that must be refused, and those that look odd and must not be.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::keys::{Key, hmac, message};
use super::provider::{Canned, NOW, World, tokens};
use crate::oidc::{CallbackParams, IdTokenError, LoginError};

fn refused<T: std::fmt::Debug>(outcome: Result<T, LoginError>) -> IdTokenError {
    match outcome {
        Err(LoginError::IdToken(error)) => error,
        other => panic!("not refused for its id_token: {other:?}"),
    }
}

#[tokio::test]
async fn wrong_claims_are_refused() {
    let world = World::new().await;
    let rows: &[(&str, Value, IdTokenError)] = &[
        ("iss", json!("https://evil.example"), IdTokenError::Issuer("https://evil.example".into())),
        ("iss", Value::Null, IdTokenError::Claim("iss")),
        ("aud", json!("other"), IdTokenError::Audience("other".into())),
        ("aud", Value::Null, IdTokenError::Claim("aud")),
        ("aud", json!([]), IdTokenError::Audience(String::new())),
        ("aud", json!(["client", "other"]), IdTokenError::Strangers("other".into())),
        ("azp", json!("other"), IdTokenError::AuthorizedParty),
        ("azp", json!(7), IdTokenError::AuthorizedParty),
        ("sub", Value::Null, IdTokenError::Claim("sub")),
        ("sub", json!(""), IdTokenError::Claim("sub")),
        ("sub", json!("a\r\nX-Evil: 1"), IdTokenError::Claim("sub")),
        ("sub", json!("a".repeat(256)), IdTokenError::Claim("sub")),
        ("iat", Value::Null, IdTokenError::Claim("iat")),
        ("iat", json!("now"), IdTokenError::Claim("iat")),
        ("iat", json!(NOW + 61), IdTokenError::NotYet),
        ("nbf", json!(NOW + 61), IdTokenError::NotYet),
        ("exp", Value::Null, IdTokenError::Claim("exp")),
        ("exp", json!(NOW - 60), IdTokenError::Expired),
        ("nonce", json!("other"), IdTokenError::Nonce),
        ("nonce", Value::Null, IdTokenError::Claim("nonce")),
        ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA"), IdTokenError::AccessTokenHash),
        ("at_hash", json!(7), IdTokenError::AccessTokenHash),
    ];
    for (claim, value, error) in rows {
        let outcome = world.login_with(|claims| claims[*claim] = value.clone()).await;
        assert_eq!(refused(outcome), *error, "{claim} = {value}");
    }
}

#[tokio::test]
async fn unusual_claims_are_accepted() {
    let world = World::new().await;
    let half = |hash: &[u8]| URL_SAFE_NO_PAD.encode(&hash[..hash.len() / 2]);
    for (claim, value) in [
        ("aud", json!(["client"])),
        ("azp", json!("client")),
        ("exp", json!(NOW - 59)),
        ("iat", json!(NOW + 60)),
        ("exp", json!(1_700_000_100.5)),
        ("at_hash", json!(half(digest(&SHA512, b"at-1").as_ref()))),
    ] {
        let login = world.login_with(|claims| claims[claim] = value.clone()).await;
        assert_eq!(login.unwrap().subject, "alice", "{claim} = {value}");
    }
}

#[tokio::test]
async fn audiences_that_the_configuration_knows_are_trusted_and_azp_must_not_contradict() {
    let world = World::with(|idp| {
        idp.audience = Some("https://api.example".into());
        idp.trusted_audiences = vec!["https://crud.example".into(), "project-7".into()];
    })
    .await;
    let login = async |audience: Value, azp: Option<&str>| {
        let change = |claims: &mut Value| {
            claims["aud"] = audience;
            if let Some(party) = azp {
                claims["azp"] = json!(party);
            }
        };
        world.login_with(change).await
    };
    let all = json!(["client", "https://api.example", "https://crud.example", "project-7"]);
    for azp in [None, Some("client")] {
        let outcome = login(all.clone(), azp).await;
        assert!(outcome.is_ok(), "{azp:?}: {outcome:?}");
    }
    assert_eq!(refused(login(all, Some("project-7")).await), IdTokenError::AuthorizedParty);
    let without_us = json!(["https://api.example", "project-7"]);
    let words = "https://api.example project-7".to_owned();
    assert_eq!(refused(login(without_us, Some("client")).await), IdTokenError::Audience(words));
    let error = refused(login(json!(["client", "project-7", "x", "project-8"]), Some("client")).await);
    assert_eq!(error, IdTokenError::Strangers("x, project-8".to_owned()));
    assert!(error.to_string().contains("`trusted_audiences`"), "{error}");
}

#[tokio::test]
async fn no_id_token_is_no_login() {
    let world = World::new().await;
    for absent in [Value::Null, json!("")] {
        let flow = world.begin().await;
        world.answer("/token", Canned::Json(200, tokens(json!({ "id_token": absent }))));
        let params = CallbackParams::parse(&format!("code=c&state={}", flow.state.expose())).unwrap();
        assert_eq!(refused(world.rp.finish_login(flow, &params).await), IdTokenError::Absent);
    }
}

#[tokio::test]
async fn forged_signatures_are_refused() {
    let world = World::new().await;
    let rsa = Key::rsa("r1");
    world.publish(&[&world.key, &rsa]);
    let flow = world.begin().await;
    let claims = world.claims(&flow, |_| {});
    let good = world.key.sign(&claims);
    let (body, signature) = good.rsplit_once('.').unwrap();
    let other = world.claims(&flow, |claims| claims["sub"] = json!("mallory"));
    let modulus = rsa.published()["n"].as_str().unwrap().to_owned();
    let hs = json!({ "alg": "HS256", "kid": "r1" });
    let rows = [
        (format!("{body}.{}", signature.chars().rev().collect::<String>()), IdTokenError::Signature),
        (format!("{}.{signature}", message(&json!({ "alg": "EdDSA", "kid": "k1" }), &other)), IdTokenError::Signature),
        (format!("{}.", message(&json!({ "alg": "none" }), &claims)), IdTokenError::Algorithm("none".into())),
        (hmac(b"s3cret", &hs, &claims), IdTokenError::Algorithm("HS256".into())),
        (hmac(modulus.as_bytes(), &hs, &claims), IdTokenError::Algorithm("HS256".into())),
        // The key type decides, not the header: an Ed25519 key verifies nothing called RS256.
        (world.key.sign_as(&json!({ "alg": "RS256", "kid": "k1" }), &claims), IdTokenError::UnknownKey),
        (world.key.sign_as(&json!({ "alg": "EdDSA", "kid": "r1" }), &claims), IdTokenError::UnknownKey),
        (rsa.sign_as(&json!({ "alg": "RS512", "kid": "r1" }), &claims), IdTokenError::Algorithm("RS512".into())),
        (Key::ed25519("k1").sign(&claims), IdTokenError::Signature),
        (Key::ed25519("k9").sign(&claims), IdTokenError::UnknownKey),
        (
            world.key.sign_as(&json!({ "alg": "EdDSA", "kid": "k1", "crit": ["b64"], "b64": false }), &claims),
            IdTokenError::Malformed("it needs an extension (crit)"),
        ),
        (
            world.key.sign_as(&json!({ "alg": "EdDSA", "kid": "k1", "typ": "logout+jwt" }), &claims),
            IdTokenError::Malformed("it is another kind of token"),
        ),
        ("not-a-token".into(), IdTokenError::Malformed("not three parts")),
    ];
    for (token, error) in rows {
        assert_eq!(refused(world.finish(flow.clone(), &token).await), error, "{token}");
    }
    assert!(world.finish(flow, &good).await.is_ok());
}

#[tokio::test]
async fn every_kind_of_key_is_understood_with_and_without_kid() {
    let world = World::new().await;
    for mut key in [Key::rsa("a"), Key::p256("b"), Key::ed25519("c")] {
        world.clock.advance(std::time::Duration::from_secs(11));
        world.publish(&[&world.key, &Key::p256("z"), &key]);
        let flow = world.begin().await;
        let hash = if key.kid == Some("c") { &SHA512 } else { &SHA256 };
        let hash = digest(hash, b"at-1");
        let half = URL_SAFE_NO_PAD.encode(&hash.as_ref()[..hash.as_ref().len() / 2]);
        let claims = world.claims(&flow, |claims| {
            claims["at_hash"] = json!(half);
            claims["iat"] = json!(NOW + 33);
        });
        let login = world.finish(flow.clone(), &key.sign(&claims)).await;
        assert!(login.is_ok(), "{:?}: {login:?}", key.algorithm);
        key.kid = None;
        let login = world.finish(flow, &key.sign(&claims)).await;
        assert!(login.is_ok(), "{:?} without kid: {login:?}", key.algorithm);
    }
}

#[tokio::test]
async fn a_new_key_costs_one_fetch_and_unknown_keys_no_more_than_one_in_ten_seconds() {
    let world = World::new().await;
    world.login_with(|_| {}).await.unwrap();
    assert_eq!(world.requests("/jwks").len(), 1);

    let newer = Key::ed25519("k2");
    world.publish(&[&newer]);
    let flow = world.begin().await;
    let token = newer.sign(&world.claims(&flow, |_| {}));
    world.finish(flow, &token).await.unwrap();
    assert_eq!(world.requests("/jwks").len(), 2);

    for _ in 0..5 {
        let flow = world.begin().await;
        let token = Key::ed25519("k3").sign(&world.claims(&flow, |_| {}));
        assert_eq!(refused(world.finish(flow, &token).await), IdTokenError::UnknownKey);
    }
    assert_eq!(world.requests("/jwks").len(), 2, "within ten seconds the answer stands");

    world.clock.advance(std::time::Duration::from_secs(10));
    world.answer("/jwks", Canned::Html(500, "down"));
    let flow = world.begin().await;
    let token = Key::ed25519("k3").sign(&world.claims(&flow, |_| {}));
    let error = refused(world.finish(flow, &token).await);
    assert!(error.is_provider_down(), "could not ask is not unknown: {error:?}");
    world.login_with(|_| {}).await.expect_err("k1 is no longer published");
}
