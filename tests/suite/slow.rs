//! Clients that take their time: each is closed at its limit, and nobody else notices.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{Edge, RawClient, Setup, Upstream, raw};

const OPEN: &str = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";

/// Of each kind; `SCALE=full` for the whole promise, 2 000 in all.
fn many() -> usize {
    if std::env::var("SCALE").is_ok_and(|scale| scale == "full") { 300 } else { 100 }
}

fn impatient(upstream: &str) -> Setup {
    let setup = Setup::new().service_alone("own", upstream, None, "timeout: 30").route(OPEN);
    setup.server("header_timeout: 1").server("body_timeout: 2").server("idle_timeout: 3")
}

/// Sends the bytes, then one every tenth of a second; everything that was answered.
async fn dawdle(edge: std::net::SocketAddr, bytes: &'static [u8], then: Option<&'static [u8]>) -> String {
    let mut stream = TcpStream::connect(edge).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let drip = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let Some(byte) = then else { continue };
            if writer.write_all(byte).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut said = Vec::new();
    let closed = async {
        let _ = timeout(Duration::from_secs(20), reader.read_to_end(&mut said)).await.expect("it is closed");
    };
    tokio::select! { () = closed => {}, () = drip => {} }
    String::from_utf8_lossy(&said).into_owned()
}

/// Requests of others until `all` are over: each gets its own answer.
async fn go_on_beside(edge: &Edge, mut all: JoinSet<(&'static str, String)>) -> Vec<(&'static str, String)> {
    let mut done = Vec::new();
    let mut client = RawClient::connect(edge.address()).await;
    let mut number = 0;
    loop {
        tokio::select! {
            one = all.join_next() => match one {
                Some(one) => done.push(one.unwrap()),
                None => return done,
            },
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                number += 1;
                let (head, body) = client.ask(format!("GET /open/{number} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
                assert_eq!(head.status(), 200);
                assert!(String::from_utf8_lossy(&body.start).contains(&format!("\"/open/{number}\"")));
            }
        }
    }
}

#[tokio::test]
async fn slow_requests_are_closed_at_their_limits_and_disturb_nobody() {
    let upstream = Upstream::start().await;
    let edge = impatient(&upstream.url()).start().await;
    let mut all = JoinSet::new();
    let address = edge.address();
    for _ in 0..many() {
        for (expected, bytes, then) in [
            ("", &b""[..], None),
            ("408", b"GET /op", None),
            ("408", b"GET /open/x HTTP/1.1\r\nHost: h\r\nX: ", Some(&b"x"[..])),
            ("408", b"POST /open/x HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\nx", None),
            ("408", b"POST /open/x HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\nx", Some(b"x")),
            ("408", b"POST /open/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nFFFF\r\n", Some(b"x")),
            ("", b"PRI * HTTP/2.0\r\n\r\nSM\r\n", None),
        ] {
            all.spawn(async move { (expected, dawdle(address, bytes, then).await) });
        }
    }
    let done = go_on_beside(&edge, all).await;
    assert_eq!(done.len(), 7 * many());
    for (expected, said) in done {
        if expected.is_empty() {
            assert_eq!(said, "");
        } else {
            assert!(said.starts_with(&format!("HTTP/1.1 {expected} ")), "{said:?}");
            assert!(said.to_ascii_lowercase().contains("connection: close"), "{said}");
        }
    }
    eventually!("all places are free", edge.metric("bff_client_connections").await <= 1);
}

#[tokio::test]
async fn a_slow_upload_that_moves_is_left_alone() {
    let upstream = Upstream::start().await;
    let edge = impatient(&upstream.url()).server("min_body_rate: 40").start().await;
    let mut client = RawClient::connect(edge.address()).await;
    client.send("POST /open/x HTTP/1.1\r\nHost: h\r\nContent-Length: 800\r\n\r\n").await;
    // Longer than every limit in all, and several times as fast as the least that is asked.
    for _ in 0..40 {
        client.send([b'x'; 20]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(client.response().await.0.status(), 200);
}

/// A service whose answer does not end.
async fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n").await;
                let piece = b"x".repeat(64 * 1024);
                while stream.write_all(&piece).await.is_ok() {}
            });
        }
    });
    url
}

#[tokio::test]
async fn who_does_not_take_the_answer_is_cut_off() {
    let edge = impatient(&endless().await).start().await;
    let mut idle = Vec::new();
    for _ in 0..many() / 5 {
        let mut client = TcpStream::connect(edge.address()).await.unwrap();
        client.write_all(b"GET /open/x HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        idle.push(client);
    }
    let served = "service_requests_total{service=\"own_service\"}";
    eventually!("they are all given up", edge.metric(served).await == idle.len() as u64);
    eventually!("they are all cut off", edge.metric("bff_client_connections").await == 0);
    assert_eq!(edge.metric("http_requests_in_flight").await, 0);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 30").route(OPEN);
    let edge = setup.server("max_connections: 5").start().await;
    eventually!("the first probe has left", edge.metric("bff_client_connections").await == 0);
    let request = "GET /open/x HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut seated = Vec::new();
    for _ in 0..5 {
        let mut client = RawClient::connect(edge.address()).await;
        assert_eq!(client.ask(request).await.0.status(), 200);
        seated.push(client);
    }
    let (head, body) = raw(edge.address(), request).await;
    assert_eq!((head.status(), head.one("retry-after").as_deref()), (503, Some("1")));
    assert!(String::from_utf8_lossy(&body.start).contains("\"rate_limited\""));
    assert_eq!(seated[0].ask(request).await.0.status(), 200, "who has a place keeps it");
    seated.pop();
    eventually!("the place is free again", raw(edge.address(), request).await.0.status() == 200);
}
