//! `issuer` in idps.yaml changes while people are logged in and others are about to: nothing that the first provider
//! gave is shown to the second.

use serde_json::json;

use crate::harness::liar::{Canned, Liar, begin, logged_in};
use crate::harness::{Edge, Setup, Upstream, location, problem};

const OBO: &str = "{ id: obo, path: \"/obo/*\", target_service: any_service, preserve_path: true, auth: session, \
                   token_policy: { mode: on_behalf_of, audience: \"https://any.example.test\" } }";
const PASS: &str = "{ id: pass, path: \"/pass/*\", target_service: any_service, preserve_path: true, auth: session, \
                    token_policy: { mode: session_passthrough } }";

/// A provider that can do everything, and does not say who it is in its answers.
async fn provider() -> Liar {
    let liar = Liar::start().await;
    let mut document = liar.document();
    document["authorization_response_iss_parameter_supported"] = json!(false);
    document["revocation_endpoint"] = json!(format!("{}/revoke", liar.base));
    document["end_session_endpoint"] = json!(format!("{}/end", liar.base));
    liar.answer("/.well-known/openid-configuration", Canned::json(&document));
    liar.answer("/revoke", Canned::json(&json!({})));
    liar
}

struct World {
    first: Liar,
    second: Liar,
    edge: Edge,
    _upstream: Upstream,
}

impl World {
    async fn new() -> Self {
        let (first, second, upstream) = (provider().await, provider().await, Upstream::start().await);
        let setup = Setup::new().service_alone("any", &upstream.url(), None, "timeout: 5").route(PASS).route(OBO);
        let edge = setup.provider_at(&first.base).start().await;
        Self { first, second, edge, _upstream: upstream }
    }

    /// The same entry names the second provider from now on.
    async fn r#move(&self) {
        self.edge.rewrite("conf/idps.yaml", |text| text.replace(&self.first.base, &self.second.base));
        assert!(self.edge.reload().await);
        eventually!("the second is known", !self.second.asked("/jwks").is_empty());
    }

    fn assert_nothing_told(&self) {
        for path in ["/token", "/revoke", "/end"] {
            assert!(self.second.asked(path).is_empty(), "{path}: {:?}", self.second.asked(path));
        }
    }
}

#[tokio::test]
async fn no_token_of_one_issuer_is_renewed_or_exchanged_at_another() {
    let world = World::new().await;
    let over = logged_in(&world.edge, &world.first, &json!({ "expires_in": 0, "refresh_token": "rt-over" })).await;
    let works = logged_in(&world.edge, &world.first, &json!({ "refresh_token": "rt-works" })).await;
    let before = world.first.asked("/token").len();
    world.r#move().await;
    assert_eq!(works.get(world.edge.url("/pass/x")).await.status(), 200, "a token that works is used as before");
    for (browser, path) in [(&over, "/pass/x"), (&over, "/obo/x"), (&works, "/obo/x")] {
        let answer = browser.get(world.edge.url(path)).await;
        assert_eq!(answer.status(), 401, "{path}");
        let told = problem(answer).await;
        let detail = told["detail"].as_str().unwrap();
        assert_eq!(told["code"], "no_token_available", "{path}: {detail}");
        for part in [world.first.base.as_str(), &world.second.base, "idps.yaml", "log in again"] {
            assert!(detail.contains(part), "{path}: {detail}");
        }
        assert_eq!(browser.get(world.edge.url("/auth/session")).await.status(), 200, "{path}: the session stays");
    }
    world.assert_nothing_told();
    assert_eq!(world.first.asked("/token").len(), before);
    eventually!("the log says so", world.edge.log.has(&["NO_TOKEN_AVAILABLE", "log in again"]));
    // A new login is of the second, and all is well.
    let anew = logged_in(&world.edge, &world.second, &json!({ "expires_in": 0, "refresh_token": "rt-new" })).await;
    anew.get(world.edge.url("/pass/x")).await;
    assert!(world.second.asked("/token").pop().unwrap().contains("refresh_token=rt-new"));
}

#[tokio::test]
async fn a_logout_tells_another_issuer_nothing() {
    let mut world = World::new().await;
    let there = logged_in(&world.edge, &world.first, &json!({ "refresh_token": "rt-there" })).await;
    let left = there.post(world.edge.url("/auth/logout")).await;
    assert!(location(&left).unwrap().starts_with(&format!("{}/end?id_token_hint=", world.first.base)));
    eventually!("where it came from it is revoked", world.first.asked("/revoke").len() == 1);
    for restarted in [false, true] {
        let browser = logged_in(&world.edge, &world.first, &json!({ "refresh_token": "rt-here" })).await;
        if restarted {
            world.edge.kill9();
            let (first, second) = (world.first.base.clone(), world.second.base.clone());
            world.edge.rewrite("conf/idps.yaml", |text| text.replace(&first, &second));
            world.edge.start_again().await;
            eventually!("the second is known", !world.second.asked("/jwks").is_empty());
        } else {
            world.r#move().await;
        }
        let left = browser.post(world.edge.url("/auth/logout")).await;
        assert_eq!(location(&left), Some(format!("{}/", world.edge.origin)), "restarted: {restarted}");
        assert_eq!(browser.get(world.edge.url("/auth/session")).await.status(), 401);
        eventually!("the log says so", world.edge.log.has(&["users no longer log in at", &world.first.base]));
        if !restarted {
            world.edge.rewrite("conf/idps.yaml", |text| text.replace(&world.second.base, &world.first.base));
            assert!(world.edge.reload().await);
        }
    }
    world.assert_nothing_told();
    assert_eq!(world.first.asked("/revoke").len(), 1);
}

#[tokio::test]
async fn a_login_begun_at_one_issuer_begins_anew_at_another() {
    let world = World::new().await;
    let begun = begin(&world.edge, &world.first).await;
    world.r#move().await;
    let back = begun.back(&world.edge, "", "code=c").replace("&iss=&", "&");
    let answer = begun.browser.get(&back).await;
    let target = location(&answer).unwrap_or_else(|| panic!("{}", answer.status()));
    assert!(target.starts_with(&format!("{}/auth?", world.second.base)), "{target}");
    world.assert_nothing_told();
}
