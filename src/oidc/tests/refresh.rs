//! Refresh and client credentials: what may end a session and what never may.

use std::time::Duration;

use serde_json::{Value, json};

use super::keys::Key;
use super::provider::{Canned, NOW, World, tokens};
use crate::config::{AssertionAudience, ClientAuthMethod, Secret};
use crate::oidc::{Ask, GrantError, TokenResponse};
use crate::resilience::UnixTime;

async fn refresh(world: &World) -> Result<TokenResponse, GrantError> {
    let scopes = ["a.all".to_owned()];
    let ask = Ask { audience: Some("https://a.example"), scopes: &scopes };
    world.rp.refresh(&Secret::new("rt-0"), &ask, (&world.base, "alice")).await
}

fn id_token(world: &World, change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = json!({ "iss": world.base, "aud": "client", "sub": "alice", "iat": NOW, "exp": NOW + 600 });
    change(&mut claims);
    json!(world.key.sign(&claims))
}

#[tokio::test]
async fn one_audience_is_asked_for_and_the_answer_is_read() {
    let world = World::new().await;
    let jwt = world.key.sign(&json!({ "aud": ["https://a.example"], "scope": "a.all", "exp": NOW + 100 }));
    world.answer("/token", Canned::Json(200, tokens(json!({ "access_token": jwt, "expires_in": null }))));
    let response = refresh(&world).await.unwrap();
    assert_eq!(
        (response.audience.as_slice(), response.scopes.as_slice()),
        (&["https://a.example".into()][..], &["a.all".into()][..])
    );
    assert_eq!((response.issued_at, response.expires_at), (UnixTime(NOW), Some(UnixTime(NOW + 100))));
    assert_eq!(response.refresh_token, Some(Secret::new("rt-1")));
    let form = &world.requests("/token")[0].form;
    let sent = ["grant_type", "refresh_token", "resource", "scope"].map(|name| form.get(name).map(String::as_str));
    assert_eq!(sent, [Some("refresh_token"), Some("rt-0"), Some("https://a.example"), Some("a.all")]);
}

#[tokio::test]
async fn without_a_new_refresh_token_the_old_one_stays() {
    let world = World::new().await;
    world.answer("/token", Canned::Json(200, tokens(json!({ "refresh_token": null }))));
    assert_eq!(refresh(&world).await.unwrap().refresh_token, None);
}

#[tokio::test]
async fn only_invalid_grant_says_that_the_refresh_token_is_gone() {
    let world = World::new().await;
    let error = |code: &str| json!({ "error": code, "error_description": "grant request is invalid" });
    world.answer("/token", Canned::Json(400, error("invalid_grant")));
    assert_eq!(refresh(&world).await.unwrap_err().label(), "invalid_grant");
    for code in ["invalid_target", "invalid_scope", "unauthorized_client", "invalid_client"] {
        world.answer("/token", Canned::Json(400, error(code)));
        let refusal = refresh(&world).await.unwrap_err();
        assert!(matches!(&refusal, GrantError::Refused { error, .. } if error == code), "{refusal:?}");
        assert!(!refusal.is_provider_down());
    }
    for canned in [
        Canned::Json(500, error("invalid_grant")),
        Canned::Json(503, json!({})),
        Canned::Html(400, "<html>invalid_grant</html>"),
        Canned::Html(200, "<html></html>"),
        Canned::Html(200, ""),
        Canned::Json(200, json!({ "token_type": "Bearer" })),
        Canned::Json(200, tokens(json!({ "token_type": "mac", "refresh_token": null }))),
        Canned::Huge(50 << 20),
        Canned::Reset,
        Canned::Redirect("/elsewhere".into()),
    ] {
        world.answer("/token", canned.clone());
        let before = world.requests("/token").len();
        let failure = refresh(&world).await.unwrap_err();
        assert!(failure.is_provider_down() && failure.answer_lost(), "{canned:?}: {failure:?}");
        assert_eq!(world.requests("/token").len(), before + 1, "a refresh token is sent once");
    }
}

#[tokio::test]
async fn another_identity_is_never_swapped_in() {
    let world = World::new().await;
    for (claim, value) in [("sub", json!("mallory")), ("iss", json!("https://evil.example")), ("sub", Value::Null)] {
        let token = id_token(&world, |claims| claims[claim] = value);
        world.answer("/token", Canned::Json(200, tokens(json!({ "id_token": token }))));
        assert_eq!(refresh(&world).await.unwrap_err(), GrantError::IdentityChanged, "{claim}");
    }
    world.answer("/token", Canned::Json(200, tokens(json!({ "id_token": id_token(&world, |_| {}) }))));
    assert!(refresh(&world).await.unwrap().id_token.is_some());
    let forged = Key::ed25519("k1")
        .sign(&json!({ "iss": world.base, "aud": "client", "sub": "alice", "iat": NOW, "exp": NOW + 600 }));
    world.answer("/token", Canned::Json(200, tokens(json!({ "id_token": forged }))));
    assert!(matches!(refresh(&world).await, Err(GrantError::Malformed { .. })));
}

