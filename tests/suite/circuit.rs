//! The circuit under load: what reaches a service that fails, hangs, comes back. Scorecard 37 to 41.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::frames::{PREFACE, fields, frame};
use crate::harness::{
    AUDIENCES, Behaviour, Browser, Edge, RawClient, Say, Setup, Upstream, builder, http_client, problem, raw,
};

/// The scorecard's numbers with `SCALE=full`, smaller ones otherwise.
fn scale(full: usize, usual: usize) -> usize {
    if std::env::var("SCALE").is_ok_and(|text| text == "full") { full } else { usual }
}

async fn edge_to(upstream: &Upstream, circuit: &str, concurrent: usize) -> (Edge, Browser) {
    let limits = format!("request_limits: {{ max_concurrent: {concurrent} }}\ncircuit_breaker: {circuit}");
    edge_at(&upstream.url(), &format!("response_cache: {{ enabled: false }}\n{limits}\n")).await
}

async fn edge_at(url: &str, more: &str) -> (Edge, Browser) {
    let text = format!(
        "legacy_services: {{ svc: \"{url}/base\", other: \"{url}/other\" }}\nlegacy_service_timeouts: {{ svc: 5 }}\n{more}"
    );
    let edge = Setup::new().service("own", url, Some(AUDIENCES[0])).legacy(&text).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    (edge, browser)
}

fn svc(edge: &Edge) -> String {
    edge.url("/api/v1/proxy/svc/x")
}

async fn state(edge: &Edge) -> String {
    let health = http_client().get(edge.url("/api/v1/proxy/health")).send().await.unwrap();
    health.json::<Value>().await.unwrap()["services"]["svc"]["state"].as_str().unwrap().to_owned()
}

/// The circuit hears of it first: whoever asks again at once must not find it as it was. Many services, for a chance each.
#[tokio::test]
async fn who_is_told_of_a_refused_connection_finds_the_circuit_open() {
    let upstream = Upstream::start().await;
    let services: Vec<String> = (0..100).map(|number| format!("s{number}: \"http://127.0.0.1:9/\"")).collect();
    let text = format!(
        "legacy_services: {{ {} }}\nresponse_cache: {{ enabled: false }}\ncircuit_breaker: {{ threshold: 1, reset_time: 600 }}\n",
        services.join(", ")
    );
    let edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).legacy(&text).start().await;
    let cookie = Browser::logged_in(&edge, "ada").await.cookie_header(&edge.origin);
    for number in 0..100 {
        let ask = format!(
            "GET /api/v1/proxy/s{number}/x HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n",
            edge.port
        );
        let told = (raw(edge.address(), &ask).await.0.status(), raw(edge.address(), &ask).await.0.status());
        assert_eq!(told, (502, 503), "s{number}");
    }
}

#[tokio::test]
async fn a_failing_service_is_asked_up_to_the_threshold_and_then_once_a_period() {
    const THRESHOLD: usize = 5;
    const EVERY: Duration = Duration::from_millis(5);
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, "{ threshold: 5, reset_time: 1 }", 256).await;
    upstream.behave(Behaviour::Status(500));
    let (started, span) = (Instant::now(), Duration::from_secs(scale(30, 4) as u64));
    let mut calls = Vec::new();
    while started.elapsed() < span {
        calls.push(tokio::spawn({
            let (client, url) = (browser.client.clone(), svc(&edge));
            async move {
                let asked = Instant::now();
                let answer = client.get(url).send().await.unwrap();
                let retry =
                    answer.headers().get("retry-after").map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
                (answer.status().as_u16(), retry, asked.elapsed())
            }
        }));
        tokio::time::sleep(EVERY).await;
    }
    let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    let periods = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    let reached = upstream.heads();
    assert!(answers.iter().all(|(status, _, _)| matches!(status, 500 | 503)));
    assert!(answers.iter().all(|(status, retry, _)| (*status == 503) == (*retry == Some(1))));
    assert_eq!(answers.iter().filter(|(status, ..)| *status == 500).count(), reached);
    // Those that were under way when the threshold was met: on one machine, a few.
    let under_way = 10;
    assert!((THRESHOLD..=THRESHOLD + under_way + periods).contains(&reached), "{reached} in {periods} periods");
    let mut refused: Vec<_> = answers.iter().filter(|(status, ..)| *status == 503).map(|(.., took)| *took).collect();
    refused.sort();
    println!(
        "{} calls in {span:?}: {reached} reached the service; refused within {:?} (median), {:?} (99 of 100)",
        answers.len(),
        refused[refused.len() / 2],
        refused[refused.len() * 99 / 100]
    );
}

