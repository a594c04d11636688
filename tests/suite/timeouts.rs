//! How long a service is waited for, and who is to blame when it takes longer.

use std::io;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use reqwest::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Browser, Edge, RawClient, Setup, builder};

const SERVICE: Duration = Duration::from_secs(1);
/// More than all buffers on the way hold.
const LARGE: usize = 24_000_000;
const OPEN: &str = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";

/// A service that holds this conversation on each of its connections.
async fn service<F: Future<Output = io::Result<usize>> + Send + 'static>(
    conversation: impl Fn(TcpStream) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(conversation(stream));
        }
    });
    url
}

/// A service that reads a body of so many bytes and then answers with pieces of one size, each so much after the last.
async fn answering(upload: usize, pieces: usize, size: usize, every: Duration) -> String {
    service(move |mut stream| async move {
        let (mut request, piece) = (Vec::new(), vec![b'x'; size]);
        let whole = |request: &[u8]| {
            let head = request.windows(4).position(|end| end == b"\r\n\r\n");
            head.is_some_and(|end| request.len() >= end + 4 + upload)
        };
        while !whole(&request) {
            stream.read_buf(&mut request).await?;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", pieces * size);
        stream.write_all(head.as_bytes()).await?;
        for _ in 0..pieces {
            tokio::time::sleep(every).await;
            stream.write_all(&piece).await?;
        }
        stream.read(&mut [0]).await
    })
    .await
}

/// The service gets one second, as `own_service` and as `svc` of the façade, whose circuit opens at once.
async fn hasty(service: &str) -> Edge {
    let circuit = "circuit_breaker: { threshold: 1, reset_time: 60 }\nlegacy_service_timeouts: { svc: 1 }\n";
    let setup = Setup::new().service_alone("own", service, None, "timeout: 1").route(OPEN);
    setup.legacy(&format!("legacy_services: {{ svc: \"{service}\" }}\n{circuit}")).start().await
}

/// Takes an answer in its own time; how many bytes came before the end.
async fn take(client: Client, url: String, cookie: String, pause: Duration) -> usize {
    let answer = client.get(url).header("cookie", cookie).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let (mut pieces, mut taken, mut due) = (answer.bytes_stream(), 0, 0);
    while let Some(Ok(piece)) = pieces.next().await {
        taken += piece.len();
        if taken > due {
            due += LARGE / 30;
            tokio::time::sleep(pause).await;
        }
    }
    taken
}

#[tokio::test]
async fn who_takes_an_answer_slowly_gets_all_of_it_and_is_no_fault_of_the_service() {
    let edge = hasty(&answering(0, 1, LARGE, Duration::ZERO).await).await;
    let cookie = Browser::logged_in(&edge, "ada").await.cookie_header(&edge.origin);
    let (plain, h2) = (builder().build().unwrap(), builder().http2_prior_knowledge().build().unwrap());
    for path in ["/open/x", "/api/v1/proxy/svc/x"] {
        let take = |client: &Client| take(client.clone(), edge.url(path), cookie.clone(), Duration::from_millis(100));
        let begun = Instant::now();
        let taken = tokio::join!(take(&plain), take(&h2));
        assert_eq!(taken, (LARGE, LARGE), "{path}");
        assert!(begun.elapsed() > Duration::from_secs(2), "longer than the service's time");
    }
    assert_eq!(edge.metric("service_errors_total").await, 0);
    assert_eq!(edge.metric("circuit_breaks_total{service=\"svc\"}").await, 0);
}

#[tokio::test]
async fn the_time_of_an_upload_is_not_taken_from_the_answers() {
    const HEAD: &str = "POST /open/x HTTP/1.1\r\nHost: h\r\nContent-Length: 15\r\n\r\n";
    let edge = hasty(&answering(15, 3, 8, Duration::from_millis(100)).await).await;
    let mut client = RawClient::connect(edge.address()).await;
    client.send(HEAD).await;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send("x").await;
    }
    let (head, body) = client.response().await;
    assert_eq!((head.status(), body.length), (200, 24));
    let quick = "service_latency_seconds_bucket{service=\"own_service\",le=\"1\"}";
    assert_eq!(edge.metric(quick).await, 1, "nor is it the service's");
}

