//! How a service frames its answer is between it and the edge: what a client is told can be read in one way only.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Behaviour, Edge, RawClient, Setup, Upstream, builder, raw};

async fn edge() -> (Edge, Upstream) {
    let upstream = Upstream::start().await;
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 10").route(open);
    (setup.start().await, upstream)
}

const GET: &str = "GET /open/x HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_length_is_told_once() {
    let (edge, upstream) = edge().await;
    for lines in
        ["Content-Length: 2\r\nContent-Length: 2\r\n", "Content-Length: 2, 2\r\n", "Content-Length: 2 ,2,2\r\n"]
    {
        upstream.behave(Behaviour::Bytes(format!("HTTP/1.1 200 OK\r\n{lines}\r\nok").into_bytes()));
        let mut client = RawClient::connect(edge.address()).await;
        client.send(GET).await;
        let head = client.head().await;
        assert_eq!((head.status(), head.all("content-length")), (200, vec!["2".to_owned()]), "{lines}");
        assert_eq!(client.reader.body(&head).await.unwrap().start, b"ok", "{lines}");
    }
}

#[tokio::test]
async fn what_has_no_body_has_no_length() {
    let (edge, upstream) = edge().await;
    let early = "HTTP/1.1 103 Early Hints\r\nContent-Length: 6\r\nLink: </a>\r\n\r\n";
    for lines in ["Content-Length: 9\r\n", "Transfer-Encoding: chunked\r\n"] {
        upstream.behave(Behaviour::Bytes(format!("{early}HTTP/1.1 204 No Content\r\n{lines}\r\n").into_bytes()));
        let mut client = RawClient::connect(edge.address()).await;
        client.send(GET).await;
        for status in [103, 204] {
            let head = client.head().await;
            assert_eq!(head.status(), status, "{lines}");
            assert_eq!((head.one("content-length"), head.one("transfer-encoding")), (None, None), "{lines}");
        }
    }
}

#[tokio::test]
async fn a_coding_that_nobody_asked_for_is_an_error() {
    let (edge, upstream) = edge().await;
    for (lines, status) in [
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 502),
        ("Transfer-Encoding: chunked, chunked\r\n", 502),
        ("Transfer-Encoding: gzip, chunked\r\n", 502),
        ("Transfer-Encoding: x\r\n", 502),
        ("Transfer-Encoding: identity\r\n", 502),
        ("Transfer-Encoding: identity\r\nContent-Length: 100\r\n", 502),
        ("Transfer-Encoding: Chunked\r\n", 200),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\n2\r\nok\r\n0\r\n\r\n");
        upstream.behave(Behaviour::Bytes(answer.into_bytes()));
        assert_eq!(raw(edge.address(), GET).await.0.status(), status, "{lines}");
    }
}

