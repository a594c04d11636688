//! SIGHUP: a new configuration for the requests that begin then, or the old one for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::liar::{self, Canned, Liar};
use crate::harness::{AUDIENCES, Behaviour, Browser, Edge, Say, Setup, Upstream, http_client};

async fn edge_to(upstream: &Upstream) -> Edge {
    let legacy = format!("legacy_services: {{ old: \"{}\" }}\ncircuit_breaker: {{ threshold: 1 }}\n", upstream.url());
    Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).legacy(&legacy).start().await
}

fn with_a_route(text: &str, id: &str) -> String {
    format!("{text}  - {{ id: {id}, path: \"/{id}/*\", target_service: own_service, auth: none }}\n")
}

/// Opens the circuit of the legacy service; where that was asked.
async fn break_circuit(edge: &Edge, upstream: &Upstream, browser: &Browser) -> String {
    upstream.behave(Behaviour::Status(500));
    let url = edge.url("/api/v1/proxy/old/x");
    assert_eq!(browser.client.post(&url).send().await.unwrap().status(), 500);
    url
}

async fn status(edge: &Edge, path: &str) -> u16 {
    http_client().get(edge.url(path)).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_new_route_answers_and_sessions_and_requests_in_flight_go_on() {
    let upstream = Upstream::start().await;
    let edge = edge_to(&upstream).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(status(&edge, "/fresh/x").await, 404);
    upstream.behave(Behaviour::Delay(Duration::from_millis(1500)));
    let in_flight = tokio::spawn({
        let (browser, url) = (browser.clone(), edge.url("/api/own/slow"));
        async move { browser.get(url).await.status().as_u16() }
    });
    eventually!("the service has the request", upstream.heads() == 1);
    // The route of the request in flight goes; another comes.
    edge.rewrite("routes/all.yaml", |text| with_a_route(&text.replace("/api/own/*", "/api/moved/*"), "fresh"));
    assert!(edge.reload().await);
    assert_eq!(in_flight.await.unwrap(), 200, "it began with the old routes");
    upstream.behave(Behaviour::Echo);
    assert_eq!(status(&edge, "/fresh/x").await, 200);
    assert_eq!(status(&edge, "/api/own/x").await, 404);
    assert_eq!(browser.get(edge.url("/api/moved/x")).await.status(), 200, "the session goes on");
    assert_eq!(edge.metric("bff_config_reloads_total{status=\"success\"}").await, 1);
    let told = http_client().get(edge.admin_url("/status")).send().await.unwrap().json::<serde_json::Value>().await;
    assert_eq!(told.unwrap()["configuration"]["routes"], 2);
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_whole_and_says_where() {
    let upstream = Upstream::start().await;
    let edge = edge_to(&upstream).await;
    edge.rewrite("routes/all.yaml", |text| with_a_route(&text, "fresh") + "  - { id: broken, pth: /x }\n");
    assert!(!edge.reload().await);
    assert_eq!(status(&edge, "/fresh/x").await, 404, "not half of it either");
    assert_eq!(status(&edge, "/api/own/x").await, 401, "the old routes stay");
    assert!(edge.log.text().contains("all.yaml:"), "{}", edge.log.text());
    assert_eq!(edge.metric("bff_config_reloads_total{status=\"refused\"}").await, 1);
}

/// Their provider may be down at that moment.
#[tokio::test]
async fn keys_of_an_entry_that_did_not_change_are_kept() {
    let (liar, upstream) = (Liar::start().await, Upstream::start().await);
    let api = AUDIENCES[2];
    let route = "{ id: open, path: /open/*, target_service: any_service, auth: bearer }";
    let setup = Setup::new().service_alone("any", &upstream.url(), None, "timeout: 5").route(route);
    let edge = setup.provider_at(&liar.base).own_audience(api).start().await;
    let call = async |number: u32| {
        let end = liar::now() + 300;
        let token = liar.sign(&json!({ "iss": liar.base, "aud": api, "sub": "job", "exp": end, "jti": number }));
        http_client().get(edge.url("/open/x")).bearer_auth(token).send().await.unwrap().status().as_u16()
    };
    assert_eq!(call(1).await, 200);
    for path in ["/jwks", "/.well-known/openid-configuration"] {
        liar.answer(path, Canned::Reset);
    }
    edge.rewrite("conf/idps.yaml", |text| {
        format!("{text}  - {{ name: second, issuer: \"https://idp.example\", audience: x, client_id: y, client_secret: \"{}\" }}\n", "s".repeat(32))
    });
    assert!(edge.reload().await, "{}", edge.log.text());
    assert_eq!(call(2).await, 200);
}

#[tokio::test]
async fn what_belongs_to_the_process_needs_a_restart() {
    let upstream = Upstream::start().await;
    let edge = edge_to(&upstream).await;
    edge.rewrite("conf/settings.yaml", |text| text.replace("session:\n", "session:\n  lifetime_seconds: 60\n"));
    edge.rewrite("routes/all.yaml", |text| with_a_route(&text, "fresh"));
    assert!(!edge.reload().await);
    assert!(edge.log.text().contains("`session` (settings.yaml)"), "{}", edge.log.text());
    assert_eq!(status(&edge, "/fresh/x").await, 404);
}

#[tokio::test]
async fn a_circuit_that_is_open_stays_open() {
    let upstream = Upstream::start().await;
    let edge = edge_to(&upstream).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let url = break_circuit(&edge, &upstream, &browser).await;
    assert_eq!(browser.client.post(&url).send().await.unwrap().status(), 503);
    edge.rewrite("routes/all.yaml", |text| with_a_route(&text, "fresh"));
    assert!(edge.reload().await);
    assert_eq!(browser.client.post(&url).send().await.unwrap().status(), 503, "nothing about it changed");
    edge.rewrite("conf/legacy_services.yaml", |text| text + "legacy_service_timeouts: { old: 7 }\n");
    assert!(edge.reload().await);
    assert_eq!(browser.client.post(&url).send().await.unwrap().status(), 500, "a changed service begins anew");
}

#[tokio::test]
async fn what_the_old_address_answered_is_not_the_new_ones() {
    let (old, new) = (Upstream::start().await, Upstream::start().await);
    for (upstream, name) in [(&old, "old"), (&new, "new")] {
        upstream.behave(Say::cache_control("max-age=600", &format!("X-Name: {name}\r\n")));
    }
    let edge = edge_to(&old).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let named = async || browser.get(edge.url("/api/v1/proxy/old/x")).await.headers()["x-name"].clone();
    assert_eq!([named().await, named().await], ["old", "old"]);
    assert_eq!(old.count(), 1, "it was stored");
    edge.rewrite("conf/legacy_services.yaml", |text| text.replace(&old.url(), &new.url()));
    assert!(edge.reload().await);
    assert_eq!(named().await, "new");
}

#[tokio::test]
async fn a_service_that_is_gone_has_no_circuit() {
    let upstream = Upstream::start().await;
    let edge = edge_to(&upstream).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    break_circuit(&edge, &upstream, &browser).await;
    let open = "circuit_breaker_status{service=\"old\"}";
    assert_eq!(edge.metric(open).await, 1);
    edge.rewrite("conf/legacy_services.yaml", |text| text.replace("{ old: ", "{ other: "));
    assert!(edge.reload().await);
    eventually!("the gauge is gone", edge.metric(open).await == 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_reads_the_files_again_stands_back_behind_requests_and_nobody_else_does() {
    let upstream = Upstream::start().await;
    let edge = edge_to(&upstream).await;
    assert!(edge.reload().await, "the thread has begun");
    let (reload, others): (Vec<_>, Vec<_>) =
        edge.niceness().into_iter().partition(|(name, _)| name.ends_with("reload"));
    assert_eq!(reload.len(), 1, "{others:?}");
    // No further than 19 (sched(7)): whoever runs the tests may stand back, too.
    assert!(others.iter().all(|(_, nice)| (nice + 10).min(19) == reload[0].1), "{reload:?} and {others:?}");
}

/// Scorecard 46: `SCALE=full` for a thousand.
#[tokio::test]
async fn reloads_under_load_lose_no_request_and_no_memory() {
    let rounds: u32 = if std::env::var("SCALE").is_ok_and(|scale| scale == "full") { 1000 } else { 40 };
    let upstream = Upstream::start().await;
    let edge = Arc::new(edge_to(&upstream).await);
    let browser = Browser::logged_in(&edge, "ada").await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (browser, url) = (browser.clone(), edge.url("/api/own/x"));
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(browser.get(&url).await.status(), 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut settled = 0;
    for round in 1..=rounds {
        let invalid = round % 10 == 0;
        let extra = if invalid { "  - { id: broken }\n".to_owned() } else { with_a_route("", &format!("r{round}")) };
        edge.rewrite("routes/all.yaml", |text| {
            let kept: Vec<_> =
                text.lines().filter(|line| !line.contains("id: r") && !line.contains("broken")).collect();
            format!("{}\n{extra}", kept.join("\n"))
        });
        assert_eq!(edge.reload().await, !invalid, "round {round}");
        if round == rounds / 4 {
            settled = edge.resident_kib();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for one in load {
        one.await.expect("no request failed");
    }
    assert!(answered.load(Ordering::Relaxed) > u64::from(rounds) / 4, "there was load");
    let resident = edge.resident_kib();
    assert!(resident < settled + settled / 4, "{settled} KiB after a quarter of the rounds, {resident} KiB at the end");
}
