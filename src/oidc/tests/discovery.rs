//! The provider's description: what is not believed, what is kept, how often it is asked for.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;
use url::Url;

use super::keys::Key;
use super::provider::{Canned, World};
use crate::config::{ClientAuthMethod, IdpConfig, Secret};
use crate::oidc::{FetchError, IdpError, LoginAsk, RelyingParty, SetupError};
use crate::resilience::ManualClock;
use crate::telemetry::Metrics;

const WELL_KNOWN: &str = "/.well-known/openid-configuration";

#[tokio::test]
async fn a_document_that_is_not_the_providers_is_not_believed() {
    let world = World::new().await;
    let mut foreign = world.document();
    foreign["issuer"] = json!(format!("{}/", world.base));
    let mut insecure = world.document();
    insecure["token_endpoint"] = json!("http://idp.example.com/token");
    for canned in [
        Canned::Json(200, foreign),
        Canned::Json(200, insecure),
        Canned::Json(200, json!({ "issuer": world.base, "token_endpoint": 7 })),
        Canned::Html(200, "<html></html>"),
        Canned::Html(500, ""),
        Canned::Huge(50 << 20),
        Canned::Redirect("http://127.0.0.2:9/".into()),
        Canned::Reset,
    ] {
        world.answer(WELL_KNOWN, canned.clone());
        world.clock.advance(Duration::from_secs(2));
        assert!(world.rp.begin_login(LoginAsk::default()).await.is_err(), "{canned:?}");
        assert!(!world.rp.ready());
    }
    world.clock.advance(Duration::from_secs(2));
    world.answer(WELL_KNOWN, Canned::Json(200, json!({ "issuer": world.base })));
    let error = world.rp.begin_login(LoginAsk::default()).await.unwrap_err();
    assert_eq!(error, IdpError::NoEndpoint("authorization_endpoint"));
    world.clock.advance(Duration::from_secs(2));
    world.answer(WELL_KNOWN, Canned::Html(503, ""));
    let before = world.requests(WELL_KNOWN).len();
    for _ in 0..3 {
        assert!(world.rp.begin_login(LoginAsk::default()).await.is_err());
    }
    assert_eq!(world.requests(WELL_KNOWN).len(), before + 1, "and no more often where that fails");
    world.clock.advance(Duration::from_secs(2));
    world.answer(WELL_KNOWN, Canned::Json(200, world.document()));
    assert!(world.rp.begin_login(LoginAsk::default()).await.is_ok(), "half a document is asked for again soon");
}

#[tokio::test]
async fn half_a_document_takes_no_whole_ones_place() {
    let world = World::new().await;
    world.rp.warm().await.unwrap();
    for missing in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
        let mut document = world.document();
        document.as_object_mut().unwrap().remove(missing);
        world.answer(WELL_KNOWN, Canned::Json(200, document));
        assert_eq!(world.rp.warm().await, Err(IdpError::NoEndpoint(missing)));
        assert!(world.rp.begin_login(LoginAsk::default()).await.is_ok(), "{missing}");
    }
}

#[tokio::test]
async fn an_endpoint_that_no_login_needs_is_left_out_where_it_cannot_be_used() {
    for unusable in [json!("http://idp.internal/x"), json!(""), json!(7)] {
        let world = World::new().await;
        let mut document = world.document();
        for endpoint in ["revocation_endpoint", "introspection_endpoint", "end_session_endpoint"] {
            document[endpoint] = unusable.clone();
        }
        world.answer(WELL_KNOWN, Canned::Json(200, document));
        world.login_with(|_| {}).await.unwrap();
        let metadata = world.rp.metadata().unwrap();
        assert_eq!((&metadata.revocation, &metadata.end_session), (&None, &None));
        let told: Vec<_> = metadata.unusable.iter().map(|unusable| unusable.endpoint).collect();
        assert_eq!(told, ["revocation_endpoint", "end_session_endpoint"], "introspection is not asked from discovery");
        let found = unusable.to_string();
        assert!(metadata.unusable.iter().all(|known| known.found == found));
    }
}

#[tokio::test]
async fn a_provider_that_is_down_is_asked_every_two_seconds_and_comes_back() {
    let world = World::new().await;
    world.answer(WELL_KNOWN, Canned::Html(503, ""));
    assert!(world.rp.warm().await.is_err());
    for _ in 0..20 {
        let error = world.rp.begin_login(LoginAsk::default()).await.unwrap_err();
        assert!(matches!(error, IdpError::Discovery { cause: FetchError::Status(503), .. }), "{error:?}");
    }
    assert_eq!(world.requests(WELL_KNOWN).len(), 1);
    world.answer(WELL_KNOWN, Canned::Json(200, world.document()));
    world.clock.advance(Duration::from_secs(2));
    world.rp.warm().await.unwrap();
    assert!(world.rp.ready());
}

