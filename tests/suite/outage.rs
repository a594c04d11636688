//! Things that stop and come back: the provider, and the program itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::liar::{Canned, Liar, logged_in};
use crate::harness::{AUDIENCES, Browser, Edge, SECRET, Setup, Upstream, claims, has_audience, problem};

/// The login's own token, as it is.
const PASS: &str = "{ id: pass, path: \"/pass/*\", target_service: any_service, preserve_path: true, auth: session, \
     token_policy: { mode: session_passthrough } }";

const OWN: &str = AUDIENCES[0];

async fn status_of(browser: &Browser, edge: &Edge, path: &str) -> u16 {
    browser.get(edge.url(path)).await.status().as_u16()
}

/// A note that the provider is left alone until a moment that is minutes away: the clock was put back since.
#[tokio::test]
async fn a_clock_that_is_put_back_keeps_no_provider_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).access_ttl(3);
    let edge = setup.store(&format!("sqlite:{}", path.display())).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let note = "INSERT INTO notes (name, value, expires_at) SELECT 'forborne:refresh:' || lower(hex(key)), \
                CAST(unixepoch() + 600 AS BLOB), unixepoch() + 600 FROM sessions";
    assert_eq!(rusqlite::Connection::open(&path).unwrap().execute(note, []).unwrap(), 1);
    tokio::time::sleep(Duration::from_millis(3200)).await;
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200);
}

#[tokio::test]
async fn a_provider_that_is_down_hurts_only_where_a_token_is_needed() {
    let upstream = Upstream::start().await;
    let policy = "{ id: shared, path: \"/shared/*\", target_service: crud_service, preserve_path: true, auth: session, \
                  token_policy: { mode: service_token } }";
    let setup = Setup::new()
        .service("own", &upstream.url(), Some(OWN))
        .service_alone("crud", &upstream.url(), Some(AUDIENCES[2]), "timeout: 10")
        .route(policy);
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    for mode in ["500", "reset", "html"] {
        edge.provider.set_mode(&edge.client_id, mode).await;
        assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200, "{mode}: a valid token goes on");
        let answer = browser.get(edge.url("/shared/x")).await;
        assert_eq!(answer.status(), 502, "{mode}");
        assert_eq!(problem(answer).await["code"], "upstream_auth_failed", "{mode}");
        assert_eq!(status_of(&browser, &edge, "/auth/session").await, 200, "{mode}");
    }
    edge.provider.set_mode(&edge.client_id, "ok").await;
    eventually!("it recovers by itself", status_of(&browser, &edge, "/shared/x").await == 200);
}

/// As at providers whose issuer leads to no document.
#[tokio::test]
async fn who_writes_every_endpoint_hears_of_no_outage_where_discovery_fails() {
    let liar = Liar::start().await;
    let nothing = Canned::Whole(404, "text/html", String::new());
    liar.answer("/.well-known/openid-configuration", nothing);
    let endpoint = |(key, path)| format!("{key}: {}{path}", liar.base);
    let endpoints = [("authorization_url", "/auth"), ("token_url", "/token"), ("jwks_url", "/jwks")].map(endpoint);
    let secret = format!("client_secret: \"{SECRET}\"");
    let lines: Vec<&str> = endpoints.iter().chain([&secret]).map(String::as_str).collect();
    let edge = Setup::new().client_auth(&lines, &json!({})).provider_at(&liar.base).start().await;
    eventually!("a first look is taken", edge.log.has(&["are enough for logins"]));
    assert_eq!(liar.asked("/jwks").len(), 1, "its keys are there for the first login");
    for said in ["does not answer", "the identity provider answers"] {
        assert!(!edge.log.has(&[said]), "{}", edge.log.text());
    }
    logged_in(&edge, &liar, &json!({})).await;
    assert_eq!(liar.asked("/jwks").len(), 1);
}

#[tokio::test]
async fn a_provider_that_fails_at_login_leaves_no_session_and_a_way_to_retry() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(OWN)).start().await;
    for mode in ["500", "html", "reset"] {
        let browser = Browser::new();
        let callback = browser.authorize(&edge, "ada", "/").await;
        edge.provider.set_mode(&edge.client_id, mode).await;
        let answer = browser.get(&callback).await;
        assert!(answer.status().is_server_error(), "{mode}: {}", answer.status());
        if mode != "html" {
            assert_eq!(answer.headers()["retry-after"], "5", "{mode}: down, not wrong");
        }
        assert!(answer.text().await.unwrap().contains("/auth/login"), "{mode}: a link to try again");
        assert_eq!(status_of(&browser, &edge, "/auth/session").await, 401, "{mode}");
        edge.provider.set_mode(&edge.client_id, "ok").await;
    }
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(status_of(&browser, &edge, "/auth/session").await, 200);
}

