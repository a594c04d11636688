//! The HTTP/2 bomb: a field that is told once and then named by one byte each time, on streams whose window the client keeps
//! closed. What it costs to hold is what this program keeps of a request while its answer waits.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::frames::{PREFACE, fields, frame};
use crate::harness::{Edge, Setup, Upstream};

/// Of a connection: all of them are decoded before any is answered, and what that takes is soon used again.
const STREAMS: u32 = 20;
const FEW: u32 = 16;
/// `a: ""` is entry 62 of the table from here on, and so is `cookie: a` of the other.
const NAMED: &[u8] = b"\x40\x01a\x00";
const CRUMB: &[u8] = b"\x60\x01a";
const AGAIN: u8 = 0xbe;
/// `SETTINGS_INITIAL_WINDOW_SIZE`: nothing.
const CLOSED: [u8; 6] = [0, 4, 0, 0, 0, 0];

async fn edge(server: &str) -> (Edge, Upstream) {
    let upstream = Upstream::start().await;
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 60").route(open);
    (setup.server(server).open_files(4096).start().await, upstream)
}

fn block(path: &str, bomb: &[u8]) -> Vec<u8> {
    let head = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", path)];
    [&fields(&head), bomb].concat()
}

fn bomb(first: &[u8], times: usize) -> Vec<u8> {
    [first, &[AGAIN].repeat(times)].concat()
}

/// The same request on every stream of a connection.
async fn ask(edge: &Edge, block: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(edge.address()).await.unwrap();
    let asked: Vec<u8> = (0..STREAMS).flat_map(|number| frame(1, 5, number * 2 + 1, block)).collect();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &CLOSED), &asked].concat()).await.unwrap();
    stream
}

/// Reads until every stream has its head, and so many have their ends.
async fn answered(stream: &mut TcpStream, wanted: u32) -> u32 {
    let (mut heads, mut ends) = (0, 0);
    while heads < STREAMS || ends < wanted {
        let mut head = [0; 9];
        let read = timeout(Duration::from_secs(10), stream.read_exact(&mut head)).await;
        read.unwrap_or_else(|_| panic!("{heads} heads, {ends} ends")).unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        heads += u32::from(head[3] == 1);
        ends += u32::from(matches!(head[3], 0 | 1) && head[4] & 1 == 1);
        assert!(!matches!(head[3], 3 | 7), "{head:?}");
    }
    ends
}

/// KiB for each stream that waits.
async fn held(edge: &Edge, block: &[u8]) -> u64 {
    const CONNECTIONS: u64 = 10;
    let before = edge.resident_kib();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = ask(edge, block).await;
        assert_eq!(answered(&mut client, 0).await, 0, "nothing fits the window");
        clients.push(client);
    }
    edge.resident_kib().saturating_sub(before) / (CONNECTIONS * u64::from(STREAMS))
}

#[tokio::test]
async fn cve_2026_49975_a_field_for_each_byte_is_not_kept() {
    for (path, first, times) in [("/nowhere", NAMED, 1950), ("/auth/session", CRUMB, 1600), ("/open/x", CRUMB, 1600)] {
        // For each a program of its own: what one has freed, the next would take.
        let (edge, _upstream) = edge("idle_timeout: 60").await;
        let plain = held(&edge, &block(path, b"")).await;
        let (edge, _upstream) = self::edge("idle_timeout: 60").await;
        let bomb = held(&edge, &block(path, &bomb(first, times))).await;
        println!("{path} {first:?}: {plain} KiB a stream, {bomb} KiB with {times} fields");
        assert!(bomb < plain + 70, "{path}: {bomb} KiB a stream, {plain} KiB without");
    }
}

/// Nobody here reads trailers, but the engine keeps them until the answer is over.
#[tokio::test]
async fn trailers_are_no_bomb() {
    let (edge, _upstream) = edge("idle_timeout: 60").await;
    let post = fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", "/open/x")]);
    for (trailers, well) in [(fields(&[("x", "y")]), true), (bomb(NAMED, 1950), false)] {
        let mut stream = TcpStream::connect(edge.address()).await.unwrap();
        let asked = [frame(1, 4, 1, &post), frame(0, 0, 1, b"x"), frame(1, 5, 1, &trailers)].concat();
        stream.write_all(&[PREFACE, &asked].concat()).await.unwrap();
        let mut kinds = Vec::new();
        let mut head = [0; 9];
        while let Ok(Ok(_)) = timeout(Duration::from_secs(2), stream.read_exact(&mut head)).await {
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            kinds.push(head[3]);
        }
        assert_eq!(kinds.contains(&1), well, "{kinds:?}");
    }
}

#[tokio::test]
async fn a_refusal_for_want_of_room_waits_for_no_window() {
    let (edge, upstream) = edge("max_memory: 1MiB").await;
    eventually!("it is known that memory is short", edge.log.text().contains("MEMORY_SHORT"));
    let mut client = ask(&edge, &block("/open/x", b"")).await;
    // A few at once are served whatever memory there is, and wait.
    let refused = answered(&mut client, STREAMS - FEW).await;
    assert!(upstream.count() <= FEW as usize, "{} served, {refused} refused", upstream.count());
}
