//! Tokens we cannot read ourselves: the provider's word, how often it is asked for, and how long it counts.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use url::Url;

use super::bearer::{refused, validator};
use super::provider::{Canned, NOW, World};
use crate::config::{ClientAuthMethod, IdpConfig};
use crate::oidc::{BearerError, BearerValidator};

const PATH: &str = "/introspect";

async fn world() -> (World, BearerValidator) {
    let world = World::new().await;
    let at = Url::parse(&format!("{}{PATH}", world.base)).unwrap();
    let validator = validator(&world, &[&move |idp| idp.endpoints.introspection = Some(at.clone())]);
    (world, validator)
}

fn active(more: &Value) -> Canned {
    let mut all = json!({ "active": true, "sub": "ada", "aud": "https://api.example", "exp": NOW + 600 });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Canned::Json(200, all)
}

fn not_asked<T: std::fmt::Debug>(outcome: &Result<T, BearerError>) {
    assert!(matches!(outcome, Err(BearerError::CannotAsk { .. })), "{outcome:?}");
}

#[tokio::test]
async fn an_active_token_is_asked_about_once_in_thirty_seconds() {
    let (world, validator) = world().await;
    world.answer(PATH, active(&json!({})));
    for outcome in join_all((0..50).map(|_| validator.validate("opaque"))).await {
        let caller = outcome.unwrap();
        assert_eq!((&*caller.subject, &*caller.provider, &caller.issuer), ("ada", "corp", &world.base));
    }
    let requests = world.requests(PATH);
    assert_eq!(requests.len(), 1, "fifty callers, one question");
    assert_eq!(requests[0].form["token"], "opaque");
    assert_eq!(requests[0].form["token_type_hint"], "access_token");
    assert!(requests[0].head.to_ascii_lowercase().contains("authorization: basic "), "{}", requests[0].head);
    world.clock.advance(Duration::from_secs(29));
    validator.validate("opaque").await.unwrap();
    assert_eq!(world.requests(PATH).len(), 1);
    world.answer(PATH, Canned::Json(200, json!({ "active": false })));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(refused(validator.validate("opaque").await), "it is not active");
}

#[tokio::test]
async fn made_up_tokens_cannot_flood_the_provider() {
    let (world, validator) = world().await;
    world.answer(PATH, Canned::Hang);
    let tokens: Vec<String> = (0..200).map(|number| format!("made-up-{number}")).collect();
    let flood = join_all(tokens.iter().map(|token| validator.validate(token)));
    let all_are_told = tokio::time::timeout(Duration::from_secs(3), flood).await;
    assert!(all_are_told.is_err(), "the provider hangs");
    assert_eq!(world.requests(PATH).len(), 64);
}

#[tokio::test]
async fn an_answer_counts_no_longer_than_the_token() {
    let (world, validator) = world().await;
    world.answer(PATH, active(&json!({ "exp": NOW + 10 })));
    validator.validate("opaque").await.unwrap();
    world.clock.advance(Duration::from_secs(10));
    world.answer(PATH, Canned::Json(200, json!({ "active": false })));
    refused(validator.validate("opaque").await);
}

#[tokio::test]
async fn a_no_is_forgotten_after_two_seconds() {
    let (world, validator) = world().await;
    world.answer(PATH, Canned::Json(200, json!({ "active": false, "sub": "ada" })));
    for _ in 0..5 {
        refused(validator.validate("early").await);
    }
    assert_eq!(world.requests(PATH).len(), 1);
    world.answer(PATH, active(&json!({})));
    world.clock.advance(Duration::from_secs(2));
    validator.validate("early").await.unwrap();
}

#[tokio::test]
async fn what_the_answer_says_must_fit() {
    let (world, validator) = world().await;
    let rows = [
        json!({ "iss": "https://evil.example" }),
        json!({ "iss": null }),
        json!({ "aud": "https://other.example" }),
        json!({ "aud": [] }),
        json!({ "aud": 7 }),
        json!({ "exp": NOW - 60 }),
        json!({ "exp": "tomorrow" }),
        json!({ "nbf": NOW + 61 }),
        json!({ "sub": "" }),
        json!({ "sub": "a\nb" }),
        json!({ "token_type": "DPoP" }),
        json!({ "cnf": { "jkt": "x" } }),
        json!({ "nonce": "n" }),
    ];
    for (n, row) in rows.iter().enumerate() {
        world.answer(PATH, active(row));
        let outcome = validator.validate(&format!("token-{n}")).await;
        assert!(matches!(outcome, Err(BearerError::Invalid { .. })), "{row}: {outcome:?}");
    }
    world.answer(PATH, Canned::Json(200, json!({ "active": true, "client_id": "robot", "token_type": "bearer" })));
    let caller = validator.validate("of-a-client").await.unwrap();
    assert_eq!((&*caller.subject, caller.expires_at), ("robot", None));
    world.answer(PATH, active(&json!({ "nonce": "n", "token_type": "Bearer" })));
    validator.validate("of-a-login").await.unwrap();
    world.answer(PATH, Canned::Json(200, json!({ "active": true })));
    refused(validator.validate("of-nobody").await);
}

