//! Every logout token that must be refused, and those that must not.

use serde_json::{Value, json};

use super::keys::{Key, hmac, message};
use super::provider::{Canned, NOW, World};
use crate::oidc::{LogoutNotice, LogoutTokenError};
use crate::resilience::UnixTime;

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// A logout token in good order, then changed; null removes nothing, it is a null.
fn claims(world: &World, change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = json!({
        "iss": world.base, "aud": "client", "sub": "alice", "sid": "s1", "iat": NOW, "exp": NOW + 120, "jti": "j1",
        "events": { EVENT: {} },
    });
    change(&mut claims);
    claims
}

fn without(name: &'static str) -> impl FnOnce(&mut Value) {
    move |claims| {
        claims.as_object_mut().unwrap().remove(name);
    }
}

async fn read(world: &World, change: impl FnOnce(&mut Value)) -> Result<LogoutNotice, LogoutTokenError> {
    world.rp.read_logout_token(&world.key.sign(&claims(world, change))).await
}

#[tokio::test]
async fn a_token_in_good_order_says_who_has_left() {
    let world = World::new().await;
    let notice = read(&world, |_| {}).await.unwrap();
    let expected = LogoutNotice {
        issuer: world.base.clone(),
        id: "j1".into(),
        idp_session: Some("s1".into()),
        subject: Some("alice".into()),
        refused_from: UnixTime(NOW + 180),
    };
    assert_eq!(notice, expected);
    assert_eq!(read(&world, without("sid")).await.unwrap().idp_session, None);
    assert_eq!(read(&world, without("sub")).await.unwrap().subject, None);
    for change in [
        (|claims: &mut Value| claims["aud"] = json!(["client"])) as fn(&mut Value),
        |claims| claims["events"]["https://other.example/event"] = json!({}),
        |claims| claims["iat"] = json!(NOW + 60),
        |claims| claims["exp"] = json!(NOW - 59),
    ] {
        assert!(read(&world, change).await.is_ok());
    }
    for typ in ["logout+jwt", "LOGOUT+JWT", "application/logout+jwt", "JWT"] {
        let token = world.key.sign_as(&json!({ "alg": "EdDSA", "kid": "k1", "typ": typ }), &claims(&world, |_| {}));
        assert!(world.rp.read_logout_token(&token).await.is_ok(), "{typ}");
    }
}

#[tokio::test]
async fn audiences_that_are_trusted_may_stand_beside_ours() {
    let world = World::with(|idp| idp.trusted_audiences = vec!["project-7".into()]).await;
    assert!(read(&world, |claims| claims["aud"] = json!(["client", "project-7"])).await.is_ok());
    let alone = read(&world, |claims| claims["aud"] = json!("project-7")).await;
    assert_eq!(alone.unwrap_err(), LogoutTokenError::Audience("project-7".into()));
}