#[tokio::test]
async fn the_gauge_says_half_open_though_nobody_asks() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, "{ threshold: 1, reset_time: 1 }", 256).await;
    upstream.behave(Behaviour::Status(500));
    browser.get(svc(&edge)).await;
    let gauge = async || edge.metric("circuit_breaker_status{service=\"svc\"}").await;
    assert_eq!(gauge().await, 1);
    eventually!("time alone opens it by half", gauge().await == 2);
    assert_eq!(state(&edge).await, "half_open");
}

#[tokio::test]
async fn a_hanging_service_holds_nobody_longer_than_its_time_and_nobody_else_at_all() {
    const PLACES: usize = 20;
    let upstream = Upstream::start().await;
    let healthy = Upstream::start().await;
    let text = format!(
        "legacy_services: {{ svc: \"{}\", other: \"{}\" }}\nlegacy_service_timeouts: {{ svc: 1 }}\n\
         response_cache: {{ enabled: false }}\nrequest_limits: {{ max_concurrent: {PLACES} }}\n\
         circuit_breaker: {{ threshold: 1000, reset_time: 60 }}\n",
        upstream.url(),
        healthy.url()
    );
    let edge = Setup::new().service("own", &healthy.url(), Some(AUDIENCES[0])).legacy(&text).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    upstream.behave(Behaviour::Delay(Duration::from_secs(60)));
    let hang = join_all((0..200).map(|_| async {
        let asked = Instant::now();
        let status = browser.get(svc(&edge)).await.status().as_u16();
        (status, asked.elapsed())
    }));
    let others = async {
        eventually!("the service is full", upstream.heads() == PLACES);
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            for path in ["/api/v1/proxy/other/x", "/api/own/x"] {
                let asked = Instant::now();
                assert_eq!(browser.get(edge.url(path)).await.status(), 200);
                slowest = slowest.max(asked.elapsed());
            }
        }
        slowest
    };
    let (answers, slowest) = tokio::join!(hang, others);
    assert_eq!(upstream.heads(), PLACES, "never more at once");
    assert_eq!(answers.iter().filter(|(status, _)| *status == 504).count(), PLACES);
    assert_eq!(answers.iter().filter(|(status, _)| *status == 503).count(), 200 - PLACES);
    let longest = answers.iter().map(|(_, took)| *took).max().unwrap();
    println!("longest {longest:?}; others at most {slowest:?}");
    assert!(longest < Duration::from_secs(20), "{longest:?}");
}

#[tokio::test]
async fn a_trial_that_hangs_fails_in_its_time_and_the_next_one_heals() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, "{ threshold: 1, reset_time: 1 }", 256).await;
    upstream.behave(Behaviour::Status(500));
    assert_eq!(browser.get(svc(&edge)).await.status(), 500);
    upstream.behave(Behaviour::Delay(Duration::from_secs(60)));
    eventually!("half-open", state(&edge).await == "half_open");
    assert_eq!(browser.get(svc(&edge)).await.status(), 504, "the trial");
    eventually!("it counted as failed", edge.metric("circuit_breaks_total{service=\"svc\"}").await == 2);
    upstream.behave(Behaviour::Echo);
    eventually!("half-open again", state(&edge).await == "half_open");
    assert_eq!(browser.get(svc(&edge)).await.status(), 200);
    assert_eq!(state(&edge).await, "closed");
    // A trial whose client leaves frees its place and says nothing about the service.
    upstream.behave(Behaviour::Status(500));
    assert_eq!(browser.get(svc(&edge)).await.status(), 500);
    eventually!("half-open for the third time", state(&edge).await == "half_open");
    upstream.behave(Behaviour::Delay(Duration::from_millis(700)));
    let before = upstream.count();
    let leaver = tokio::spawn({
        let (client, url) = (browser.client.clone(), svc(&edge));
        async move { client.get(url).send().await.is_ok() }
    });
    eventually!("the trial is under way", upstream.count() > before);
    leaver.abort();
    upstream.behave(Behaviour::Echo);
    eventually!("the next request is the trial", browser.get(svc(&edge)).await.status() == 200);
    assert_eq!(state(&edge).await, "closed");
}