#[tokio::test]
async fn an_answer_that_is_none_refuses_nobody() {
    let (world, validator) = world().await;
    for (n, canned) in [
        Canned::Html(500, ""),
        Canned::Html(401, ""),
        Canned::Html(200, "<html>"),
        Canned::Json(200, json!({})),
        Canned::Json(200, json!({ "active": "true" })),
        Canned::Json(200, json!([])),
        Canned::Redirect("/elsewhere".into()),
        Canned::Huge(2 << 20),
    ]
    .into_iter()
    .enumerate()
    {
        world.answer(PATH, canned);
        not_asked(&validator.validate("opaque").await);
        assert_eq!(world.requests(PATH).len(), n + 1, "no use in asking again at once");
    }
}

#[tokio::test]
async fn a_broken_connection_is_tried_twice_more() {
    let (world, validator) = world().await;
    world.answer(PATH, Canned::Reset);
    not_asked(&validator.validate("opaque").await);
    assert_eq!(world.requests(PATH).len(), 3);
    let recovery = async {
        while world.requests(PATH).len() < 4 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        world.answer(PATH, active(&json!({})));
    };
    let (outcome, ()) = tokio::join!(validator.validate("opaque"), recovery);
    outcome.unwrap();
    assert_eq!(world.requests(PATH).len(), 5);
}

#[tokio::test]
async fn a_jwt_is_asked_about_only_where_no_keys_are_to_be_had() {
    let (world, validator) = world().await;
    let claims = json!({ "iss": world.base, "aud": "https://api.example", "sub": "ada", "exp": NOW + 600 });
    let token = world.key.sign(&claims);
    world.answer(PATH, active(&json!({})));
    validator.validate(&token).await.unwrap();
    let (_, signature) = token.rsplit_once('.').unwrap();
    refused(validator.validate(&token.replace(signature, "c2ln")).await);
    assert!(world.requests(PATH).is_empty(), "the keys decide");

    let (world, validator) = self::world().await;
    let mut document = world.document();
    document.as_object_mut().unwrap().remove("jwks_uri");
    world.answer("/.well-known/openid-configuration", Canned::Json(200, document));
    let mut claims = claims;
    claims["iss"] = json!(world.base);
    let token = world.key.sign(&claims);
    world.answer(PATH, Canned::Json(200, json!({ "active": false })));
    refused(validator.validate(&token).await);
    world.answer(PATH, active(&json!({})));
    world.clock.advance(Duration::from_secs(2));
    validator.validate(&token).await.unwrap();
}

#[tokio::test]
async fn entries_of_one_endpoint_ask_once_and_others_in_turn() {
    let (world, other) = (World::new().await, World::new().await);
    let at = |world: &World| Some(Url::parse(&format!("{}{PATH}", world.base)).unwrap());
    let (here, there) = (at(&world), at(&other));
    let entry = |audience: &'static str| {
        let here = here.clone();
        move |idp: &mut IdpConfig| {
            idp.audience = Some(audience.into());
            idp.endpoints.introspection.clone_from(&here);
        }
    };
    let (first, second) = (entry("https://a.example"), entry("https://b.example"));
    let partner = |idp: &mut IdpConfig| {
        idp.issuer.clone_from(&other.base);
        idp.provider = "partner".into();
        idp.endpoints.introspection.clone_from(&there);
        idp.token_auth_method = ClientAuthMethod::ClientSecretPost;
    };
    let validator = validator(&world, &[&first, &second, &partner]);
    world.answer(PATH, active(&json!({ "aud": ["https://b.example"] })));
    assert_eq!(validator.validate("one").await.unwrap().audience, "https://b.example");
    assert_eq!((world.requests(PATH).len(), other.requests(PATH).len()), (1, 0));
    world.answer(PATH, Canned::Json(200, json!({ "active": false })));
    other.answer(PATH, active(&json!({})));
    assert_eq!(validator.validate("two").await.unwrap().provider, "partner");
    assert_eq!(other.requests(PATH)[0].form["client_secret"], "s3cret");
    // One says no and the other nothing: that is not a no.
    world.answer(PATH, Canned::Html(500, ""));
    other.answer(PATH, Canned::Json(200, json!({ "active": false })));
    not_asked(&validator.validate("three").await);
}