/// A service that writes this much of an answer after so long, and nothing more.
async fn falling_silent(after: Duration, start: &'static str) -> String {
    service(move |mut stream| async move {
        stream.read_buf(&mut Vec::with_capacity(4096)).await?;
        tokio::time::sleep(after).await;
        stream.write_all(start.as_bytes()).await?;
        stream.read(&mut [0; 4096]).await
    })
    .await
}

#[tokio::test]
async fn an_answer_that_falls_silent_ends_with_its_services_time() {
    for start in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhalf",
    ] {
        let edge = hasty(&falling_silent(Duration::from_millis(800), start).await).await;
        let cookie = Browser::logged_in(&edge, "ada").await.cookie_header(&edge.origin);
        let (plain, h2) = (builder().build().unwrap(), builder().http2_prior_knowledge().build().unwrap());
        let ask = async |client: &Client, path: &str| {
            let begun = Instant::now();
            let answer = client.get(edge.url(path)).header("cookie", &cookie).send().await.unwrap();
            assert!(answer.bytes().await.is_err(), "half an answer must not look whole: {start}");
            begun.elapsed()
        };
        for took in <[Duration; 3]>::from(tokio::join!(
            ask(&plain, "/open/x"),
            ask(&h2, "/open/x"),
            ask(&plain, "/api/v1/proxy/svc/x")
        )) {
            assert!(took >= SERVICE, "it has its time: {took:?}");
            assert!(took < SERVICE.mul_f32(1.6), "and no more: {took:?}");
        }
        assert_eq!(edge.metric("service_errors_total{error_type=\"timeout\",service=\"own_service\"}").await, 2);
        assert_eq!(edge.metric("circuit_breaks_total{service=\"svc\"}").await, 1);
    }
}

#[tokio::test]
async fn a_service_gains_no_time_by_inviting_a_body_that_is_there() {
    let url = service(move |mut stream| async move {
        stream.read_buf(&mut Vec::with_capacity(4096)).await?;
        for _ in 0..20 {
            tokio::time::sleep(SERVICE / 3).await;
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        stream.read(&mut [0]).await
    })
    .await;
    let edge = hasty(&url).await;
    let client = builder().build().unwrap();
    let begun = Instant::now();
    assert_eq!(client.get(edge.url("/open/x")).send().await.unwrap().status(), 504);
    assert_eq!(client.post(edge.url("/open/x")).body("x").send().await.unwrap().status(), 504);
    assert!(begun.elapsed() < SERVICE * 3, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_upload_may_pause_for_longer_than_its_service_may_take() {
    let edge = hasty(&answering(10, 1, 8, Duration::ZERO).await).await;
    let mut client = RawClient::connect(edge.address()).await;
    client.send("POST /open/x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nfirst").await;
    tokio::time::sleep(SERVICE.mul_f32(1.5)).await;
    client.send("later").await;
    assert_eq!(client.response().await.0.status(), 200);
}

#[tokio::test]
async fn a_service_that_takes_nothing_is_late_in_time_whatever_a_client_may_take() {
    let edge = hasty(&crate::slow_clients::deaf().await).await;
    let (plain, h2) = (builder().build().unwrap(), builder().http2_prior_knowledge().build().unwrap());
    let upload = async |client: &Client| {
        let begun = Instant::now();
        let answer = client.post(edge.url("/open/x")).body(vec![b'x'; 9_000_000]).send().await.unwrap();
        assert_eq!(answer.status(), 504);
        begun.elapsed()
    };
    let (on_plain, on_h2) = tokio::join!(upload(&plain), upload(&h2));
    for took in [on_plain, on_h2] {
        assert!(took >= SERVICE && took < SERVICE.mul_f32(1.7), "{took:?}");
    }
}

#[tokio::test]
async fn a_trial_with_a_slow_client_closes_the_circuit() {
    // The first call breaks; the trial and all after it are answered well.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        drop(listener.accept().await.unwrap());
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.read_buf(&mut Vec::with_capacity(4096)).await?;
                let head = format!("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: {LARGE}\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&vec![b'x'; LARGE]).await
            });
        }
    });
    let setup = Setup::new().service_alone("own", &url, None, "timeout: 1").route(OPEN);
    let circuit = "circuit_breaker: { threshold: 1, reset_time: 3 }\nlegacy_service_timeouts: { svc: 1 }\n";
    let edge = setup.legacy(&format!("legacy_services: {{ svc: \"{url}\" }}\n{circuit}")).start().await;
    let cookie = Browser::logged_in(&edge, "ada").await.cookie_header(&edge.origin);
    let client = builder().build().unwrap();
    let ask = |path: &str| client.post(edge.url(path)).header("cookie", &cookie).send();
    assert_eq!(ask("/api/v1/proxy/svc/x").await.unwrap().status(), 502);
    eventually!("it is open", edge.metric("circuit_breaks_total{service=\"svc\"}").await == 1);
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let trial = ask("/api/v1/proxy/svc/x").await.unwrap();
    assert_eq!(trial.status(), 200);
    eventually!("nobody waits for who does not read", ask("/api/v1/proxy/svc/y").await.unwrap().status() == 200);
    assert_eq!(edge.metric("circuit_breaks_total{service=\"svc\"}").await, 1);
    drop(trial);
}

