//! More distinct answers than the cache may hold: it stays inside `max_bytes`, and so does the process. A million
//! with `SCALE=full`.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{AUDIENCES, Browser, Edge, RawClient, Setup, scale};

/// Bytes of each answer's body.
const BODY: usize = 1024;
/// Connections of clients.
const CLIENTS: usize = 8;

/// Answers every request with the same storable answer, and remembers none.
async fn service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    url
}

async fn serve(mut stream: TcpStream) {
    let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {BODY}\r\n\r\n");
    let answer = [head.into_bytes(), vec![b'x'; BODY]].concat();
    let (mut seen, mut buffer) = (Vec::new(), vec![0; 8192]);
    loop {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        seen.extend_from_slice(&buffer[..count]);
        // The proxy sends no request before it has the answer to the one before.
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

/// Asks for the URLs of one client's share.
async fn ask(edge: &Edge, cookie: &str, numbers: std::ops::Range<usize>) {
    let mut client = RawClient::connect(edge.address()).await;
    for number in numbers {
        let head = format!(
            "GET /api/v1/proxy/svc/{number} HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n",
            edge.port
        );
        let (head, body) = client.ask(head).await;
        assert_eq!((head.status(), body.length), (200, BODY as u64));
        assert_eq!(head.one("x-cache").as_deref(), Some("MISS"), "{number}");
    }
}

#[tokio::test]
async fn distinct_answers_without_end_stay_inside_the_bound() {
    let (all, most) = (scale(8_000, 1_000_000), scale(1 << 20, 16 << 20) as u64);
    let url = service().await;
    let text = format!(
        "legacy_services: {{ svc: \"{url}\" }}\n\
         response_cache: {{ enabled: true, default_ttl: 0, max_size: 10000000, max_bytes: {most} }}\n"
    );
    let edge = Setup::new().service("own", &url, Some(AUDIENCES[0])).legacy(&text).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let cookie = browser.cookie_header(&edge.origin);
    let (rounds, mut resident) = (10, Vec::new());
    for round in 0..rounds {
        let share = all / rounds / CLIENTS;
        let begin = |client: usize| (round * CLIENTS + client) * share;
        let shares = (0..CLIENTS).map(|client| ask(&edge, &cookie, begin(client)..begin(client) + share));
        futures::future::join_all(shares).await;
        let bytes = edge.metric("cache_bytes").await;
        assert!((most / 2..=most).contains(&bytes), "{bytes} of {most} after {} answers", begin(CLIENTS));
        resident.push(edge.resident_kib());
    }
    println!("{all} distinct answers of {BODY} bytes through {most}: resident KiB after each tenth {resident:?}");
    let (early, late) = (resident[rounds / 3], resident[rounds - 1]);
    assert!(late < early + 8 * 1024, "{resident:?}");
}
