//! HTTP/2 by hand: malformed frames and requests reach nobody, floods end the connection they come on.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Behaviour, Edge, Setup, Upstream, raw};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn edge() -> (Edge, Upstream) {
    let upstream = Upstream::start().await;
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 60").route(open);
    (setup.start().await, upstream)
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK, nothing indexed.
pub(crate) fn fields(pairs: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    pairs.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

pub(crate) fn request(more: &[(&str, &str)]) -> Vec<u8> {
    let head = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/open/x")];
    fields(&[&head[..], more].concat())
}

/// The first frame that answers: its type and the first byte of its payload; `None` when it closes.
/// An answer is read to its end: who leaves before it takes the connection to the service along.
async fn verdict(edge: &Edge, sent: &[u8]) -> Option<(u8, u8)> {
    let mut stream = TcpStream::connect(edge.address()).await.unwrap();
    stream.write_all(&[PREFACE, sent].concat()).await.unwrap();
    let answered = async {
        let mut first = None;
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return first;
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            if stream.read_exact(&mut payload).await.is_err() {
                return first;
            }
            let (kind, last) = (head[3], head[4] & 1 == 1);
            if matches!(kind, 1 | 3 | 7) {
                first = first.or(Some((kind, payload.first().copied().unwrap_or(0))));
            }
            if matches!(kind, 3 | 7) || (matches!(kind, 0 | 1) && last) {
                return first;
            }
        }
    };
    timeout(Duration::from_secs(5), answered).await.expect("an answer at once")
}

