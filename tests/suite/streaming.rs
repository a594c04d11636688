//! Bodies stream both ways, and services that are dead or slow are told apart.

use std::time::{Duration, Instant};

use crate::harness::{AUDIENCES, Behaviour, Browser, Edge, RawClient, Setup, Upstream, builder, free_port, problem};

async fn edge(setup: Setup) -> (Edge, Browser) {
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    (edge, browser)
}

#[tokio::test]
async fn an_event_arrives_within_50_ms_of_being_sent() {
    let upstream = Upstream::start().await;
    let events = "{ id: events, path: \"/events/*\", target_service: own_service, preserve_path: true, auth: session, \
                  streaming: true }";
    let setup = Setup::new().service_alone("own", &upstream.url(), Some(AUDIENCES[0]), "timeout: 1").route(events);
    let (edge, browser) = edge(setup).await;
    // Longer than the service's timeout in all: a streaming route has no total one.
    upstream.behave(Behaviour::Events { count: 41, every: Duration::from_millis(40) });
    let mut client = RawClient::connect(edge.address()).await;
    let cookie = browser.cookie_header(&edge.origin);
    client.send(format!("GET /events/x HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n", edge.port)).await;
    assert_eq!(client.head().await.status(), 200);
    let mut delays = Vec::new();
    loop {
        let chunk = client.reader.chunk().await.unwrap();
        if chunk.is_empty() {
            break;
        }
        let now = upstream.epoch.elapsed().as_micros();
        for event in String::from_utf8(chunk).unwrap().split_terminator("\n\n") {
            delays.push(now - event.strip_prefix("data: ").unwrap().parse::<u128>().unwrap());
        }
    }
    delays.sort_unstable();
    assert_eq!(delays.len(), 41);
    let median = delays[20];
    assert!(median < 50_000, "median {median} µs, worst {} µs", delays[40]);
}

#[tokio::test]
async fn an_upload_streams_at_constant_memory() {
    const PIECE: usize = 64 * 1024;
    // 256 MiB; PINGORA_BFF_UPLOAD_MIB=1024 for the whole promise.
    let mib: u64 = std::env::var("PINGORA_BFF_UPLOAD_MIB").map_or(256, |text| text.parse().unwrap());
    let upstream = Upstream::start().await;
    let (edge, browser) = edge(Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0]))).await;
    let warm = browser.client.post(edge.url("/api/own/x")).body(vec![0; PIECE]).send().await.unwrap();
    assert_eq!(warm.status(), 200);
    let before = edge.resident_kib();
    let pieces = usize::try_from(mib * 1024 * 1024).unwrap() / PIECE;
    let piece = bytes::Bytes::from(vec![0x5a; PIECE]);
    let mut client = RawClient::connect(edge.address()).await;
    let head = format!(
        "POST /api/own/big HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {}\r\nContent-Length: {}\r\n\r\n",
        edge.port,
        browser.cookie_header(&edge.origin),
        pieces * PIECE
    );
    client.send(head).await;
    let mut highest = before;
    for sent in 0..pieces {
        client.send(&piece).await;
        if sent % 128 == 0 {
            highest = highest.max(edge.resident_kib());
        }
    }
    let (head, _) = client.response().await;
    assert_eq!(head.status(), 200);
    assert_eq!(upstream.last().body.length, (pieces * PIECE) as u64);
    let grown = highest.saturating_sub(before);
    assert!(grown < 64 * 1024, "{mib} MiB up: resident memory grew by {grown} KiB");
}

#[tokio::test]
async fn an_upload_of_unknown_length_arrives_whole() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge(Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0]))).await;
    let mut client = RawClient::connect(edge.address()).await;
    let cookie = browser.cookie_header(&edge.origin);
    let host = format!("Host: localhost:{}", edge.port);
    client
        .send(format!("POST /api/own/x HTTP/1.1\r\n{host}\r\nCookie: {cookie}\r\nTransfer-Encoding: chunked\r\n\r\n"))
        .await;
    for n in 0..200_u8 {
        client.send(b"3e8\r\n").await;
        client.send([n; 1000]).await;
        client.send(b"\r\n").await;
    }
    let (head, _) = client.ask("0\r\n\r\n").await;
    assert_eq!(head.status(), 200);
    let received = upstream.last();
    let expected: Vec<u8> = (0..200_u8).flat_map(|n| vec![n; 1000]).collect();
    assert_eq!(received.body.length, 200_000);
    assert!(received.body.start == expected, "the bytes differ");
}