#[tokio::test]
async fn wrong_claims_are_refused() {
    let world = World::new().await;
    for name in ["iss", "aud", "iat", "exp", "jti", "events"] {
        assert_eq!(read(&world, without(name)).await.unwrap_err(), LogoutTokenError::Claim(name), "no {name}");
    }
    let rows: &[(&str, Value, LogoutTokenError)] = &[
        ("iss", json!("https://evil.example"), LogoutTokenError::Issuer("https://evil.example".into())),
        ("iss", json!(7), LogoutTokenError::Claim("iss")),
        ("aud", json!("other"), LogoutTokenError::Audience("other".into())),
        ("aud", json!([]), LogoutTokenError::Audience(String::new())),
        ("aud", json!(["client", "other"]), LogoutTokenError::Strangers("other".into())),
        ("aud", Value::Null, LogoutTokenError::Claim("aud")),
        ("iat", json!("now"), LogoutTokenError::Claim("iat")),
        ("iat", json!(NOW + 61), LogoutTokenError::NotYet),
        ("nbf", json!(NOW + 61), LogoutTokenError::NotYet),
        ("nbf", json!("4000000000"), LogoutTokenError::Claim("nbf")),
        ("nbf", json!([]), LogoutTokenError::Claim("nbf")),
        ("exp", json!(NOW - 60), LogoutTokenError::Expired),
        ("exp", json!("soon"), LogoutTokenError::Claim("exp")),
        ("jti", json!(""), LogoutTokenError::Claim("jti")),
        ("jti", json!(7), LogoutTokenError::Claim("jti")),
        ("events", json!({}), LogoutTokenError::Claim("events")),
        ("events", json!([EVENT]), LogoutTokenError::Claim("events")),
        ("events", json!(EVENT), LogoutTokenError::Claim("events")),
        ("events", json!({ EVENT: true }), LogoutTokenError::Claim("events")),
        ("events", json!({ "http://schemas.openid.net/event/frontchannel": {} }), LogoutTokenError::Claim("events")),
        ("nonce", json!("n1"), LogoutTokenError::Nonce),
        ("nonce", Value::Null, LogoutTokenError::Nonce),
        // A session that cannot be read must not turn into all sessions of the person.
        ("sid", json!(7), LogoutTokenError::Claim("sid")),
        ("sid", json!(""), LogoutTokenError::Claim("sid")),
        ("sub", json!(["alice"]), LogoutTokenError::Claim("sub")),
    ];
    for (claim, value, error) in rows {
        assert_eq!(
            read(&world, |claims| claims[*claim] = value.clone()).await.unwrap_err(),
            *error,
            "{claim}: {value}"
        );
    }
    let nobody = read(&world, |claims| {
        without("sub")(claims);
        without("sid")(claims);
    });
    assert_eq!(nobody.await.unwrap_err(), LogoutTokenError::Nobody);
}

#[tokio::test]
async fn forged_and_foreign_tokens_are_refused() {
    let world = World::new().await;
    let rsa = Key::rsa("r1");
    world.publish(&[&world.key, &rsa]);
    let good = claims(&world, |_| {});
    let typed = |typ: &str| world.key.sign_as(&json!({ "alg": "EdDSA", "kid": "k1", "typ": typ }), &good);
    let modulus = rsa.published()["n"].as_str().unwrap().to_owned();
    let (hs, signed) = (json!({ "alg": "HS256", "kid": "r1" }), world.key.sign(&good));
    let signature = signed.rsplit_once('.').unwrap().1;
    let other = claims(&world, |claims| claims["sub"] = json!("mallory"));
    let id_token = json!({ "iss": world.base, "aud": "client", "sub": "alice", "iat": NOW, "exp": NOW + 600 });
    for (token, error) in [
        (format!("{}.", message(&json!({ "alg": "none" }), &good)), LogoutTokenError::Algorithm("none".into())),
        (hmac(b"s3cret", &hs, &good), LogoutTokenError::Algorithm("HS256".into())),
        (hmac(modulus.as_bytes(), &hs, &good), LogoutTokenError::Algorithm("HS256".into())),
        (rsa.sign_as(&json!({ "alg": "RS512", "kid": "r1" }), &good), LogoutTokenError::Algorithm("RS512".into())),
        (
            format!("{}.{signature}", message(&json!({ "alg": "EdDSA", "kid": "k1" }), &other)),
            LogoutTokenError::Signature,
        ),
        (Key::ed25519("k1").sign(&good), LogoutTokenError::Signature),
        (Key::ed25519("k9").sign(&good), LogoutTokenError::UnknownKey),
        (typed("at+jwt"), LogoutTokenError::Kind("at+jwt".into())),
        (typed("secevent+jwt"), LogoutTokenError::Kind("secevent+jwt".into())),
        (world.key.sign(&id_token), LogoutTokenError::Claim("events")),
        ("not-a-token".into(), LogoutTokenError::Malformed("not three parts")),
        (String::new(), LogoutTokenError::Malformed("not three parts")),
    ] {
        assert_eq!(world.rp.read_logout_token(&token).await.unwrap_err(), error, "{token}");
    }
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_no_fault_of_the_token() {
    let world = World::new().await;
    world.answer("/jwks", Canned::Html(500, "down"));
    assert!(matches!(read(&world, |_| {}).await.unwrap_err(), LogoutTokenError::NotChecked(_)));
}
