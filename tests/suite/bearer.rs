//! Session → bearer: each service gets a token of its own audience, at the price of one flight.

use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;

use crate::harness::{
    AUDIENCES, Browser, Edge, Received, Setup, Upstream, claims, field, has_audience, http_client, problem,
};

const OWN: &str = AUDIENCES[0];

async fn status_of(browser: &Browser, edge: &Edge, path: &str) -> u16 {
    browser.get(edge.url(path)).await.status().as_u16()
}

#[tokio::test]
async fn one_login_gives_three_services_a_token_each() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::new();
    for (name, audience) in ["analytics", "crud", "reports"].into_iter().zip(&AUDIENCES[1..]) {
        setup = setup.service(name, &upstream.url(), Some(audience));
    }
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    for round in 0..2 {
        for (name, audience) in ["analytics", "crud", "reports"].into_iter().zip(&AUDIENCES[1..]) {
            assert_eq!(status_of(&browser, &edge, &format!("/api/{name}/x")).await, 200);
            let received = upstream.last();
            let token = claims(&received.bearer());
            assert!(has_audience(&token, audience), "{round} {name}: {token}");
            assert_eq!(token["sub"], "ada");
            assert_eq!(received.head.one("x-original-user").as_deref(), Some("auth:account:testidp:ada"));
        }
    }
    assert_eq!(edge.grants("authorization_code").await, 1);
    assert_eq!(edge.grants("refresh_token").await, 3, "one for each service, kept afterwards");
    assert_eq!(edge.grants("refused").await, 0);
    eventually!("the token is logged as found", {
        let found = edge.log.entries(&["token_found", "crud_service"]);
        found.iter().any(|entry| field(entry, "token_found") == Some(&Value::Bool(true)))
    });
    let body: Value = browser.get(edge.url("/auth/session")).await.json().await.unwrap();
    assert_eq!(body["services_count"], 3);
}

#[tokio::test]
async fn tokens_are_mapped_right_after_login_in_the_background() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1])).service(
        "crud",
        &upstream.url(),
        Some(AUDIENCES[2]),
    );
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    eventually!("both are minted without a request", edge.grants("refresh_token").await == 2);
    assert_eq!(status_of(&browser, &edge, "/api/crud/x").await, 200);
    assert_eq!(edge.grants("refresh_token").await, 2);
}

#[tokio::test]
async fn the_login_token_is_used_where_it_fits() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(OWN)).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200);
    assert!(has_audience(&claims(&upstream.last().bearer()), OWN));
    assert_eq!(edge.grants("refresh_token").await, 0);
}

#[tokio::test]
async fn a_service_gets_the_scope_written_for_it() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("crud", &upstream.url(), Some(AUDIENCES[2])).service_scope("crud", "write");
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(status_of(&browser, &edge, "/api/crud/x").await, 200);
    assert_eq!(claims(&upstream.last().bearer())["scope"], "write");
}

#[tokio::test]
async fn a_service_without_an_audience_says_which_key_is_missing() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).service("lost", &upstream.url(), None);
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let answer = browser.get(edge.url("/api/lost/x")).await;
    assert_eq!(answer.status(), 401);
    assert_eq!(problem(answer).await["code"], "no_token_available");
    assert_eq!(upstream.count(), 0, "the service was not asked");
    let looked = edge.metric("bff_token_lookups_total{result=\"none\",service=\"lost_service\"}");
    assert_eq!(looked.await, 1);
    eventually!("the reason is logged", {
        let entries = edge.log.entries(&["NO_TOKEN_AVAILABLE"]);
        entries.iter().any(|entry| {
            let reason = field(entry, "reason").and_then(Value::as_str).unwrap_or("");
            field(entry, "service") == Some(&Value::from("lost_service"))
                && reason.contains("settings.yaml")
                && reason.contains("service_audiences")
        })
    });
    assert_eq!(status_of(&browser, &edge, "/auth/session").await, 200, "the session stays alive");
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200);
    assert_eq!(edge.provider.live_refresh_tokens(&edge.client_id).await, 1);
}

