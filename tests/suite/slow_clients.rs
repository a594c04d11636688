//! Clients that take their time: each is closed at its limit, and nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::frames::{PREFACE, fields, frame, request};
use crate::harness::{Browser, Edge, RawClient, Setup, Upstream, builder, raw};

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

/// The head of an upload on HTTP/2.
fn upload(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", path)];
    frame(1, 4, stream, &fields(&[&head[..], more].concat()))
}

/// Reads frames until this stream is answered with a whole head; its first byte is 0x88 for 200.
async fn answered(reader: &mut (impl tokio::io::AsyncRead + Unpin), stream: u32) -> u8 {
    let next = async {
        loop {
            let mut head = [0; 9];
            reader.read_exact(&mut head).await.expect("the connection goes on");
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            reader.read_exact(&mut payload).await.expect("the connection goes on");
            if head[3] == 1 && head[5..] == stream.to_be_bytes() {
                return payload[0];
            }
        }
    };
    timeout(Duration::from_secs(20), next).await.expect("an answer")
}

const STREAM: &str = "{ id: stream, path: \"/stream/*\", target_service: lasting_service, preserve_path: true, auth: none, \
                      streaming: true }";

fn both(upstream: &str) -> Setup {
    impatient(upstream).service_alone("lasting", upstream, None, "timeout: 30").route(STREAM)
}

/// A service that reads its requests to the end of their connections, and how many of those have ended.
async fn attentive() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ended);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let _ = stream.read_to_end(&mut Vec::new()).await;
                counted.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (url, ended)
}

fn too_slow(route: &str) -> String {
    format!("http_requests_total{{endpoint=\"{route}\",method=\"POST\",status=\"408\"}}")
}

#[tokio::test]
async fn a_slow_upload_on_http2_ends_and_leaves_the_others() {
    let upstream = Upstream::start().await;
    let (lasting, ended) = attentive().await;
    let setup = impatient(&upstream.url()).service_alone("lasting", &lasting, None, "timeout: 30").route(STREAM);
    let edge = setup.start().await;
    let (mut reader, mut writer) = TcpStream::connect(edge.address()).await.unwrap().into_split();
    writer.write_all(PREFACE).await.unwrap();
    for (stream, path) in [(1, "/open/silent"), (3, "/open/drip"), (5, "/stream/silent"), (7, "/stream/drip")] {
        writer.write_all(&upload(stream, path, &[])).await.unwrap();
    }
    let mut sent = 0;
    while edge.metric(&too_slow("open")).await < 2 || edge.metric(&too_slow("stream")).await < 2 {
        sent += 1;
        assert!(sent < 300, "who sends a byte now and then is told");
        let bytes = [frame(0, 0, 3, b"x"), frame(0, 0, 7, b"x")].concat();
        writer.write_all(&bytes).await.expect("the connection goes on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eventually!("the service is told", ended.load(Ordering::SeqCst) == 2);
    writer.write_all(&frame(1, 5, 9, &request(&[]))).await.unwrap();
    assert_eq!(answered(&mut reader, 9).await, 0x88, "the connection is as good as before");
    assert_eq!(upstream.count(), 1, "no body was whole but that of the last");
}

#[tokio::test]
async fn on_http2_too_a_slow_upload_that_moves_is_left_alone() {
    let upstream = Upstream::start().await;
    let edge = both(&upstream.url()).server("min_body_rate: 40").start().await;
    let (mut reader, mut writer) = TcpStream::connect(edge.address()).await.unwrap().into_split();
    let both = [upload(1, "/open/x", &[]), upload(3, "/stream/x", &[])].concat();
    writer.write_all(&[PREFACE, &both].concat()).await.unwrap();
    for number in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for stream in [1, 3] {
            writer.write_all(&frame(0, u8::from(number == 39 && stream == 3), stream, &[b'x'; 20])).await.unwrap();
        }
    }
    assert_eq!(answered(&mut reader, 3).await, 0x88);
    writer.write_all(&frame(0, 1, 1, b"")).await.unwrap();
    assert_eq!(answered(&mut reader, 1).await, 0x88);
    assert!(upstream.all().iter().all(|received| received.body.length == 800));
}

/// A service that takes connections, and nothing of what comes on them.
pub(crate) async fn deaf() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    url
}

