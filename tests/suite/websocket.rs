//! `WebSocket`s pass where a route says so, and nowhere else. Browsers open them from any page, with
//! cookies: the handshake is checked like an unsafe request.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{AUDIENCES, Browser, Edge, RawClient, Setup, Upstream, raw};

/// Answers every handshake with 101 and echoes what comes after it.
async fn echo() -> (String, std::sync::Arc<std::sync::Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let heads = std::sync::Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heads = std::sync::Arc::clone(&heads);
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                heads.lock().unwrap().push_str(&head);
                let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                              Connection: X-Hop\r\nX-Hop: 1\r\n\
                              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                stream.write_all(switch.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    (url, seen)
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

async fn shake(edge: &Edge, path: &str, extra: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(edge.address()).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n",
        edge.port
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    (stream, head)
}

#[tokio::test]
async fn a_websocket_passes_only_where_a_route_takes_it_and_from_our_own_pages() {
    let (url, seen) = echo().await;
    let live = "{ id: live, path: \"/live/*\", target_service: own_service, preserve_path: true, auth: session, websocket: true }";
    let edge = Setup::new().service("own", &url, Some(AUDIENCES[0])).route(live).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let cookie = format!("Cookie: {}\r\n", browser.cookie_header(&edge.origin));
    let ours = format!("{cookie}Origin: {}\r\n", edge.origin);

    let (mut stream, head) = shake(&edge, "/live/x", &ours).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let lower = head.to_ascii_lowercase();
    assert!(lower.contains("\r\nupgrade: websocket\r\n") && !lower.contains("\r\nx-hop:"), "{head}");
    stream.write_all(b"\x81\x02hi").await.unwrap();
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame, b"\x81\x02hi");
    assert!(
        seen.lock().unwrap().contains("Authorization: Bearer ")
            || seen.lock().unwrap().contains("authorization: Bearer ")
    );

    let foreign = format!("{cookie}Origin: https://evil.example\r\n");
    for (path, extra, status) in
        [("/live/x", foreign.as_str(), "403"), ("/live/x", "", "401"), ("/api/own/x", ours.as_str(), "400")]
    {
        let (_, head) = shake(&edge, path, extra).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
    }
    assert_eq!(seen.lock().unwrap().matches("GET ").count(), 1, "nothing else reached the service");
}

#[tokio::test]
async fn no_other_protocol_is_offered_to_a_service() {
    let upstream = Upstream::start().await;
    let live = "{ id: live, path: \"/live/*\", target_service: own_service, preserve_path: true, auth: session, websocket: true }";
    let edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).route(live).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let cookie = browser.cookie_header(&edge.origin);
    // Some clients try HTTP/2 on every first request: that is no reason to refuse it.
    for (path, offer, left) in [
        ("/live/x", "h2c", None),
        ("/api/own/x", "h2c", None),
        ("/live/x", "websocket, h2c", Some("websocket")),
        ("/live/x", "h2c\r\nUpgrade: WebSocket", Some("websocket")),
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\nOrigin: {}\r\n\
             Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {offer}\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n\r\n",
            edge.port, edge.origin
        );
        let (head, body) = raw(edge.address(), request).await;
        assert_eq!(head.status(), 200, "{path} {offer}: {}", String::from_utf8_lossy(&body.start));
        let received = upstream.last();
        assert_eq!(received.head.one("upgrade").as_deref(), left, "{path} {offer}");
        assert_eq!(received.head.one("http2-settings"), None);
    }
}

#[tokio::test]
async fn a_handshake_is_a_get_that_asks_for_it_in_connection() {
    let upstream = Upstream::start().await;
    let live = "{ id: live, path: \"/live/*\", target_service: own_service, preserve_path: true, auth: none, websocket: true }";
    let edge = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 10").route(live).start().await;
    for (start, connection, left) in [
        ("GET", "Connection: keep-alive, upgrade\r\n", Some("websocket")),
        ("GET", "Connection: keep-alive\r\nConnection: Upgrade\r\n", Some("websocket")),
        ("GET", "", None),
        ("GET", "Connection: keep-alive\r\n", None),
        ("POST", "Connection: Upgrade\r\nContent-Length: 0\r\n", None),
        ("HEAD", "Connection: Upgrade\r\n", None),
    ] {
        let lines = format!("Host: h\r\n{connection}Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
        let mut client = RawClient::connect(edge.address()).await;
        client.send(format!("{start} /live/x HTTP/1.1\r\n{lines}\r\n")).await;
        assert_eq!(client.head().await.status(), 200, "{start} {connection}");
        assert_eq!(upstream.last().head.one("upgrade").as_deref(), left, "{start} {connection}");
    }
}