#[tokio::test]
async fn passthrough_sends_the_login_token_as_it_is() {
    let upstream = Upstream::start().await;
    let policy = "{ id: pass, path: \"/pass/*\", target_service: any_service, preserve_path: true, auth: session, \
                  token_policy: { mode: session_passthrough } }";
    let setup = Setup::new().service_alone("any", &upstream.url(), None, "timeout: 5").route(policy);
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(status_of(&browser, &edge, "/pass/x").await, 200);
    let token = claims(&upstream.last().bearer());
    assert!(has_audience(&token, OWN) && token["sub"] == "ada", "{token}");
}

/// The entry's own audience is another one since: what was granted at the login is what can be renewed, and one that was
/// not would spend the refresh token.
#[tokio::test]
async fn the_login_token_is_renewed_for_what_its_login_was_granted() {
    let upstream = Upstream::start().await;
    let policy = "{ id: pass, path: \"/pass/*\", target_service: own_service, preserve_path: true, auth: session, \
                  token_policy: { mode: session_passthrough } }";
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[1])).access_ttl(3).route(policy);
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    edge.rewrite("conf/idps.yaml", |text| text.replace(AUDIENCES[0], AUDIENCES[3]));
    assert!(edge.reload().await);
    tokio::time::sleep(Duration::from_millis(3200)).await;
    assert_eq!(status_of(&browser, &edge, "/pass/x").await, 200);
    assert!(has_audience(&claims(&upstream.last().bearer()), AUDIENCES[0]));
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200, "the refresh token is as good as before");
    assert_eq!(edge.grants("refused").await, 0);
}

#[tokio::test]
async fn a_login_whose_own_audience_the_provider_refuses_goes_on_without_it() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[1]));
    let edge = setup.own_audience("https://unknown.example.test").start().await;
    let browser = Browser::new();
    let start = edge.url("/auth/login?return_to=/done").parse().unwrap();
    browser.walk(start, "ada", &edge.url("/done")).await;
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200);
}

/// One token for everybody; each route says how old it may be.
#[tokio::test]
async fn a_routes_cache_ttl_is_its_own() {
    let upstream = Upstream::start().await;
    let brief = format!(
        "{{ id: brief, path: \"/brief/*\", target_service: shared_service, preserve_path: true, auth: session, \
         token_policy: {{ mode: service_token, audience: \"{}\", scopes: [read], cache_ttl: 1 }} }}",
        AUDIENCES[3]
    );
    let edge = service_token_setup(&upstream, AUDIENCES[3]).route(&brief).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(status_of(&browser, &edge, "/shared/x").await, 200);
    assert_eq!(status_of(&browser, &edge, "/brief/x").await, 200);
    let first = edge.grants("client_credentials").await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(status_of(&browser, &edge, "/shared/x").await, 200);
    assert_eq!(edge.grants("client_credentials").await, first);
    assert_eq!(status_of(&browser, &edge, "/brief/x").await, 200);
    assert_eq!(edge.grants("client_credentials").await, first + 1);
}

/// What became of each look-up, once.
#[tokio::test]
async fn every_look_up_of_a_token_is_counted_once() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[1])).access_ttl(6);
    let edge = setup.top("token_refresh_threshold: 4").start().await;
    let seen = async |result: &str| {
        edge.metric(&format!("bff_token_lookups_total{{result=\"{result}\",service=\"own_service\"}}")).await
    };
    let browser = Browser::logged_in(&edge, "ada").await;
    // Mapped in the background: the look-up that fetched it.
    eventually!("it is mapped", seen("minted").await == 1);
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200);
    assert_eq!((seen("minted").await, seen("cached").await), (1, 1));
    edge.provider.set_mode(&edge.client_id, "500").await;
    tokio::time::sleep(Duration::from_millis(4300)).await;
    for _ in 0..5 {
        assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200, "it still works");
    }
    assert_eq!((seen("cached").await, seen("error").await), (6, 0));
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..3 {
        assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 502);
    }
    assert_eq!((seen("minted").await, seen("cached").await, seen("error").await), (1, 6, 3));
}

