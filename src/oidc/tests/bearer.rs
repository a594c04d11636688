//! Callers' access tokens that are JWTs: what is refused, what is not, and what it costs the provider.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::keys::{Key, hmac, message};
use super::provider::{Canned, NOW, World};
use crate::config::IdpConfig;
use crate::oidc::{BearerError, BearerValidator, Caller};
use crate::telemetry::Metrics;

const API: &str = "https://api.example";

/// A validator whose entries are these changes of the world's own.
pub(super) fn validator(world: &World, entries: &[&dyn Fn(&mut IdpConfig)]) -> BearerValidator {
    let entry = |change: &&dyn Fn(&mut IdpConfig)| {
        let mut idp = world.rp.idp.clone();
        idp.audience = Some(API.into());
        change(&mut idp);
        idp
    };
    let idps: Vec<_> = entries.iter().map(entry).collect();
    BearerValidator::new(&idps, &world.rp, None, world.clock.clone(), Arc::new(Metrics::new().unwrap())).unwrap()
}

pub(super) fn claims(world: &World) -> Value {
    json!({
        "iss": world.base, "aud": API, "sub": "ada", "iat": NOW, "nbf": NOW, "exp": NOW + 600, "client_id": "cli",
        "scope": "read", "jti": "j1",
    })
}

pub(super) fn with(world: &World, name: &str, value: &Value) -> Value {
    let mut claims = claims(world);
    claims[name] = value.clone();
    claims
}

fn without(world: &World, name: &str) -> Value {
    let mut claims = claims(world);
    claims.as_object_mut().unwrap().remove(name);
    claims
}