#[tokio::test]
async fn malformed_frames_end_the_connection() {
    let (edge, upstream) = edge().await;
    let get = frame(1, 5, 1, &request(&[]));
    for (name, sent) in [
        ("DATA on stream 0", frame(0, 1, 0, b"x")),
        ("DATA on an idle stream", frame(0, 1, 1, b"x")),
        ("HEADERS on stream 0", frame(1, 5, 0, &request(&[]))),
        ("HEADERS on an even stream", frame(1, 5, 2, &request(&[]))),
        ("padding longer than the frame", frame(1, 13, 1, b"\xffabc")),
        ("RST_STREAM on an idle stream", frame(3, 0, 1, &[0; 4])),
        ("RST_STREAM of three bytes", frame(3, 0, 1, &[0; 3])),
        ("SETTINGS on a stream", frame(4, 0, 1, b"")),
        ("SETTINGS of five bytes", frame(4, 0, 0, &[0; 5])),
        ("SETTINGS acknowledged with a payload", frame(4, 1, 0, &[0; 6])),
        ("a window of 2^31", frame(4, 0, 0, &[0, 4, 0x80, 0, 0, 0])),
        ("PUSH_PROMISE", frame(5, 4, 1, &[0, 0, 0, 2])),
        ("PING of seven bytes", frame(6, 0, 0, &[0; 7])),
        ("PING on a stream", frame(6, 0, 1, &[0; 8])),
        ("WINDOW_UPDATE of nothing", frame(8, 0, 0, &[0; 4])),
        ("CONTINUATION of nothing", frame(9, 4, 1, b"")),
        ("a frame between HEADERS and CONTINUATION", [frame(1, 1, 1, b"\x82"), frame(6, 0, 0, &[0; 8])].concat()),
        ("a frame of 16 385 bytes", frame(6, 0, 0, &b"\0".repeat(16_385))),
        ("HPACK that does not decode", frame(1, 5, 1, b"\xff\xff\xff\xff\xff\xff")),
    ] {
        let answer = verdict(&edge, &sent).await;
        assert!(matches!(answer, None | Some((7, _))), "{name}: {answer:?}");
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(verdict(&edge, &get).await, Some((1, 0x88)), "a good one is answered with 200");
}

#[tokio::test]
async fn malformed_requests_reach_nobody() {
    let (edge, upstream) = edge().await;
    let head = |pairs: &[(&str, &str)]| frame(1, 5, 1, &fields(pairs));
    let (get, scheme, host, path) =
        ((":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/open/x"));
    let head4 = |pairs: &[(&str, &str)]| frame(1, 4, 1, &fields(pairs));
    let many: Vec<(&str, &str)> = vec![("x", "y"); 200];
    for (name, sent) in [
        ("an upper-case name", frame(1, 5, 1, &request(&[("X-Y", "z")]))),
        ("Connection", frame(1, 5, 1, &request(&[("connection", "close")]))),
        ("Transfer-Encoding", frame(1, 4, 1, &request(&[("transfer-encoding", "chunked")]))),
        ("TE", frame(1, 5, 1, &request(&[("te", "gzip")]))),
        ("a CR in a value", frame(1, 5, 1, &request(&[("x", "a\rb")]))),
        ("an LF in a value", frame(1, 5, 1, &request(&[("x", "a\nHost: b")]))),
        ("a NUL in a value", frame(1, 5, 1, &request(&[("x", "a\0b")]))),
        ("a space in a name", frame(1, 5, 1, &request(&[("x y", "z")]))),
        ("an empty name", frame(1, 5, 1, &request(&[("", "z")]))),
        ("two lengths", frame(1, 4, 1, &request(&[("content-length", "1"), ("content-length", "2")]))),
        ("one length twice", {
            let post = [(":method", "POST"), scheme, host, path, ("content-length", "1"), ("content-length", "1")];
            [head4(&post), frame(0, 1, 1, b"x")].concat()
        }),
        ("a length misspelt", frame(1, 5, 1, &request(&[("content_length", "1")]))),
        ("a coding misspelt", frame(1, 5, 1, &request(&[("transfer_encoding", "chunked")]))),
        ("an authority that is a list", head(&[get, scheme, (":authority", "h,i"), path])),
        ("a host that is a path", head(&[get, scheme, path, ("host", "h/i")])),
        ("a signed length", frame(1, 4, 1, &request(&[("content-length", "+1")]))),
        ("another Host", frame(1, 5, 1, &request(&[("host", "other")]))),
        ("no path", head(&[get, scheme, host])),
        ("an empty path", head(&[get, scheme, host, (":path", "")])),
        ("two paths", head(&[get, scheme, host, path, path])),
        ("no method", head(&[scheme, host, path])),
        ("no authority", head(&[get, scheme, path])),
        ("another scheme", head(&[get, (":scheme", "ftp"), host, path])),
        ("a scheme of a page", head(&[get, (":scheme", "javascript"), host, path])),
        ("an empty scheme", head(&[get, (":scheme", ""), host, path])),
        ("an unknown pseudo field", head(&[get, scheme, host, path, (":x", "y")])),
        ("a pseudo field at the end", head(&[get, scheme, host, ("x", "y"), path])),
        ("a path with a space", head(&[get, scheme, host, (":path", "/open/ HTTP/1.1")])),
        ("a path with a line", head(&[get, scheme, host, (":path", "/open/x\r\nX: y")])),
        ("an absolute path", head(&[get, scheme, host, (":path", "http://other/open/x")])),
        ("a path that climbs", head(&[get, scheme, host, (":path", "/open/../x")])),
        ("200 fields", frame(1, 5, 1, &request(&many))),
        ("less than its length", [frame(1, 4, 1, &request(&[("content-length", "9")])), frame(0, 1, 1, b"x")].concat()),
    ] {
        let before = upstream.count();
        let answer = verdict(&edge, &sent).await;
        let refused =
            matches!(answer, None | Some((3 | 7, _))) || answer.is_some_and(|(kind, first)| kind == 1 && first != 0x88);
        assert!(refused, "{name}: {answer:?}");
        assert_eq!(upstream.count(), before, "{name}");
    }
}

#[tokio::test]
async fn a_body_has_one_end_and_the_next_request_begins_behind_it() {
    let (edge, upstream) = edge().await;
    let post = fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", "/open/x")]);
    let data = |flags, payload: &[u8]| frame(0, flags, 1, payload);
    for (length, body) in [
        (0, data(1, b"")),
        (1, [data(0, b"x"), data(1, b"")].concat()),
        (1, [data(0, b""), data(0, b"x"), data(0, b""), data(1, b"")].concat()),
        (2, [data(0, b"x"), data(0, b""), data(1, b"x")].concat()),
    ] {
        assert_eq!(verdict(&edge, &[frame(1, 4, 1, &post), body].concat()).await, Some((1, 0x88)));
        assert_eq!(upstream.last().body.length, length);
        // On the same connection to the service, once it is free.
        eventually!("it is free", edge.metric("http_requests_in_flight").await == 0);
        assert_eq!(verdict(&edge, &frame(1, 5, 1, &request(&[]))).await, Some((1, 0x88)));
        eventually!("it is free", edge.metric("http_requests_in_flight").await == 0);
    }
    assert_eq!(upstream.count(), 8);
    // Now and then the engine's own watch still holds the one that is free.
    assert!(upstream.connections() < 5, "{} connections for 8 requests are hardly reused", upstream.connections());
    assert!(upstream.all().iter().all(|one| one.target() == "/open/x"), "{:?}", upstream.all());
}

/// How long the connection lives behind these bytes, of which a last one more comes now and then.
async fn life(edge: &Edge, sent: &[u8], drip: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(edge.address()).await.unwrap();
    stream.write_all(&[PREFACE, sent].concat()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let begun = Instant::now();
    let closed = tokio::spawn(async move { while matches!(reader.read(&mut [0; 1024]).await, Ok(1..)) {} });
    for piece in drip.chunks(1).chain(std::iter::repeat_n(&b""[..], 30)) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if closed.is_finished() || writer.write_all(piece).await.is_err() {
            break;
        }
    }
    begun.elapsed()
}

#[tokio::test]
async fn what_is_begun_is_finished_in_time() {
    let upstream = Upstream::start().await;
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 60").route(open);
    let edge = setup.server("header_timeout: 1").start().await;
    let get = frame(1, 5, 1, &request(&[]));
    let post = fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", "/open/x")]);
    let more = frame(9, 0, 1, &fields(&[("x", "y")])).repeat(9);
    for (what, sent, drip) in [
        ("half a frame's head", &b"\0\0\xff\x01"[..], &b""[..]),
        ("a cut frame", &get[..20], b""),
        ("a frame byte by byte", &get[..9], &get[9..]),
        ("fields that do not end", &frame(1, 1, 1, &request(&[])), b""),
        ("and go on", &frame(1, 1, 1, &request(&[])), &more),
    ] {
        let life = life(&edge, sent, drip).await;
        assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&life), "{what}: {life:?}");
    }
    assert_eq!(upstream.connections(), 0);
    let body = [b'x'; 9];
    let slow = [&frame(1, 4, 1, &post), &frame(0, 1, 1, &body)[..9]].concat();
    let life = life(&edge, &slow, &body).await;
    assert!(life > Duration::from_secs(5), "a body has its own time: {life:?}");
    assert_eq!(upstream.last().body.length, 9);
}

