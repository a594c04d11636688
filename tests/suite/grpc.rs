//! gRPC calls reach their service on HTTP/2, with trailers and both directions at once, and everything else does not.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

use crate::harness::Setup;
use crate::harness::frames::{PREFACE, fields, frame};

/// Type, flags, stream and payload.
type Frame = (u8, u8, u32, Vec<u8>);

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const END: u8 = 1;
const WHOLE: u8 = 4;

async fn next(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    timeout(Duration::from_secs(10), stream.read_exact(&mut head)).await.expect("a frame in time").ok()?;
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

/// The next frame of a request or an answer; `None` at the end of the connection.
async fn next_of_stream(stream: &mut TcpStream) -> Option<Frame> {
    loop {
        let frame = next(stream).await?;
        if matches!(frame.0, HEADERS | DATA | 3 | 7) {
            return Some(frame);
        }
    }
}

/// A service that says each message back, the first one late, and how it ended in trailers. Every connection tells what
/// it began with.
async fn serve(listener: TcpListener, seen: UnboundedSender<Vec<u8>>, late: Duration) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let seen = seen.clone();
        tokio::spawn(async move {
            let mut preface = vec![0; 24];
            if stream.read_exact(&mut preface).await.is_err() {
                return;
            }
            let _ = seen.send(preface.clone());
            if preface != PREFACE[..24] {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
                return;
            }
            stream.write_all(&frame(4, 0, 0, b"")).await.unwrap();
            let opening = fields(&[(":status", "200"), ("content-type", "application/grpc")]);
            let mut begun = false;
            while let Some((kind, flags, id, payload)) = next_of_stream(&mut stream).await {
                if kind == DATA && !payload.is_empty() {
                    if !begun {
                        sleep(late).await;
                        stream.write_all(&frame(HEADERS, WHOLE, id, &opening)).await.unwrap();
                    }
                    begun = true;
                    stream.write_all(&frame(DATA, 0, id, &payload)).await.unwrap();
                }
                if flags & END == END {
                    begun = false;
                    let end = fields(&[("grpc-status", "0"), ("x-last", "word")]);
                    stream.write_all(&frame(HEADERS, WHOLE | END, id, &end)).await.unwrap();
                }
            }
        });
    }
}

async fn call(address: std::net::SocketAddr, kind: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", "/open/pkg.Svc/Say")];
    let head = fields(&[&head[..], &[("te", "trailers"), ("content-type", kind)]].concat());
    stream.write_all(&[PREFACE, &frame(HEADERS, WHOLE, 1, &head)].concat()).await.unwrap();
    stream
}

async fn began(seen: &mut UnboundedReceiver<Vec<u8>>) -> Vec<u8> {
    timeout(Duration::from_secs(10), seen.recv()).await.expect("a connection in time").unwrap()
}

#[tokio::test]
async fn a_call_goes_both_ways_and_ends_with_its_trailers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, mut seen) = unbounded_channel();
    tokio::spawn(serve(listener, told, Duration::ZERO));
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let edge = Setup::new().service_alone("own", &url, None, "timeout: 10").route(open).start().await;

    for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=x"] {
        let mut stream = call(edge.address(), kind).await;
        for (number, message) in [&b"\0\0\0\0\x02hi"[..], b"\0\0\0\0\x03you"].into_iter().enumerate() {
            stream.write_all(&frame(DATA, 0, 1, message)).await.unwrap();
            if number == 0 {
                let (found, flags, _, _) = next_of_stream(&mut stream).await.unwrap();
                assert_eq!((found, flags & END), (HEADERS, 0), "{kind}: the answer begins before the request ends");
            }
            let (found, flags, _, payload) = next_of_stream(&mut stream).await.unwrap();
            assert_eq!((found, flags & END, &*payload), (DATA, 0, message), "{kind}");
        }
        stream.write_all(&frame(DATA, END, 1, b"")).await.unwrap();
        let (found, flags, _, trailers) = next_of_stream(&mut stream).await.unwrap();
        assert_eq!((found, flags & END, trailers.is_empty()), (HEADERS, END, false), "{kind}");
        drop(stream);
    }
    assert_eq!(began(&mut seen).await, PREFACE[..24]);
    while seen.try_recv().is_ok() {}

    for kind in ["application/grpc-web", "application/json", "application/grpcx"] {
        let mut stream = call(edge.address(), kind).await;
        stream.write_all(&frame(DATA, END, 1, b"x")).await.unwrap();
        assert_eq!(began(&mut seen).await, b"POST /open/pkg.Svc/Say H", "{kind}");
        assert_eq!(next_of_stream(&mut stream).await.unwrap().0, HEADERS, "{kind}");
    }
}

/// What it sends beyond that, because the client reads nothing, would lie in our memory: RFC 9113 §6.9.
#[tokio::test]
async fn a_service_may_send_little_ahead() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let edge = Setup::new().service_alone("own", &url, None, "timeout: 10").route(open).start().await;
    let _client = call(edge.address(), "application/grpc").await;
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.read_exact(&mut [0; 24]).await.unwrap();
    stream.write_all(&frame(4, 0, 0, b"")).await.unwrap();
    // RFC 9113 §6.9.2: what holds where nothing is said.
    let (mut of_stream, mut of_connection) = (65_535, 65_535);
    loop {
        let (kind, _, id, payload) = next(&mut stream).await.unwrap();
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match (kind, id) {
            (4, 0) => {
                let place = payload.chunks(6).position(|setting| setting[1] == 4);
                of_stream = place.map_or(of_stream, |place| number(place * 6 + 2));
            }
            (8, 0) => of_connection += number(0),
            (HEADERS, _) => break,
            _ => {}
        }
    }
    assert!((65_535..=1024 * 1024).contains(&of_stream), "{of_stream}");
    assert!((65_535..=1024 * 1024).contains(&of_connection), "{of_connection}");
}

#[tokio::test]
async fn a_call_that_streams_is_answered_when_its_service_likes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, _seen) = unbounded_channel();
    tokio::spawn(serve(listener, told, Duration::from_millis(1500)));
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none, streaming: true }";
    let edge = Setup::new().service_alone("own", &url, None, "timeout: 500ms").route(open).start().await;
    let mut stream = call(edge.address(), "application/grpc").await;
    let message = b"\0\0\0\0\x02hi";
    stream.write_all(&frame(DATA, END, 1, message)).await.unwrap();
    assert_eq!(next_of_stream(&mut stream).await.unwrap().0, HEADERS);
    let (found, _, _, payload) = next_of_stream(&mut stream).await.unwrap();
    assert_eq!((found, &*payload), (DATA, &message[..]), "no refusal");
}