#[tokio::test]
async fn storms_of_client_faults_open_no_circuit() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, "{ threshold: 3, reset_time: 60 }", 256).await;
    let storm = scale(2000, 200);
    for status in [404, 401, 429] {
        upstream.behave(Behaviour::Status(status));
        for _ in 0..storm / 50 {
            let answers = join_all((0..50).map(|_| browser.get(svc(&edge)))).await;
            assert!(answers.iter().all(|answer| answer.status() == status));
        }
    }
    upstream.behave(Behaviour::Delay(Duration::from_millis(200)));
    for _ in 0..storm / 50 {
        // Half of them leave.
        let calls = (0..50_u64).map(|number| {
            let patience = if number % 2 == 0 { Duration::from_millis(60) } else { Duration::from_secs(20) };
            tokio::time::timeout(patience, browser.get(svc(&edge)))
        });
        let answers = join_all(calls).await;
        assert!(answers.into_iter().flatten().all(|answer| answer.status() == 200));
    }
    assert_eq!(state(&edge).await, "closed");
    assert_eq!(edge.metric("circuit_breaks_total{service=\"svc\"}").await, 0);
}

/// It would be told in HTTP/2, of which an old service knows nothing.
#[tokio::test]
async fn who_calls_a_request_a_grpc_call_opens_no_circuit() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, "{ threshold: 1, reset_time: 60 }", 256).await;
    let h2 = builder().http2_prior_knowledge().build().unwrap();
    for kind in ["application/grpc", "application/grpc+proto"] {
        let call =
            h2.post(svc(&edge)).header("cookie", browser.cookie_header(&edge.origin)).header("content-type", kind);
        assert_eq!(call.body("body").send().await.unwrap().status(), 200, "{kind}");
        assert_eq!((upstream.last().body.start, state(&edge).await), (b"body".to_vec(), "closed".to_owned()), "{kind}");
    }
}

#[tokio::test]
async fn under_resets_a_post_is_never_sent_twice_and_a_get_at_most_once_more() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, "{ threshold: 1000000, reset_time: 60 }", 256).await;
    upstream.behave(Behaviour::ResetEvery(3));
    let all = scale(200_000, 600);
    for begin in (0..all).step_by(50) {
        let calls = (begin..begin + 50).map(|number| {
            let url = format!("{}?{number}", svc(&edge));
            let post = browser.client.post(&url).body("once");
            let request = if number % 2 == 0 { post } else { browser.client.get(&url) };
            async move { request.send().await.unwrap().status().as_u16() }
        });
        let answers = join_all(calls).await;
        assert!(answers.iter().all(|status| matches!(status, 200 | 502)), "{answers:?}");
    }
    let mut sent: HashMap<String, usize> = HashMap::new();
    for received in upstream.all() {
        *sent.entry(received.head.start_line()).or_default() += 1;
    }
    let most =
        |method: &str| sent.iter().filter(|(line, _)| line.starts_with(method)).map(|(_, times)| *times).max().unwrap();
    println!(
        "{all} requests, {} reached the service; a POST at most {}, a GET at most {}",
        upstream.count(),
        most("POST"),
        most("GET")
    );
    assert_eq!(most("POST"), 1, "no side effect happens twice");
    assert!(most("GET") <= 2);
    assert!(upstream.count() <= all + all / 5, "retries stay below a fifth of the load");
}

/// One request on a kept connection.
fn request(edge: &Edge, browser: &Browser, method: &str, body: &str) -> String {
    let cookie = browser.cookie_header(&edge.origin);
    let length = if method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!(
        "{method} /api/v1/proxy/svc/x HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n{length}\r\n{body}",
        edge.port
    )
}

