//! Large answers: how long they may take, and who is to blame when they take longer.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use reqwest::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Browser, Edge, RawClient, Setup, builder};

/// More than all buffers on the way hold.
const LARGE: usize = 24_000_000;
const OPEN: &str = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";

/// A service that reads a body of so many bytes and then answers with pieces of one size, each so much after the last.
async fn answering(upload: usize, pieces: usize, size: usize, every: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
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
            });
        }
    });
    url
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