#[tokio::test]
async fn a_session_outlives_an_outage_of_the_provider() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(OWN)).access_ttl(6).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    edge.provider.set_mode(&edge.client_id, "500").await;
    // Two thirds of the token's life are over: it is due, still valid, and cannot be renewed.
    tokio::time::sleep(Duration::from_millis(4300)).await;
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answer = browser.get(edge.url("/api/own/x")).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(problem(answer).await["code"], "upstream_auth_failed");
    assert_eq!(status_of(&browser, &edge, "/auth/session").await, 200);
    edge.provider.set_mode(&edge.client_id, "ok").await;
    eventually!("the session goes on", status_of(&browser, &edge, "/api/own/x").await == 200);
}

/// If each waited for itself, the last ones' tokens would be over before their turn.
#[tokio::test]
async fn one_session_finds_out_for_all_that_the_provider_hangs() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service_alone("any", &upstream.url(), None, "timeout: 10").route(PASS);
    let edge = setup.access_ttl(15).start().await;
    let mut browsers = Vec::new();
    for user in ["ada", "bob", "eve", "kim", "joe", "liz", "max"] {
        browsers.push(Browser::logged_in(&edge, user).await);
    }
    edge.provider.set_mode(&edge.client_id, "hang").await;
    // Two thirds of each token's life are over, in whole seconds.
    tokio::time::sleep(Duration::from_millis(11_100)).await;
    for (number, browser) in browsers.iter().enumerate() {
        assert_eq!(status_of(browser, &edge, "/pass/x").await, 200, "{number}");
    }
    eventually!("all are being renewed", edge.grants("faulted").await == browsers.len() as u64);
}