pub(super) fn refused<T: std::fmt::Debug>(outcome: Result<T, BearerError>) -> String {
    match outcome {
        Err(BearerError::Invalid { reason }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn every_algorithm_of_the_list_is_understood() {
    let world = World::new().await;
    let mut pss = Key::rsa("ps");
    pss.algorithm = Algorithm::PS256;
    let keys = [Key::rsa("rs"), pss, Key::p256("es"), Key::ed25519("ed")];
    world.publish(&keys.iter().collect::<Vec<_>>());
    let validator = validator(&world, &[&|_| {}]);
    let expected = Caller {
        issuer: world.base.clone(),
        subject: "ada".into(),
        provider: "corp".into(),
        audience: API.into(),
        expires_at: Some(crate::resilience::UnixTime(NOW + 600)),
    };
    for mut key in keys {
        let caller = validator.validate(&key.sign(&claims(&world))).await;
        assert_eq!(caller.as_deref(), Ok(&expected), "{:?}", key.algorithm);
        key.kid = None;
        let caller = validator.validate(&key.sign(&claims(&world))).await;
        assert_eq!(caller.as_deref(), Ok(&expected), "{:?} without kid", key.algorithm);
    }
    assert_eq!(world.requests("/jwks").len(), 1);
}

/// As Cloud Foundry's UAA, Gluu and Jenkins publish theirs.
#[tokio::test]
async fn numbers_of_a_key_may_begin_with_zeros() {
    let world = World::new().await;
    let key = Key::rsa("rs");
    let mut jwk = key.published();
    for number in ["n", "e"] {
        let bytes = URL_SAFE_NO_PAD.decode(jwk[number].as_str().unwrap()).unwrap();
        jwk[number] = json!(URL_SAFE_NO_PAD.encode([&[0], &bytes[..]].concat()));
    }
    world.answer("/jwks", Canned::Json(200, json!({ "keys": [jwk] })));
    let validator = validator(&world, &[&|_| {}]);
    validator.validate(&key.sign(&claims(&world))).await.unwrap();
}

#[tokio::test]
async fn forged_headers_and_signatures_are_refused() {
    let world = World::new().await;
    let rsa = Key::rsa("r1");
    world.publish(&[&world.key, &rsa]);
    let validator = validator(&world, &[&|_| {}]);
    let good = claims(&world);
    let mallory = Key::ed25519("m1");
    let with_header = |key: &Key, more: Value| {
        let mut header =
            json!({ "alg": if key.algorithm == Algorithm::RS256 { "RS256" } else { "EdDSA" }, "kid": key.kid });
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key.sign_as(&header, &good)
    };
    let modulus = rsa.published()["n"].as_str().unwrap().to_owned();
    let hs = json!({ "alg": "HS256", "kid": "r1" });
    let valid = rsa.sign(&good);
    let (body, signature) = valid.rsplit_once('.').unwrap();
    let other_body = message(&json!({ "alg": "RS256", "kid": "r1" }), &with(&world, "sub", &json!("root")));
    let url = format!("{}/evil", world.base);
    let rows = [
        ("alg none", format!("{}.", message(&json!({ "alg": "none" }), &good))),
        ("alg None", format!("{}.", message(&json!({ "alg": "None" }), &good))),
        ("alg none, signed", format!("{}.{signature}", message(&json!({ "alg": "none", "kid": "r1" }), &good))),
        ("no signature", format!("{body}.")),
        ("HS256 of the modulus", hmac(modulus.as_bytes(), &hs, &good)),
        ("HS256 of the key", hmac(rsa.published().to_string().as_bytes(), &hs, &good)),
        ("HS256 of the client secret", hmac(b"s3cret", &hs, &good)),
        ("other claims", format!("{other_body}.{signature}")),
        ("turned signature", format!("{body}.{}", signature.chars().rev().collect::<String>())),
        ("another key of that name", Key::rsa("r1").sign(&good)),
        ("unknown key", mallory.sign(&good)),
        ("another key's name", with_header(&world.key, json!({ "kid": "r1" }))),
        ("embedded jwk", with_header(&mallory, json!({ "jwk": mallory.published() }))),
        ("jku", with_header(&mallory, json!({ "jku": url }))),
        ("x5u", with_header(&mallory, json!({ "x5u": url }))),
        ("x5c", with_header(&mallory, json!({ "x5c": ["AAAA"] }))),
        ("crit", with_header(&rsa, json!({ "crit": ["exp"] }))),
        ("crit b64", with_header(&rsa, json!({ "crit": ["b64"], "b64": false }))),
        ("crit null", with_header(&rsa, json!({ "crit": null }))),
        ("logout token", with_header(&rsa, json!({ "typ": "logout+jwt" }))),
        ("client assertion", with_header(&rsa, json!({ "typ": "client-authentication+jwt" }))),
        ("proof", with_header(&rsa, json!({ "typ": "dpop+jwt" }))),
        ("typ of another type", with_header(&rsa, json!({ "typ": 7 }))),
        ("kid of another type", with_header(&rsa, json!({ "kid": { "a": 1 } }))),
    ];
    for (what, token) in rows {
        let reason = refused(validator.validate(&token).await);
        assert!(!reason.contains("ada") && !reason.contains("evil"), "{what}: {reason}");
    }
    assert!(world.requests("/evil").is_empty(), "nothing a token names is fetched");
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
        validator.validate(&with_header(&rsa, json!({ "typ": typ }))).await.unwrap();
    }
    for ignored in [json!({ "jwk": mallory.published() }), json!({ "jku": url })] {
        validator.validate(&with_header(&rsa, ignored)).await.unwrap();
    }
}

#[tokio::test]
async fn wrong_claims_are_refused() {
    let world = World::new().await;
    let validator = validator(&world, &[&|_| {}]);
    let rows = [
        ("iss", json!("https://evil.example")),
        ("iss", json!(format!("{}/", world.base))),
        ("iss", json!([world.base])),
        ("aud", json!("https://other.example")),
        ("aud", json!(["https://other.example", "client"])),
        ("aud", json!(format!("{API}/"))),
        ("aud", json!([API, 7])),
        ("aud", json!({ API: true })),
        ("aud", json!([])),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!("a\r\nX-Evil: 1")),
        ("sub", json!("a".repeat(256))),
        ("exp", json!(NOW - 60)),
        ("exp", json!(NOW.to_string())),
        ("exp", json!(-1)),
        ("exp", json!(0)),
        ("exp", json!(1e300)),
        ("exp", json!(i64::MAX)),
        ("exp", json!(u64::MAX)),
        ("exp", json!((NOW + 600) * 1000)),
        ("exp", json!(true)),
        ("exp", json!([NOW + 600])),
        ("exp", Value::Null),
        ("exp", json!(1_699_999_000.5)),
        ("nbf", json!(NOW + 61)),
        ("nbf", json!("soon")),
        ("nbf", json!(1e300)),
        ("iat", json!(NOW + 61)),
        ("iat", json!(-5)),
        ("iat", Value::Null),
        ("at_hash", json!("x")),
        ("s_hash", json!("x")),
        ("response_type", json!("code")),
        ("events", json!({ "http://schemas.openid.net/event/backchannel-logout": {} })),
        ("typ", json!("ID")),
        ("token_use", json!("id")),
        ("cnf", json!({ "jkt": "x" })),
    ];
    for (claim, value) in &rows {
        let token = world.key.sign(&with(&world, claim, value));
        refused(validator.validate(&token).await);
    }
    for claim in ["iss", "aud", "sub", "exp"] {
        refused(validator.validate(&world.key.sign(&without(&world, claim))).await);
    }
}

#[tokio::test]
async fn unusual_claims_are_accepted() {
    let world = World::new().await;
    let validator = validator(&world, &[&|_| {}]);
    let unusual = [
        ("aud", json!([API])),
        ("aud", json!(["https://other.example", API])),
        ("exp", json!(NOW - 59)),
        ("exp", json!(1_700_000_100.5)),
        ("nbf", json!(NOW + 60)),
        ("iat", json!(NOW - 86_400)),
        ("typ", json!("Bearer")),
        ("token_use", json!("access")),
    ];
    for (claim, value) in &unusual {
        let outcome = validator.validate(&world.key.sign(&with(&world, claim, value))).await;
        assert!(outcome.is_ok(), "{claim} = {value}: {outcome:?}");
    }
    for claim in ["nbf", "iat"] {
        validator.validate(&world.key.sign(&without(&world, claim))).await.unwrap();
    }
    // Older Keycloaks repeat the nonce of the login in its access token, and B2C does so: beside what no ID token has.
    validator.validate(&world.key.sign(&with(&world, "nonce", &json!("n")))).await.unwrap();
    let mut claims = without(&world, "scope");
    claims["nonce"] = json!("n");
    refused(validator.validate(&world.key.sign(&claims)).await);
    validator.validate(&world.key.sign_as(&json!({ "alg": "EdDSA", "typ": "at+jwt" }), &claims)).await.unwrap();
    claims["typ"] = json!("Bearer");
    validator.validate(&world.key.sign(&claims)).await.unwrap();
}

#[tokio::test]
async fn bad_forms_are_refused_without_a_question() {
    let world = World::new().await;
    let validator = validator(&world, &[&|_| {}]);
    let valid = world.key.sign(&claims(&world));
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"k1"}"#);
    let payload = |json: &str| format!("{header}.{}.c2ln", URL_SAFE_NO_PAD.encode(json));
    let text = claims(&world).to_string();
    let twice = text.replacen('{', r#"{"sub":"root","#, 1);
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let rows = [
        String::new(),
        "=".into(),
        "opaque".into(),
        "a.b.c".into(),
        "..".into(),
        "x".repeat(10 << 20),
        world.key.sign(&with(&world, "pad", &json!("x".repeat(16 << 10)))),
        payload(&twice),
        payload(&deep),
        payload("[]"),
        payload("7"),
        format!("{valid}.{valid}"),
        format!("{valid}="),
        valid.replace('.', ". "),
        format!("{valid}\u{e4}"),
        // Nested: a JWT as the payload of another; and an encrypted one.
        format!("{header}.{}.c2ln", URL_SAFE_NO_PAD.encode(&valid)),
        format!("{}.a.b.c.d", URL_SAFE_NO_PAD.encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#)),
    ];
    for token in rows {
        refused(validator.validate(&token).await);
    }
    assert!(world.requests("/jwks").is_empty(), "what is refused for its form makes nobody ask for keys");
    validator.validate(&valid).await.unwrap();
}

#[tokio::test]
async fn the_entry_is_chosen_by_issuer_and_audience() {
    let (world, elsewhere) = (World::new().await, World::new().await);
    let validator = validator(
        &world,
        &[
            &|idp| idp.audience = None,
            &|idp| idp.audience = Some("https://a.example".into()),
            &|idp| {
                idp.audience = Some("https://b.example".into());
                idp.algorithms = vec![Algorithm::RS256];
            },
            &|idp| {
                idp.issuer.clone_from(&elsewhere.base);
                idp.provider = "partner".into();
            },
        ],
    );
    let token = |audience: Value| world.key.sign(&with(&world, "aud", &audience));
    let a = validator.validate(&token(json!("https://a.example"))).await.unwrap();
    assert_eq!((&*a.audience, &*a.provider), ("https://a.example", "corp"));
    let reason = refused(validator.validate(&token(json!("https://b.example"))).await);
    assert!(reason.contains("algorithm"), "each entry has its own list: {reason}");
    // Known at another issuer only.
    refused(validator.validate(&token(json!(API))).await);
    let theirs = elsewhere.key.sign(&claims(&elsewhere));
    assert_eq!(validator.validate(&theirs).await.unwrap().provider, "partner");
    // The key of one issuer signs nothing for another.
    refused(validator.validate(&world.key.sign_as(&json!({ "alg": "EdDSA", "kid": "k1" }), &claims(&elsewhere))).await);
    assert_eq!(world.requests("/jwks").len(), 1, "entries of one issuer share its keys");
}

#[tokio::test]
async fn garbage_costs_one_fetch_in_ten_seconds() {
    let world = World::new().await;
    let validator = validator(&world, &[&|_| {}]);
    let flood = async || {
        let keys: Vec<_> = (0..20).map(|_| Key::ed25519("garbage")).collect();
        let tokens: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(n, key)| key.sign_as(&json!({ "alg": "EdDSA", "kid": format!("g{n}") }), &claims(&world)))
            .collect();
        for outcome in join_all(tokens.iter().map(|token| validator.validate(token))).await {
            refused(outcome);
        }
    };
    flood().await;
    assert_eq!(world.requests("/jwks").len(), 1, "the first look at the keys");
    for fetches in [2, 3, 4] {
        flood().await;
        flood().await;
        assert_eq!(world.requests("/jwks").len(), fetches);
        world.clock.advance(Duration::from_secs(9));
        flood().await;
        assert_eq!(world.requests("/jwks").len(), fetches);
        world.clock.advance(Duration::from_secs(1));
    }
    validator.validate(&world.key.sign(&claims(&world))).await.unwrap();
}

#[tokio::test]
async fn a_new_key_is_good_for_everybody_who_comes_with_it_at_once() {
    let world = World::new().await;
    let validator = validator(&world, &[&|_| {}]);
    validator.validate(&world.key.sign(&claims(&world))).await.unwrap();
    let newer = Key::ed25519("k2");
    world.publish(&[&newer]);
    let tokens: Vec<_> = (0..50).map(|n| newer.sign(&with(&world, "jti", &json!(n)))).collect();
    for outcome in join_all(tokens.iter().map(|token| validator.validate(token))).await {
        outcome.unwrap();
    }
    assert_eq!(world.requests("/jwks").len(), 2);
}

#[tokio::test]
async fn a_provider_that_is_down_refuses_nobody() {
    let world = World::new().await;
    let validator = validator(&world, &[&|_| {}]);
    let token = world.key.sign(&claims(&world));
    world.answer("/jwks", Canned::Html(503, ""));
    let outcome = validator.validate(&token).await;
    assert!(matches!(outcome, Err(BearerError::CannotAsk { .. })), "{outcome:?}");
    world.publish(&[&world.key]);
    world.clock.advance(Duration::from_secs(2));
    validator.validate(&token).await.unwrap();
    // Down again: the last good keys go on, for new tokens too.
    world.answer("/jwks", Canned::Reset);
    world.clock.advance(Duration::from_secs(7200));
    let later = with(&world, "exp", &json!(NOW + 9000));
    validator.validate(&world.key.sign(&later)).await.unwrap();
}

#[tokio::test]
async fn a_verified_token_is_remembered_for_five_minutes_and_never_beyond_its_end() {
    let world = World::new().await;
    let validator = validator(&world, &[&|_| {}]);
    let (long, short) = (claims(&world), with(&world, "exp", &json!(NOW + 100)));
    let (long, short) = (world.key.sign(&long), world.key.sign(&short));
    let first = validator.validate(&long).await.unwrap();
    validator.validate(&short).await.unwrap();
    // The key is withdrawn, and everybody knows.
    world.publish(&[&Key::ed25519("k2")]);
    refused(validator.validate(&Key::ed25519("k3").sign(&claims(&world))).await);
    world.clock.advance(Duration::from_secs(99));
    assert!(Arc::ptr_eq(&first, &validator.validate(&long).await.unwrap()));
    validator.validate(&short).await.unwrap();
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(refused(validator.validate(&short).await), "it has expired");
    world.clock.advance(Duration::from_secs(139));
    validator.validate(&long).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    refused(validator.validate(&long).await);
}
