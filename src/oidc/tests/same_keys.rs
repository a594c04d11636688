//! Whoever logs users in and whoever vouches for callers, at one provider: they share its keys.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use url::Url;

use super::bearer::{claims, refused, validator, with};
use super::keys::Key;
use super::provider::{NOW, World};
use crate::config::{IdpConfig, Secret};
use crate::oidc::RelyingParty;
use crate::telemetry::Metrics;

#[tokio::test]
async fn unknown_keys_cost_a_provider_one_request_for_each_door_and_stop_no_login() {
    let world = World::new().await;
    let validator = validator(&world, &[&|_| {}]);
    let stranger = Key::ed25519("k9");
    let logout = json!({
        "iss": world.base, "aud": "client", "sub": "ada", "iat": NOW, "exp": NOW + 1_000, "jti": "j1",
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    });
    for round in 1..=3 {
        for number in 0..5 {
            refused(validator.validate(&stranger.sign(&with(&world, "jti", &json!(number)))).await);
            assert!(world.rp.read_logout_token(&stranger.sign(&logout)).await.is_err());
        }
        assert_eq!(world.requests("/jwks").len(), 2 * round + 1, "the first look, and one a round at each door");
        world.clock.advance(Duration::from_secs(10));
    }
    // A flood at one door, and the provider signs with another key than before, which it had not announced.
    refused(validator.validate(&stranger.sign(&claims(&world))).await);
    let next = Key::ed25519("k2");
    world.publish(&[&next]);
    refused(validator.validate(&stranger.sign(&claims(&world))).await);
    let flow = world.begin().await;
    let id_token = next.sign(&world.claims(&flow, |_| {}));
    world.finish(flow, &id_token).await.unwrap();
    let third = Key::ed25519("k3");
    world.publish(&[&third]);
    world.rp.read_logout_token(&third.sign(&logout)).await.unwrap();
}

#[tokio::test]
async fn an_entry_that_logs_users_in_otherwise_keeps_its_providers_keys() {
    let world = World::new().await;
    let validator = validator(&world, &[&|_| {}]);
    validator.validate(&world.key.sign(&claims(&world))).await.unwrap();
    let next = |change: &dyn Fn(&mut IdpConfig)| {
        let mut idp = world.rp.idp.clone();
        change(&mut idp);
        let (clock, metrics) = (world.clock.clone(), Arc::new(Metrics::new().unwrap()));
        RelyingParty::new(&idp, &world.rp.redirect_uri, &[], Some(&validator), clock, metrics).unwrap()
    };
    assert!(next(&|idp| idp.client_secret = Some(Secret::new("another"))).ready());
    let elsewhere = Url::parse(&format!("{}/others", world.base)).unwrap();
    assert!(!next(&|idp| idp.endpoints.jwks = Some(elsewhere.clone())).ready());
}