#[tokio::test]
async fn many_callers_make_one_request() {
    let world = World::new().await;
    let logins = (0..50).map(|_| world.rp.begin_login(LoginAsk::default()));
    let logins = futures::future::join_all(logins).await;
    assert!(logins.iter().all(Result::is_ok));
    assert_eq!(world.requests(WELL_KNOWN).len(), 1);
}

/// Waits for something that happens behind the caller's back.
async fn eventually(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened");
}

#[tokio::test]
async fn the_last_good_document_and_keys_outlive_an_outage() {
    let world = World::new().await;
    world.login_with(|_| {}).await.unwrap();
    for path in [WELL_KNOWN, "/jwks"] {
        world.answer(path, Canned::Html(500, ""));
    }
    world.clock.advance(Duration::from_secs(3600));
    let fresh = |claims: &mut serde_json::Value| claims["exp"] = json!(super::provider::NOW + 9000);
    world.login_with(fresh).await.unwrap();
    eventually(|| world.requests(WELL_KNOWN).len() == 2 && world.requests("/jwks").len() == 2).await;
    for _ in 0..5 {
        world.login_with(fresh).await.unwrap();
    }
    assert_eq!(world.requests(WELL_KNOWN).len(), 2, "no hurry while something is held");
    world.clock.advance(Duration::from_secs(30));
    world.answer(WELL_KNOWN, Canned::Json(200, world.document()));
    world.login_with(fresh).await.unwrap();
    eventually(|| world.requests(WELL_KNOWN).len() == 3).await;
}

#[tokio::test]
async fn written_endpoints_override_and_suffice() {
    let elsewhere = World::new().await;
    let at = |path: &str| Some(Url::parse(&format!("{}{path}", elsewhere.base)).unwrap());
    let world = World::with(|idp| {
        (idp.endpoints.authorization, idp.endpoints.token, idp.endpoints.jwks) = (at("/a"), at("/t"), at("/jwks"));
    })
    .await;
    world.answer(WELL_KNOWN, Canned::Html(500, ""));
    let (url, _) = world.rp.begin_login(LoginAsk::default()).await.unwrap();
    assert!(url.as_str().starts_with(&format!("{}/a?", elsewhere.base)));
    eventually(|| world.requests(WELL_KNOWN).len() == 1).await;
    assert_eq!(world.rp.metadata().unwrap().end_session, None, "only idps.yaml speaks");
    world.rp.warm().await.unwrap();
    assert_eq!(elsewhere.requests("/jwks").len(), 1, "the keys are fetched all the same");
    world.answer(WELL_KNOWN, Canned::Json(200, world.document()));
    // The first may join the flight that met the 500.
    for _ in 0..2 {
        world.rp.warm().await.unwrap();
    }
    let metadata = world.rp.metadata().unwrap();
    assert!(metadata.token == at("/t") && metadata.end_session.is_some());
}

fn setup(base: &IdpConfig, change: impl FnOnce(&mut IdpConfig)) -> Option<SetupError> {
    let mut idp = base.clone();
    change(&mut idp);
    let public = Url::parse("http://localhost:8080").unwrap();
    let (clock, metrics) = (Arc::new(ManualClock::default()), Arc::new(Metrics::new().unwrap()));
    RelyingParty::new(&idp, &public, &[], None, clock, metrics).err()
}

#[tokio::test]
async fn an_entry_that_cannot_work_is_refused_at_once() {
    let world = World::new().await;
    let base = &world.rp.idp;
    assert_eq!(setup(base, |_| {}), None);
    for issuer in ["http://idp.example.com", "nonsense", "https://a.example/?x=1", "ftp://localhost"] {
        assert!(matches!(setup(base, |idp| idp.issuer = issuer.into()), Some(SetupError::Issuer(_))), "{issuer}");
    }
    let plain = Url::parse("http://idp.example.com/t").unwrap();
    assert!(matches!(setup(base, |idp| idp.endpoints.token = Some(plain)), Some(SetupError::Endpoint(_))));
    assert_eq!(setup(base, |idp| idp.client_secret = None), Some(SetupError::NoSecret));
    let algorithms = vec![Algorithm::HS256];
    assert_eq!(setup(base, |idp| idp.algorithms = algorithms), Some(SetupError::Algorithms));
    let assertion = |idp: &mut IdpConfig| idp.token_auth_method = ClientAuthMethod::PrivateKeyJwt;
    let error = setup(base, assertion).unwrap();
    assert!(matches!(&error, SetupError::ClientKey(_)) && !error.to_string().contains("s3cret"), "{error}");
    let pem = Key::p256("x").pem;
    assert_eq!(
        setup(base, |idp| {
            assertion(idp);
            idp.client_secret = Some(Secret::new(pem));
        }),
        None
    );
}