#[tokio::test]
async fn policy_none_sends_no_token_but_the_identity() {
    let upstream = Upstream::start().await;
    let policy = "{ id: bare, path: \"/bare/*\", target_service: any_service, preserve_path: true, auth: session, \
                  token_policy: { mode: none } }";
    let setup = Setup::new().service_alone("any", &upstream.url(), None, "timeout: 5").route(policy);
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let request = browser.client.get(edge.url("/bare/x")).header("authorization", "Bearer planted");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let head = upstream.last().head;
    assert_eq!(head.one("authorization"), None);
    assert_eq!(head.one("x-original-user").as_deref(), Some("auth:account:testidp:ada"));
}

fn service_token_setup(upstream: &Upstream, audience: &str) -> Setup {
    let policy = format!(
        "{{ id: shared, path: \"/shared/*\", target_service: shared_service, preserve_path: true, auth: session, \
         token_policy: {{ mode: service_token, audience: \"{audience}\", scopes: [read] }} }}"
    );
    Setup::new()
        .service("own", &upstream.url(), Some(OWN))
        .service_alone("shared", &upstream.url(), None, "timeout: 10")
        .route(&policy)
}

#[tokio::test]
async fn fifty_requests_share_one_service_token() {
    let upstream = Upstream::start().await;
    let edge = service_token_setup(&upstream, AUDIENCES[3]).start().await;
    let (ada, grace) = (Browser::logged_in(&edge, "ada").await, Browser::logged_in(&edge, "grace").await);
    edge.provider.set_mode(&edge.client_id, "delay:200").await;
    let asked = (0..50).map(|n| status_of(if n % 2 == 0 { &ada } else { &grace }, &edge, "/shared/x"));
    assert_eq!(join_all(asked).await, [200; 50]);
    assert_eq!(edge.grants("client_credentials").await, 1);
    let tokens: std::collections::HashSet<_> = upstream.all().iter().map(Received::bearer).collect();
    assert_eq!(tokens.len(), 1);
    let received = upstream.last();
    let token = claims(&received.bearer());
    assert!(has_audience(&token, AUDIENCES[3]) && token["scope"] == "read", "{token}");
    let user = received.head.one("x-original-user").unwrap();
    assert!(user.ends_with(":ada") || user.ends_with(":grace"), "the user, never the client: {user}");
}

#[tokio::test]
async fn an_audience_the_provider_refuses_is_named() {
    let upstream = Upstream::start().await;
    let edge = service_token_setup(&upstream, "https://unknown.example.test").start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let answer = browser.get(edge.url("/shared/x")).await;
    assert_eq!(answer.status(), 401);
    assert_eq!(problem(answer).await["code"], "no_token_available");
    eventually!(
        "what the provider answered is logged",
        edge.log.has(&["NO_TOKEN_AVAILABLE", "shared_service", "invalid_target"])
    );
    assert_eq!(status_of(&browser, &edge, "/auth/session").await, 200);
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200);
}

#[tokio::test]
async fn two_hundred_requests_at_expiry_cost_one_refresh() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(OWN)).access_ttl(5).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200);
    let before = upstream.last().bearer();
    // Expiry at the provider's own clock cannot be hurried.
    tokio::time::sleep(Duration::from_millis(5200)).await;
    edge.provider.set_mode(&edge.client_id, "delay:300").await;
    let answers = join_all((0..200).map(|_| status_of(&browser, &edge, "/api/own/x"))).await;
    assert_eq!(answers, [200; 200]);
    assert_eq!((edge.grants("refresh_token").await, edge.grants("refused").await), (1, 0));
    let after: std::collections::HashSet<_> = upstream.all()[1..].iter().map(Received::bearer).collect();
    assert!(after.len() == 1 && !after.contains(&before), "one new token for all: {}", after.len());
}