#[tokio::test]
async fn a_dead_service_is_502_and_names_itself() {
    let setup = Setup::new().service("own", &format!("http://127.0.0.1:{}", free_port()), Some(AUDIENCES[0]));
    let (edge, browser) = edge(setup).await;
    let answer = browser.get(edge.url("/api/own/x")).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(problem(answer).await["code"], "upstream_error");
    assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200);
    assert!(edge.metric("service_errors_total{").await >= 1);
}

#[tokio::test]
async fn a_service_that_hangs_up_is_502() {
    let upstream = Upstream::start().await;
    let (edge, browser) = edge(Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0]))).await;
    upstream.behave(Behaviour::Close);
    let answer = browser.post(edge.url("/api/own/x")).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(problem(answer).await["code"], "upstream_error");
    assert_eq!(upstream.heads(), 1, "a POST is never sent twice");
}

#[tokio::test]
async fn a_slow_service_is_504_after_its_timeout() {
    let upstream = Upstream::start().await;
    let slow = "{ id: slow, path: \"/slow/*\", target_service: own_service, preserve_path: true, auth: session }";
    let setup = Setup::new().service_alone("own", &upstream.url(), Some(AUDIENCES[0]), "timeout: 500ms").route(slow);
    let (edge, browser) = edge(setup).await;
    upstream.behave(Behaviour::Delay(Duration::from_secs(5)));
    let started = Instant::now();
    let answer = browser.get(edge.url("/slow/x")).await;
    assert_eq!(answer.status(), 504);
    assert_eq!(problem(answer).await["code"], "upstream_timeout");
    let took = started.elapsed();
    assert!((400..3000).contains(&took.as_millis()), "{took:?}");
}

const EVENTS: &str = "{ id: events, path: \"/events/*\", target_service: own_service, preserve_path: true, auth: session, \
                      streaming: true }";
const PLAIN: &str =
    "{ id: plain, path: \"/plain/*\", target_service: own_service, preserve_path: true, auth: session }";

#[tokio::test]
async fn a_streaming_answer_has_no_longer_to_begin_than_another() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service_alone("own", &upstream.url(), Some(AUDIENCES[0]), "timeout: 500ms");
    let (edge, browser) = edge(setup.route(EVENTS).route(PLAIN)).await;
    let h2 = builder().http2_prior_knowledge().build().unwrap();
    let cookie = browser.cookie_header(&edge.origin);
    let silent = Behaviour::Delay(Duration::from_secs(20));
    let requests = [
        (silent.clone(), browser.client.get(edge.url("/events/x"))),
        (silent.clone(), browser.client.post(edge.url("/events/x")).body("all of it")),
        (silent, h2.get(edge.url("/events/x")).header("cookie", &cookie)),
        // Each byte comes in time, the head does not.
        (Behaviour::Drip(Duration::from_millis(200)), browser.client.get(edge.url("/events/x"))),
        (
            Behaviour::Drip(Duration::from_millis(200)),
            browser.client.get(edge.url("/plain/x")).header("accept", "text/event-stream"),
        ),
    ];
    let late = "service_errors_total{error_type=\"timeout\",service=\"own_service\"}";
    for (number, (behaviour, request)) in requests.into_iter().enumerate() {
        upstream.behave(behaviour);
        let started = Instant::now();
        let answer = request.timeout(Duration::from_secs(5)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), number), (504, number));
        assert_eq!(problem(answer).await["code"], "upstream_timeout");
        let took = started.elapsed();
        assert!((400..3000).contains(&took.as_millis()), "{number}: {took:?}");
        eventually!("it counts", edge.metric(late).await == u64::try_from(number).unwrap() + 1);
    }
}

#[tokio::test]
async fn an_upload_to_a_streaming_route_takes_its_time() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service_alone("own", &upstream.url(), Some(AUDIENCES[0]), "timeout: 500ms");
    let (edge, browser) = edge(setup.route(EVENTS)).await;
    upstream.behave(Behaviour::Delay(Duration::from_millis(250)));
    let mut client = RawClient::connect(edge.address()).await;
    let cookie = browser.cookie_header(&edge.origin);
    let host = format!("Host: localhost:{}", edge.port);
    client
        .send(format!("POST /events/x HTTP/1.1\r\n{host}\r\nCookie: {cookie}\r\nTransfer-Encoding: chunked\r\n\r\n"))
        .await;
    for _ in 0..6 {
        client.send(b"1\r\nx\r\n").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // The pauses were the client's, and the service has its own time still.
    let (head, _) = client.ask("0\r\n\r\n").await;
    assert_eq!((head.status(), upstream.last().body.length), (200, 6));
}
