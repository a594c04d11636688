//! What many wait for and one request fetches, when the service fails it: they share the failure. And answers
//! whose head never quite comes.

use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::harness::{AUDIENCES, Behaviour, Browser, Edge, RawClient, Say, Setup, Upstream, problem};

const HERD: usize = 100;

/// A circuit that stays closed: it would end the rush of itself.
fn cache_and(service_timeout: &str) -> String {
    format!(
        "legacy_service_timeouts: {{ svc: {service_timeout} }}\n\
         response_cache: {{ enabled: true, default_ttl: 0, max_size: 1000 }}\n\
         circuit_breaker: {{ threshold: 100000, reset_time: 60 }}\n"
    )
}

async fn edge_to(upstream: &Upstream, text: &str) -> (Edge, Browser) {
    let url = upstream.url();
    let text = format!("legacy_services: {{ svc: \"{url}/base\" }}\n{text}");
    let edge = Setup::new().service("own", &url, Some(AUDIENCES[0])).legacy(&text).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    (edge, browser)
}

/// Status, code and time of a herd's answers to one URL.
async fn herd(edge: &Edge, browser: &Browser, rest: &str) -> Vec<(u16, String, Duration)> {
    let url = edge.url(&format!("/api/v1/proxy/svc/{rest}"));
    join_all((0..HERD).map(|_| async {
        let asked = Instant::now();
        let answer = browser.get(&url).await;
        let status = answer.status().as_u16();
        (status, problem(answer).await["code"].as_str().unwrap().to_owned(), asked.elapsed())
    }))
    .await
}

#[tokio::test]
async fn those_who_wait_for_a_flight_share_its_failure() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, &cache_and("4")).await;
    // Its connections break: that may be bad luck, and one of those who waited tries again, for all.
    upstream.behave(Behaviour::CloseAfter(Duration::from_secs(1)));
    let answers = herd(&edge, &browser, "breaks").await;
    assert!(answers.iter().all(|(status, code, _)| (*status, code.as_str()) == (502, "upstream_error")));
    assert_eq!(upstream.heads(), 2, "{HERD} waited");
    // It is silent: whoever waited has had the service's time, and gets no second one.
    upstream.behave(Behaviour::Delay(Duration::from_secs(60)));
    let answers = herd(&edge, &browser, "hangs").await;
    assert!(answers.iter().all(|(status, code, _)| (*status, code.as_str()) == (504, "upstream_timeout")));
    assert_eq!(upstream.heads(), 3, "{HERD} waited");
    println!("the last was told after {:?}", answers.iter().map(|(.., took)| *took).max().unwrap());
    // A failure is nobody's who comes later.
    upstream.behave(Behaviour::Echo);
    for rest in ["breaks", "hangs"] {
        assert_eq!(browser.get(edge.url(&format!("/api/v1/proxy/svc/{rest}"))).await.status(), 200);
    }
}

#[tokio::test]
async fn a_slow_service_does_not_get_the_crowd() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, &cache_and("8")).await;
    // One more asks after five seconds.
    let lines = "Cache-Control: max-age=60\r\n".to_owned();
    upstream.behave(Behaviour::Say(Say { lines, after: Duration::from_millis(6_500), ..Say::default() }));
    let url = edge.url("/api/v1/proxy/svc/slow");
    let asked = Instant::now();
    let answers = join_all((0..HERD).map(|_| browser.get(&url))).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    println!("{} asked, the last was told after {:?}", upstream.heads(), asked.elapsed());
    assert!(upstream.heads() <= 2, "{HERD} asked");
    // One that never answers has its time, and is asked no more than that either.
    upstream.behave(Behaviour::Delay(Duration::from_secs(60)));
    let before = upstream.heads();
    let answers = herd(&edge, &browser, "never").await;
    assert!(answers.iter().all(|(status, code, _)| (*status, code.as_str()) == (504, "upstream_timeout")));
    assert!(upstream.heads() - before <= 2, "{} asked", upstream.heads() - before);
    let mut times: Vec<_> = answers.iter().map(|(.., took)| *took).collect();
    times.sort();
    assert!(times[HERD - 3] < Duration::from_secs(10), "{times:?}");
}

#[tokio::test]
async fn a_head_that_drips_is_late_for_all_of_its_bytes() {
    let upstream = Upstream::start().await;
    let circuit = "legacy_service_timeouts: { svc: 1 }\nresponse_cache: { enabled: false }\n\
                   circuit_breaker: { threshold: 2, reset_time: 60 }\n";
    let (edge, browser) = edge_to(&upstream, circuit).await;
    let url = edge.url("/api/v1/proxy/svc/x");
    assert_eq!(browser.get(&url).await.status(), 200, "on a connection that is kept");
    let before = upstream.heads();
    // Every byte in time, all of them in ten times the time.
    upstream.behave(Behaviour::Drip(Duration::from_millis(200)));
    for attempt in 1..=2 {
        let asked = Instant::now();
        let answer = browser.get(&url).await;
        println!("answered after {:?}", asked.elapsed());
        assert_eq!(answer.status(), 504);
        assert_eq!(problem(answer).await["code"], "upstream_timeout");
        assert_eq!(upstream.heads(), before + attempt, "and not asked again");
    }
    let counter = "service_errors_total{error_type=\"timeout\",service=\"svc\"}";
    eventually!("both count", edge.metric(counter).await == 2);
    assert_eq!(edge.metric("circuit_breaks_total{service=\"svc\"}").await, 1);
}

#[tokio::test]
async fn a_head_that_drips_in_time_arrives() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, &cache_and("8")).await;
    upstream.behave(Behaviour::Drip(Duration::from_millis(5)));
    for _ in 0..3 {
        let answer = browser.get(edge.url("/api/v1/proxy/svc/x")).await;
        assert_eq!((answer.status().as_u16(), answer.headers()["x-slow"].to_str().unwrap()), (200, "yes"));
    }
}

#[tokio::test]
async fn a_slow_upload_is_not_the_services_delay() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, &cache_and("1")).await;
    let mut client = RawClient::connect(edge.address()).await;
    let cookie = browser.cookie_header(&edge.origin);
    let head = format!(
        "POST /api/v1/proxy/svc/x HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\nContent-Length: 8\r\n\r\n",
        edge.port
    );
    client.send(head).await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        client.send("x").await;
    }
    assert_eq!(client.response().await.0.status(), 200);
    assert_eq!(upstream.last().body.length, 8);
}