#[tokio::test]
async fn a_new_refresh_token_comes_out_of_an_answer_that_is_of_no_use() {
    let world = World::new().await;
    let forged = Key::ed25519("k1").sign(&json!({ "iss": world.base, "sub": "alice" }));
    for fault in [
        json!({ "token_type": "mac" }),
        json!({ "access_token": null }),
        json!({ "access_token": 7 }),
        json!({ "scope": 7, "access_token": "" }),
        json!({ "id_token": forged }),
        json!({ "id_token": "garbage" }),
        json!({ "id_token": id_token(&world, |claims| claims["aud"] = json!("other")) }),
    ] {
        world.answer("/token", Canned::Json(200, tokens(fault.clone())));
        let failure = refresh(&world).await.unwrap_err();
        assert_eq!(failure.rotated(), Some(&Secret::new("rt-1")), "{fault}");
        assert!(failure.is_provider_down() && !failure.answer_lost(), "{fault}: {failure:?}");
        assert!(!format!("{failure:?} {failure}").contains("rt-1"), "{failure:?}");
    }
    world.answer(
        "/token",
        Canned::Json(200, tokens(json!({ "id_token": id_token(&world, |claims| claims["sub"] = json!("mallory")) }))),
    );
    assert_eq!(refresh(&world).await.unwrap_err().rotated(), None, "somebody else's is not kept");
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_do_not_cost_the_new_refresh_token() {
    let world = World::new().await;
    world.answer("/jwks", Canned::Html(500, ""));
    world.answer("/token", Canned::Json(200, tokens(json!({ "id_token": id_token(&world, |_| {}) }))));
    let response = refresh(&world).await.unwrap();
    assert_eq!((response.id_token, response.refresh_token), (None, Some(Secret::new("rt-1"))));
}

#[tokio::test]
async fn a_client_can_prove_itself_in_every_way() {
    let world = World::with(|idp| idp.token_auth_method = ClientAuthMethod::ClientSecretPost).await;
    world.answer("/token", Canned::Json(200, tokens(json!({}))));
    world.rp.client_credentials(&Ask::default()).await.unwrap();
    let request = world.requests("/token").pop().unwrap();
    assert_eq!(request.form.get("client_secret").map(String::as_str), Some("s3cret"));
    assert!(!request.head.to_ascii_lowercase().contains("authorization:"));

    let world = World::with(|idp| {
        idp.token_auth_method = ClientAuthMethod::None;
        idp.client_secret = None;
    })
    .await;
    world.answer("/token", Canned::Json(200, tokens(json!({}))));
    world.rp.client_credentials(&Ask::default()).await.unwrap();
    assert_eq!(world.requests("/token")[0].form.get("client_id").map(String::as_str), Some("client"));
}

#[tokio::test]
async fn a_client_assertion_is_signed_for_whom_the_entry_says_and_never_twice_the_same() {
    use AssertionAudience::{Issuer, TokenEndpoint};
    for (key, accepted, expected, audience) in [
        (Key::rsa("c"), json!(null), "RS256", Issuer),
        (Key::rsa("c"), json!(["PS256", "ES256"]), "PS256", Issuer),
        (Key::p256("c"), json!(["RS256", "ES256"]), "ES256", TokenEndpoint),
        (Key::ed25519("c"), json!([]), "EdDSA", Issuer),
    ] {
        let world = World::with(|idp| {
            idp.token_auth_method = ClientAuthMethod::PrivateKeyJwt;
            idp.client_secret = Some(Secret::new(&key.pem));
            idp.key_id = Some("mine".into());
            idp.assertion_audience = audience;
        })
        .await;
        let mut document = world.document();
        document["token_endpoint_auth_signing_alg_values_supported"] = accepted;
        world.answer("/.well-known/openid-configuration", Canned::Json(200, document));
        world.answer("/token", Canned::Json(200, tokens(json!({}))));
        for _ in 0..2 {
            world.rp.client_credentials(&Ask::default()).await.unwrap();
        }
        let assertions: Vec<_> =
            world.requests("/token").into_iter().map(|request| request.form["client_assertion"].clone()).collect();
        let read = |token: &str| {
            let compact = crate::oidc::jwt::Compact::parse(token).unwrap();
            (compact.header.clone(), compact.claims)
        };
        let ((header, first), (_, second)) = (read(&assertions[0]), read(&assertions[1]));
        assert_eq!((header.alg.as_str(), header.kid.as_deref()), (expected, Some("mine")));
        let wanted = if audience == Issuer { world.base.clone() } else { format!("{}/token", world.base) };
        assert_eq!(first.audience(), Some(vec![wanted]));
        assert_eq!((first.text("iss"), first.text("sub")), (Some("client"), Some("client")));
        assert_eq!(first.time("exp"), Some(UnixTime(NOW + 60)));
        assert_ne!(first.text("jti"), second.text("jti"));
        world.clock.advance(Duration::from_secs(1));
    }
}