#[tokio::test]
async fn an_answer_that_stops_before_its_end_is_no_whole_one() {
    let upstream = Upstream::start().await;
    let hasty = "{ id: hasty, path: \"/hasty/*\", target_service: own_service, preserve_path: true, auth: none }";
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 0.5").route(hasty);
    let edge = setup.start().await;
    for lines in ["", "Transfer-Encoding: chunked\r\n", "Content-Length: 9\r\n"] {
        let body = if lines.contains("chunked") { "5\r\nhello\r\n" } else { "hello" };
        upstream.behave(Behaviour::Stall(format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}").leak()));
        let mut client = RawClient::connect(edge.address()).await;
        client.send("GET /hasty/x HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let head = client.head().await;
        assert!(client.reader.body(&head).await.is_err(), "cut off, not padded: {lines}");
    }
}

#[tokio::test]
async fn nothing_of_an_answer_is_held_back_for_the_rest_of_it() {
    let (edge, upstream) = edge().await;
    for lines in ["Content-Length: 9\r\n", "Transfer-Encoding: chunked\r\n"] {
        let body = if lines.contains("chunked") { "5\r\nhello\r\n" } else { "hello" };
        for body in ["", body] {
            upstream.behave(Behaviour::Stall(format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}").leak()));
            let mut client = RawClient::connect(edge.address()).await;
            client.send(GET).await;
            let asked = std::time::Instant::now();
            assert_eq!(client.head().await.status(), 200, "{lines}");
            let mut here = Vec::new();
            let wait = std::time::Duration::from_millis(200);
            let _ = tokio::time::timeout(wait, client.reader.rest(&mut here)).await;
            assert!(String::from_utf8_lossy(&here).contains(body.trim_start_matches("5\r\n").trim_end()), "{lines}");
            assert!(asked.elapsed().as_secs() < 5, "long before the service's time is over");
        }
    }
}

#[tokio::test]
async fn an_old_client_hears_one_answer() {
    let (edge, upstream) = edge().await;
    upstream.behave(Behaviour::Bytes(
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            .to_vec(),
    ));
    let post = "POST /open/x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(raw(edge.address(), post).await.0.status(), 200);
    assert_eq!(upstream.last().head.one("expect"), None, "nobody waits for a word that may not be said");
}

#[tokio::test]
async fn an_answer_has_our_version() {
    let (edge, upstream) = edge().await;
    for (lines, asked, framing) in [
        ("Content-Length: 2\r\nConnection: keep-alive\r\n", "1.1", Some("2")),
        ("", "1.1", None),
        ("Content-Length: 2\r\n", "1.0", Some("2")),
        ("", "1.0", None),
    ] {
        upstream.behave(Behaviour::Bytes(format!("HTTP/1.0 200 OK\r\n{lines}\r\nok").into_bytes()));
        let mut client = RawClient::connect(edge.address()).await;
        client.send(format!("GET /open/x HTTP/{asked}\r\nHost: h\r\n\r\n")).await;
        let head = client.head().await;
        assert_eq!(head.start_line(), "HTTP/1.1 200 OK", "{lines}");
        assert_eq!(head.one("content-length").as_deref(), framing, "{lines}");
        let chunked = (framing.is_none() && asked == "1.1").then_some("chunked");
        assert_eq!(head.one("transfer-encoding").as_deref(), chunked, "{lines}");
        if framing.is_none() && asked == "1.0" {
            let mut rest = Vec::new();
            client.reader.rest(&mut rest).await;
            assert_eq!(rest, b"ok", "it ends with the connection");
        } else {
            assert_eq!(client.reader.body(&head).await.unwrap().start, b"ok", "{lines}");
        }
    }
}

#[tokio::test]
async fn chunks_of_a_version_that_knows_none_are_an_error() {
    let (edge, upstream) = edge().await;
    for lines in ["Transfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n"] {
        let answer = format!("HTTP/1.0 200 OK\r\n{lines}\r\n2\r\nok\r\n0\r\n\r\n");
        upstream.behave(Behaviour::Bytes(answer.into_bytes()));
        assert_eq!(raw(edge.address(), GET).await.0.status(), 502, "{lines}");
    }
}

#[tokio::test]
async fn what_is_about_the_hop_to_the_service_ends_here() {
    let (edge, upstream) = edge().await;
    let hop = "TE: x\r\nUpgrade: h2c\r\nKeep-Alive: timeout=5\r\nTrailer: x-sum\r\n";
    for (status, upgrade) in [(200, None), (426, Some("h2c"))] {
        let answer = format!("HTTP/1.1 {status} Said\r\n{hop}Content-Length: 2\r\n\r\nok");
        upstream.behave(Behaviour::Bytes(answer.into_bytes()));
        let (head, _) = raw(edge.address(), GET).await;
        assert_eq!(head.status(), status);
        assert_eq!((head.one("te"), head.one("keep-alive")), (None, None), "{status}");
        assert_eq!(head.one("upgrade").as_deref(), upgrade, "{status}");
        assert_eq!(head.one("trailer").as_deref(), Some("x-sum"), "{status}");
        // RFC 9113 §8.2.2: clients take it for a malformed answer.
        let h2 = builder().http2_prior_knowledge().build().unwrap();
        let answer = h2.get(edge.url("/open/x")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (status, "ok"));
    }
}

/// A service that answers before it has the whole request, and hangs up: 413, 401, a redirect.
#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_sends() {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", service.local_addr().unwrap());
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let edge = Setup::new().service_alone("own", &url, None, "timeout: 10").route(open).start().await;
    let mut client = RawClient::connect(edge.address()).await;
    client.send("POST /open/x HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n").await;
    client.send(&"x".repeat(64 * 1024)).await;
    let (mut asked, _) = service.accept().await.unwrap();
    assert!(asked.read(&mut [0; 4096]).await.unwrap() > 0);
    let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge";
    asked.write_all(answer.as_bytes()).await.unwrap();
    // With unread bytes: a reset.
    drop(asked);
    // A client that reads when it has sent what it has, or cannot send any more.
    for _ in 0..6 {
        client.send(&"x".repeat(64 * 1024)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let head = client.head().await;
    assert_eq!(head.status(), 413);
    assert_eq!(client.reader.body(&head).await.unwrap().start, b"large");
}