/// More than fits between two ends that do not read.
const BIG: usize = 9_000_000;

/// The status of a big upload, sent as fast as it is taken.
async fn big_upload(edge: &Edge, cookie: &str, path: &str, h2: bool) -> u16 {
    if h2 {
        let client = builder().http2_prior_knowledge().build().unwrap();
        let request = client.post(format!("http://{}{path}", edge.address())).header("cookie", cookie);
        return request.body(vec![b'x'; BIG]).send().await.unwrap().status().as_u16();
    }
    let (mut reader, mut writer) = TcpStream::connect(edge.address()).await.unwrap().into_split();
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\nContent-Length: {BIG}\r\n\r\n");
    let sending = async {
        let _ = writer.write_all(&[head.into_bytes(), vec![b'x'; BIG]].concat()).await;
        std::future::pending::<()>().await;
    };
    let mut line = [0; 12];
    tokio::select! { () = sending => {}, read = reader.read_exact(&mut line) => drop(read.unwrap()) }
    String::from_utf8_lossy(&line).rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_service_that_does_not_read_is_late_and_not_its_client() {
    const SERVICE: Duration = Duration::from_secs(4);
    let service = deaf().await;
    let circuit = "circuit_breaker: { threshold: 2, reset_time: 60 }\nlegacy_service_timeouts: { svc: 4 }\n";
    let setup = Setup::new().service_alone("own", &service, None, "timeout: 4").route(OPEN);
    let setup = setup.service_alone("lasting", &service, None, "timeout: 4").route(STREAM);
    let setup =
        setup.server("body_timeout: 2").legacy(&format!("legacy_services: {{ svc: \"{service}\" }}\n{circuit}"));
    let edge = setup.start().await;
    let cookie = &*Browser::logged_in(&edge, "ada").await.cookie_header(&edge.origin);
    let begun = Instant::now();
    let all =
        ["/open/x", "/stream/x", "/api/v1/proxy/svc/x"].into_iter().flat_map(|path| [(path, false), (path, true)]);
    let edge_of = &edge;
    let answers = join_all(all.map(async |(path, h2)| (path, h2, big_upload(edge_of, cookie, path, h2).await))).await;
    let took = begun.elapsed();
    assert!(answers.iter().all(|(_, _, status)| *status == 504), "{answers:?}");
    assert!(took >= SERVICE, "the service has its time: {took:?}");
    assert!(took < SERVICE * 2, "and no more: {took:?}");
    eventually!("the circuit counts both", edge.metric("circuit_breaks_total{service=\"svc\"}").await == 1);
    for service in ["own", "lasting"] {
        let errors = format!("service_errors_total{{error_type=\"timeout\",service=\"{service}_service\"}}");
        eventually!("it is the service's", edge.metric(&errors).await == 2);
    }
}

#[tokio::test]
async fn a_client_that_pauses_is_no_fault_of_the_service() {
    let upstream = Upstream::start().await;
    let circuit = "circuit_breaker: { threshold: 1, reset_time: 60 }\nlegacy_service_timeouts: { svc: 1 }\n";
    let setup =
        impatient(&upstream.url()).legacy(&format!("legacy_services: {{ svc: \"{}\" }}\n{circuit}", upstream.url()));
    // The pause is longer than the service's time for its answer.
    let edge = setup.start().await;
    let cookie = Browser::logged_in(&edge, "ada").await.cookie_header(&edge.origin);
    let path = "/api/v1/proxy/svc/x";
    let mut plain = RawClient::connect(edge.address()).await;
    plain.send(format!("POST {path} HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\nContent-Length: 9\r\n\r\nx")).await;
    let mut h2 = TcpStream::connect(edge.address()).await.unwrap();
    let silent = upload(1, path, &[("cookie", &cookie)]);
    h2.write_all(&[PREFACE, &silent, &frame(0, 0, 1, b"x")].concat()).await.unwrap();
    assert_eq!(plain.response().await.0.status(), 408);
    assert_ne!(answered(&mut h2, 1).await, 0x88);
    let health = crate::harness::http_client().get(edge.url("/api/v1/proxy/health")).send().await.unwrap();
    let health: serde_json::Value = health.json().await.unwrap();
    assert_eq!(health["services"]["svc"]["state"], "closed", "{health}");
    assert_eq!(edge.metric("service_errors_total").await, 0);
}

/// Who says to wait for a word that the service is not asked for is waited for like any other.
#[tokio::test]
async fn a_client_that_expects_what_its_service_does_not_hear_of_is_no_fault_of_the_service() {
    let (url, _) = attentive().await;
    let setup = impatient(&url)
        .legacy(&format!("legacy_services: {{ svc: \"{url}\" }}\nlegacy_service_timeouts: {{ svc: 1 }}\n"));
    let edge = setup.start().await;
    let cookie = Browser::logged_in(&edge, "ada").await.cookie_header(&edge.origin);
    let ask = async |lines: &str| {
        let head = format!("POST /api/v1/proxy/svc/x HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\n{lines}");
        raw(edge.address(), format!("{head}Content-Length: 9\r\n\r\n")).await.0.status()
    };
    let nominated = "Expect: 100-continue\r\nConnection: expect\r\n";
    assert_eq!(join_all([nominated, "Expect: something\r\n"].map(ask)).await, [408, 408]);
    assert_eq!(edge.metric("service_errors_total").await, 0);
    assert_eq!(ask("Expect: 100-continue\r\n").await, 504, "the service owes a word");
}

/// A service whose answer does not end.
pub(crate) async fn endless() -> String {
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

/// A client of HTTP/2 may hold back one answer and go on with its connection.
#[tokio::test]
async fn who_does_not_take_one_answer_on_http2_loses_that_one() {
    let edge = impatient(&endless().await).start().await;
    let (mut reader, mut writer) = TcpStream::connect(edge.address()).await.unwrap().into_split();
    writer.write_all(&[PREFACE, &frame(1, 5, 1, &request(&[]))].concat()).await.unwrap();
    let served = "service_requests_total{service=\"own_service\"}";
    eventually!("it is given up", {
        // Room for others, and none for this one.
        writer.write_all(&frame(8, 0, 0, &1000_u32.to_be_bytes())).await.unwrap();
        edge.metric(served).await == 1
    });
    eventually!("and its place is free", edge.metric("http_requests_in_flight").await == 0);
    let live = fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/health/live")]);
    writer.write_all(&frame(1, 5, 3, &live)).await.unwrap();
    assert_eq!(answered(&mut reader, 3).await, 0x88, "the connection is as good as before");
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

    for path in ["/health/live", "/health/ready"] {
        let (head, body) = raw(edge.address(), format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        assert_eq!((head.status(), head.one("connection").as_deref()), (200, Some("close")), "{path}");
        assert!(String::from_utf8_lossy(&body.start).contains("status"));
    }
    // One request, and no other one behind it or under another method.
    let both = format!("GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n{request}");
    let mut probe = RawClient::connect(edge.address()).await;
    assert_eq!(probe.ask(both).await.0.status(), 200);
    assert!(probe.reader.head().await.unwrap().is_none(), "it is closed");
    let post = "POST /health/live HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(raw(edge.address(), post).await.0.status(), 503);
    let before = upstream.count();
    let of = |path| fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", path)]);
    for (path, good) in [("/health/live", true), ("/open/x", false)] {
        let mut h2 = TcpStream::connect(edge.address()).await.unwrap();
        h2.write_all(&[PREFACE, &frame(1, 5, 1, &of(path))].concat()).await.unwrap();
        assert_eq!(answered(&mut h2, 1).await == 0x88, good, "{path}");
        let _ = timeout(Duration::from_secs(5), h2.read_to_end(&mut Vec::new())).await.expect("it is closed");
    }
    assert_eq!(upstream.count(), before, "nobody else hears of them");
    seated.pop();
    eventually!("the place is free again", raw(edge.address(), request).await.0.status() == 200);
}