/// Sends the frames until the connection ends; how many it took.
async fn flood(edge: &Edge, opening: &[u8], one: impl Fn(u32) -> Vec<u8>) -> u32 {
    let stream = TcpStream::connect(edge.address()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let closed = tokio::spawn(async move {
        let mut sink = vec![0; 64 * 1024];
        while matches!(reader.read(&mut sink).await, Ok(read) if read > 0) {}
    });
    writer.write_all(&[PREFACE, opening].concat()).await.unwrap();
    let mut sent = 0;
    while !closed.is_finished() && sent < 200_000 {
        if writer.write_all(&one(sent)).await.is_err() {
            break;
        }
        sent += 1;
    }
    timeout(Duration::from_secs(5), closed).await.expect("the connection is closed").unwrap();
    sent
}

#[tokio::test]
async fn floods_end_the_connection_they_come_on_and_no_other() {
    let (edge, _upstream) = edge().await;
    let post = fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", "/open/x")]);
    let get = request(&[]);
    let odd = |number: u32| number * 2 + 1;
    let before = edge.resident_kib();
    let sent = [
        flood(&edge, b"", |_| frame(6, 0, 0, &[7; 8])).await,
        flood(&edge, b"", |_| frame(4, 0, 0, b"")).await,
        flood(&edge, b"", |_| frame(2, 0, 1, &[0, 0, 0, 0, 16])).await,
        flood(&edge, b"", |_| frame(8, 0, 0, &[0, 0, 0, 1])).await,
        flood(&edge, &frame(1, 4, 1, &post), |_| frame(8, 0, 1, &[0, 0, 0, 1])).await,
        flood(&edge, b"", |_| frame(0xbb, 0, 0, b"")).await,
        flood(&edge, b"", |number| [frame(1, 5, odd(number), &get), frame(3, 0, odd(number), &[0, 0, 0, 8])].concat())
            .await,
        flood(&edge, &frame(1, 4, 1, &post), |_| frame(0, 0, 1, b"")).await,
        flood(&edge, &frame(1, 0, 1, &get), |_| frame(9, 0, 1, b"")).await,
        flood(&edge, &frame(1, 0, 1, &get), |_| frame(9, 0, 1, &fields(&[("x", "y")]).repeat(100))).await,
    ];
    assert!(sent.iter().all(|sent| *sent < 150_000), "{sent:?}");
    let (head, _) = raw(edge.address(), "GET /open/x HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(head.status(), 200);
    assert!(edge.resident_kib() < before + 50 * 1024, "{} KiB after {before}", edge.resident_kib());
    eventually!("nothing is left of them", edge.metric("bff_client_connections").await == 0);
}

#[tokio::test]
async fn a_client_that_measures_while_it_receives_goes_on() {
    let (edge, upstream) = edge().await;
    upstream.behave(Behaviour::Events { count: 4000, every: Duration::from_millis(1) });
    let (mut reader, mut writer) = TcpStream::connect(edge.address()).await.unwrap().into_split();
    let window = 0x00ff_ffff_u32.to_be_bytes();
    let wide = [frame(4, 0, 0, &[&[0, 4][..], &window].concat()), frame(8, 0, 0, &window)].concat();
    writer.write_all(&[PREFACE, &wide, &frame(1, 5, 1, &request(&[]))].concat()).await.unwrap();
    let mut data = 0;
    loop {
        let mut head = [0; 9];
        timeout(Duration::from_secs(10), reader.read_exact(&mut head)).await.expect("more").expect("it goes on");
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        reader.read_exact(&mut payload).await.unwrap();
        assert!(!matches!(head[3], 3 | 7), "{head:?} after {data} pieces");
        if head[3] == 0 && !payload.is_empty() {
            data += 1;
            // As gRPC does for each.
            writer.write_all(&frame(6, 0, 0, &[7; 8])).await.unwrap();
        }
        if head[3] == 0 && head[4] & 1 == 1 {
            break;
        }
    }
    assert!(data > 1500, "{data} pieces are no flood");
}