/// Twenty requests on HTTP/2 whose answers, whatever they are, wait for a window that stays closed.
async fn unread(edge: &Edge, browser: &Browser) -> TcpStream {
    let cookie = browser.cookie_header(&edge.origin);
    let host = format!("localhost:{}", edge.port);
    let (path, mut bytes) = ("/api/v1/proxy/svc/x", [PREFACE, &frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat());
    let head = [(":method", "GET"), (":scheme", "http"), (":authority", &host), (":path", path), ("cookie", &cookie)];
    (0..20).for_each(|number| bytes.extend(frame(1, 5, number * 2 + 1, &fields(&head))));
    let mut client = TcpStream::connect(edge.address()).await.unwrap();
    client.write_all(&bytes).await.unwrap();
    client
}

#[tokio::test]
async fn a_client_that_takes_no_answer_holds_no_place_at_the_service() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, "{ threshold: 1, reset_time: 60 }", 4).await;
    let _answered = unread(&edge, &browser).await;
    eventually!("it is asked", upstream.heads() >= 4);
    eventually!("its places are free again", browser.get(svc(&edge)).await.status() == 200);
    upstream.behave(Behaviour::Status(500));
    assert_eq!(browser.get(svc(&edge)).await.status(), 500);
    let _refused = unread(&edge, &browser).await;
    eventually!("they all wait to be told", edge.metric("http_requests_in_flight").await >= 20);
    assert_eq!(problem(browser.get(svc(&edge)).await).await["code"], "circuit_open");
}

#[tokio::test]
async fn what_is_stored_and_was_only_validated_holds_no_place_while_its_client_takes_nothing() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_at(&upstream.url(), "request_limits: { max_concurrent: 4 }\n").await;
    upstream.behave(Say::cache_control("no-cache", "ETag: \"1\"\r\n"));
    assert_eq!(browser.get(svc(&edge)).await.status(), 200);
    let _client = unread(&edge, &browser).await;
    eventually!("it is asked", upstream.heads() >= 5);
    let other = edge.url("/api/v1/proxy/svc/y");
    eventually!("the places are free again", browser.get(&other).await.status() == 200);
}

/// It has said all before it has the request, and is busy with the rest of that.
#[tokio::test]
async fn who_still_uploads_keeps_the_place() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 403 Early\r\nContent-Length: 2\r\n\r\nno").await;
                tokio::time::sleep(Duration::from_secs(60)).await;
            });
        }
    });
    let (edge, browser) = edge_at(&url, "request_limits: { max_concurrent: 1 }\n").await;
    let mut client = RawClient::connect(edge.address()).await;
    client.send(request(&edge, &browser, "POST", "ten bytes!").replace("Length: 10", "Length: 100")).await;
    assert_eq!(client.head().await.status(), 403);
    assert_eq!(problem(browser.get(svc(&edge)).await).await["code"], "rate_limited");
}

#[tokio::test]
async fn a_refused_request_leaves_its_connection_usable() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge_to(&upstream, "{ threshold: 1, reset_time: 60 }", 1).await;
    let mut client = RawClient::connect(edge.address()).await;
    // It takes the place until it is told to go: however slow this machine is, the others find none.
    upstream.behave(Behaviour::Delay(Duration::from_secs(60)));
    let busy = tokio::spawn({
        let (client, url) = (browser.client.clone(), svc(&edge));
        async move { client.get(url).send().await.unwrap().status() }
    });
    eventually!("the only place is taken", upstream.count() == 1);
    for (method, body) in [("GET", ""), ("POST", "short")] {
        let (head, text) = client.ask(request(&edge, &browser, method, body)).await;
        assert_eq!((head.status(), head.one("connection").as_deref()), (503, Some("keep-alive")), "{method}");
        assert!(String::from_utf8_lossy(&text.start).contains("rate_limited"));
    }
    busy.abort();
    upstream.behave(Behaviour::Status(500));
    eventually!("the place is free", client.ask(request(&edge, &browser, "GET", "")).await.0.status() == 500);
    for (method, body) in [("GET", ""), ("POST", "short"), ("HEAD", "")] {
        client.send(request(&edge, &browser, method, body)).await;
        let head = client.head().await;
        assert_eq!((head.status(), head.one("connection").as_deref()), (503, Some("keep-alive")), "{method}");
        if method != "HEAD" {
            let text = client.reader.body(&head).await.unwrap();
            assert!(String::from_utf8_lossy(&text.start).contains("circuit_open"));
        }
    }
    let refused = browser.get(svc(&edge)).await;
    assert_eq!(problem(refused).await["code"], "circuit_open");
    assert_eq!(upstream.count(), 2, "nobody was asked");
}