#[tokio::test]
async fn a_provider_that_takes_longer_than_its_tokens_live_is_asked_once_for_one_request() {
    let upstream = Upstream::start().await;
    // Over when it comes, and due when it comes.
    for (life, delay) in [(2, 2_200), (4, 3_050)] {
        let setup = Setup::new().service_alone("any", &upstream.url(), None, "timeout: 10").route(PASS);
        let edge = setup.access_ttl(life).start().await;
        let browser = Browser::logged_in(&edge, "ada").await;
        tokio::time::sleep(Duration::from_secs(life)).await;
        edge.provider.set_mode(&edge.client_id, &format!("delay:{delay}")).await;
        let asked = Instant::now();
        assert_eq!(status_of(&browser, &edge, "/pass/x").await, 200, "{life} s");
        assert!(asked.elapsed() < Duration::from_millis(delay + 1_500), "{life} s: {:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(delay + 500)).await;
        assert_eq!(edge.grants("refresh_token").await, 1, "{life} s");
    }
}

#[tokio::test]
async fn a_provider_that_is_slow_and_never_fails_fails_nobody() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::new().service_alone("any", &upstream.url(), None, "timeout: 10");
    for (mode, more) in [("session_passthrough", String::new()), ("service_token", format!(", audience: \"{OWN}\""))] {
        setup = setup.route(&format!(
            "{{ id: {mode}, path: \"/{mode}/*\", target_service: any_service, preserve_path: true, auth: session, \
             token_policy: {{ mode: {mode}{more} }} }}"
        ));
    }
    let edge = setup.access_ttl(9).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    // A token is due for two seconds: it still works when one has been waited, and is over when the next one comes.
    edge.provider.set_mode(&edge.client_id, "delay:3500").await;
    let (edge, browser, begun) = (&edge, &browser, Instant::now());
    let (mut all, paths) = (Vec::new(), ["/session_passthrough/x", "/service_token/x"]);
    while begun.elapsed() < Duration::from_secs(14) {
        for path in paths {
            all.push(async move {
                let asked = Instant::now();
                (path, status_of(browser, edge, path).await, asked.elapsed())
            });
        }
        let answers = futures::future::join_all(std::mem::take(&mut all)).await;
        for (path, status, took) in answers {
            assert!(status == 200 && took < Duration::from_millis(4_500), "{path}: {status} after {took:?}");
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for (grant, least) in [("refresh_token", 1), ("client_credentials", 2)] {
        assert!(edge.grants(grant).await >= least, "{grant}");
    }
}

#[tokio::test]
async fn a_restart_keeps_the_session() {
    let upstream = Upstream::start().await;
    let mut edge = Setup::new().service("crud", &upstream.url(), Some(AUDIENCES[2])).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(status_of(&browser, &edge, "/api/crud/x").await, 200);
    edge.sigterm();
    let status = edge.exit_status(Duration::from_secs(10)).await.expect("it ends");
    assert!(status.success(), "{status}");
    edge.start_again().await;
    assert_eq!(status_of(&browser, &edge, "/api/crud/x").await, 200);
    assert!(has_audience(&claims(&upstream.last().bearer()), AUDIENCES[2]));
    assert_eq!(edge.grants("refresh_token").await, 1, "the minted token was kept too");
}

#[tokio::test]
async fn kill_9_keeps_the_session_and_its_refresh_token() {
    let upstream = Upstream::start().await;
    let setup =
        Setup::new().service("own", &upstream.url(), Some(OWN)).service("crud", &upstream.url(), Some(AUDIENCES[2]));
    let mut edge = setup.access_ttl(6).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    // The refresh token was rotated by now: the new one must be on disk, not only in memory.
    assert_eq!(status_of(&browser, &edge, "/api/crud/x").await, 200);
    edge.kill9();
    edge.start_again().await;
    let body: Value = browser.get(edge.url("/auth/session")).await.json().await.unwrap();
    assert_eq!(body["user"]["sub"], "ada");
    tokio::time::sleep(Duration::from_millis(6200)).await;
    assert_eq!(status_of(&browser, &edge, "/api/crud/x").await, 200);
    assert_eq!(edge.grants("refused").await, 0);
}

#[tokio::test]
async fn a_logout_survives_kill_9() {
    let upstream = Upstream::start().await;
    let mut edge = Setup::new().service("own", &upstream.url(), Some(OWN)).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let cookie = browser.cookie_header(&edge.origin);
    browser.post(edge.url("/auth/logout")).await;
    edge.kill9();
    edge.start_again().await;
    let replay = browser.client.get(edge.url("/api/own/x")).header("cookie", cookie).send().await.unwrap();
    assert_eq!(replay.status(), 401);
}

#[tokio::test]
async fn the_memory_store_serves_and_forgets() {
    let upstream = Upstream::start().await;
    let mut edge = Setup::new().service("own", &upstream.url(), Some(OWN)).store("memory:").start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 200);
    edge.kill9();
    edge.start_again().await;
    assert_eq!(status_of(&browser, &edge, "/api/own/x").await, 401);
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).session("lifetime_seconds: 2");
    let edge = setup.start().await;
    let (used, idle) = (Browser::logged_in(&edge, "ada").await, Browser::logged_in(&edge, "ada").await);
    let until = std::time::Instant::now() + Duration::from_secs(3);
    while std::time::Instant::now() < until {
        assert_eq!(status_of(&used, &edge, "/api/own/x").await, 200, "use extends it");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(status_of(&idle, &edge, "/api/own/x").await, 401);
}

#[tokio::test]
async fn a_session_ends_at_its_absolute_limit() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN));
    let edge = setup.session("lifetime_seconds: 2").session("max_lifetime_seconds: 3").start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    eventually!("use does not extend it for ever", status_of(&browser, &edge, "/api/own/x").await == 401);
}

#[tokio::test]
async fn a_client_that_the_provider_no_longer_knows_does_not_storm_it() {
    let upstream = Upstream::start().await;
    let pass = PASS.replace("any_service", "own_service");
    let edge = Setup::new().service("own", &upstream.url(), Some(OWN)).route(&pass).access_ttl(3).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(status_of(&browser, &edge, "/pass/x").await, 200);
    let changed = json!({ "client_secret": "a secret that only the provider was told" });
    edge.provider.register(&edge.client_id, &edge.origin, &changed).await;
    eventually!("the login token is over", status_of(&browser, &edge, "/pass/x").await == 401);
    for _ in 0..20 {
        assert_eq!(problem(browser.get(edge.url("/pass/x")).await).await["code"], "no_token_available");
    }
    let asked = edge.metric("bff_token_refresh_total{service=\"login\",status=\"error\"").await;
    assert!(asked <= 2, "asked {asked} times");
    assert_eq!(status_of(&browser, &edge, "/auth/session").await, 200, "the session stays");
}