#[tokio::test]
async fn what_the_cache_fetches_at_a_head_has_its_services_time() {
    let edge = hasty(&falling_silent(Duration::ZERO, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nabc").await).await;
    let cookie = Browser::logged_in(&edge, "ada").await.cookie_header(&edge.origin);
    let url = edge.url("/api/v1/proxy/svc/x");
    let answer = builder().build().unwrap().head(url).header("cookie", &cookie).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    eventually!("the service was late", edge.metric("circuit_breaks_total{service=\"svc\"}").await == 1);
    let late = "service_errors_total{error_type=\"timeout\",service=\"svc\"}";
    eventually!("which is told, though its client has what it asked for", edge.metric(late).await == 1);
    eventually!("and its place is free", edge.metric("http_requests_in_flight").await == 0);
}

/// A service that answers the first request of each connection, and hangs up at the second.
async fn dying() -> String {
    service(|mut stream| async move {
        for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""] {
            let mut request = Vec::new();
            while !request.ends_with(&[b'~'; 80]) {
                if stream.read_buf(&mut request).await? == 0 {
                    return Ok(0);
                }
            }
            stream.write_all(answer.as_bytes()).await?;
        }
        Ok(0)
    })
    .await
}

#[tokio::test]
async fn a_body_that_is_sent_again_is_no_larger() {
    const ROUTE: &str = "{ id: small, path: \"/small/*\", target_service: own_service, preserve_path: true, auth: none, \
                         max_body_size: 100 }";
    let setup = Setup::new().service_alone("own", &dying().await, None, "timeout: 10").route(ROUTE);
    let edge = setup.start().await;
    let client = builder().build().unwrap();
    let put = async || client.put(edge.url("/small/x")).body("~".repeat(80)).send().await.unwrap().status();
    // Each of them but the first meets a connection that dies, and is sent again on a new one.
    for round in 0..4 {
        assert_eq!(put().await, 200, "{round}");
    }
}

#[tokio::test]
async fn a_websockets_handshake_is_answered_in_its_services_time() {
    const LIVE: &str = "{ id: live, path: \"/live/*\", target_service: own_service, preserve_path: true, auth: none, \
                        websocket: true }";
    let setup = Setup::new().service_alone("own", &falling_silent(Duration::ZERO, "H").await, None, "timeout: 1");
    let edge = setup.route(LIVE).start().await;
    let begun = Instant::now();
    let mut client = RawClient::connect(edge.address()).await;
    let handshake = format!(
        "GET /live/x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {}\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        edge.origin
    );
    client.send(handshake).await;
    assert_eq!(client.response().await.0.status(), 504);
    assert!(begun.elapsed() >= SERVICE);
}

#[tokio::test]
async fn a_head_ends_with_the_head() {
    let edge = hasty(&crate::slow_clients::endless().await).await;
    let cookie = Browser::logged_in(&edge, "ada").await.cookie_header(&edge.origin);
    let h2 = builder().http2_prior_knowledge().build().unwrap();
    for number in 0..3 {
        let url = edge.url(&format!("/api/v1/proxy/svc/{number}"));
        let begun = Instant::now();
        let answer = h2.head(url).header("cookie", &cookie).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["x-cache"].to_str().unwrap()), (200, "MISS"));
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
        assert!(begun.elapsed() < SERVICE, "{:?}", begun.elapsed());
    }
    assert_eq!(edge.metric("circuit_breaks_total{service=\"svc\"}").await, 0);
}