/// All of them take turns at one refresh token.
#[tokio::test]
async fn a_session_gets_the_tokens_of_many_services_at_once() {
    let upstream = Upstream::start().await;
    let audience = AUDIENCES[1];
    let mut setup = Setup::new();
    for number in 0..24 {
        setup = setup.service(&format!("s{number}"), &upstream.url(), Some(audience));
    }
    let edge = setup.start().await;
    let browser = Browser::new();
    let callback = browser.authorize(&edge, "ada", "/").await;
    browser.get(&callback).await;
    let paths: Vec<String> = (0..24).map(|number| format!("/api/s{number}/x")).collect();
    let answers = join_all(paths.iter().map(|path| status_of(&browser, &edge, path))).await;
    assert_eq!(answers, [200; 24]);
}

#[tokio::test]
async fn a_client_that_leaves_during_the_refresh_loses_nothing() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(OWN)).access_ttl(4).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    tokio::time::sleep(Duration::from_millis(4200)).await;
    edge.provider.set_mode(&edge.client_id, "delay:1000").await;
    let impatient = browser.client.get(edge.url("/api/own/x")).timeout(Duration::from_millis(300)).send();
    assert!(impatient.await.unwrap_err().is_timeout());
    eventually!("the flight landed without its client", edge.grants("refresh_token").await == 1);
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200);
    assert_eq!((edge.grants("refresh_token").await, edge.grants("refused").await), (1, 0));
    assert_eq!(edge.provider.live_refresh_tokens(&edge.client_id).await, 1);
}

#[tokio::test]
async fn a_service_token_that_many_wait_for_is_counted_as_minted_once() {
    let upstream = Upstream::start().await;
    let route = "{ id: shared, path: \"/shared/*\", target_service: own_service, preserve_path: true, auth: none, \
                 token_policy: { mode: service_token } }";
    let edge = Setup::new().service_alone("own", &upstream.url(), Some(OWN), "timeout: 5").route(route).start().await;
    edge.provider.set_mode(&edge.client_id, "delay:500").await;
    let client = http_client();
    let answers = join_all((0..8).map(|_| client.get(edge.url("/shared/x")).send())).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 200));
    let counted = |result: &str| format!("bff_token_lookups_total{{result=\"{result}\",service=\"own_service\"}}");
    assert_eq!((edge.metric(&counted("minted")).await, edge.metric(&counted("cached")).await), (1, 7));
    assert_eq!(edge.grants("client_credentials").await, 1);
}

#[tokio::test]
async fn only_invalid_grant_ends_the_session() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(OWN)).access_ttl(3).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    edge.provider.forget_refresh_tokens(&edge.client_id).await;
    tokio::time::sleep(Duration::from_millis(3200)).await;
    let answers = join_all((0..20).map(|_| status_of(&browser, &edge, "/api/own/x"))).await;
    assert_eq!(answers, [401; 20]);
    assert_eq!(status_of(&browser, &edge, "/auth/session").await, 401);
    assert_eq!(edge.grants("refused").await, 1, "asked once, not again");
}

#[tokio::test]
async fn an_audience_the_provider_refuses_costs_that_service_only() {
    let upstream = Upstream::start().await;
    let unknown = "https://unknown.example.test";
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[1]));
    let edge = setup.service("bad", &upstream.url(), Some(unknown)).start().await;
    let browser = Browser::new();
    // The browser is sent to the provider once more and notices nothing else.
    let start = edge.url("/auth/login?return_to=/done").parse().unwrap();
    browser.walk(start, "ada", &edge.url("/done")).await;
    for _ in 0..3 {
        let answer = browser.get(edge.url("/api/bad/x")).await;
        assert_eq!(answer.status(), 401);
        let told = problem(answer).await;
        assert_eq!(told["code"], "no_token_available");
        assert!(told["detail"].as_str().unwrap().contains("invalid_target"), "{told}");
        assert!(told["detail"].as_str().unwrap().contains("service_audiences.bad_service"), "{told}");
        assert_eq!(browser.get(edge.url("/api/own/x")).await.status(), 200, "the session lives");
    }
    eventually!("the log says so", edge.log.has(&["NO_TOKEN_AVAILABLE", "bad_service", "invalid_target"]));
    // The next user pays nothing for it.
    Browser::logged_in(&edge, "grace").await;
}
