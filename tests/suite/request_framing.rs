//! What is sent is one request to everybody, or none: raw bytes against an edge in front of a service that
//! records what reaches it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::harness::{Behaviour, Edge, RawClient, Say, Setup, Upstream, raw};

/// Longer than any refusal takes, shorter than every timeout of the edge.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn edge() -> (Edge, Upstream) {
    let upstream = Upstream::start().await;
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 10").route(open);
    (setup.start().await, upstream)
}

/// A request with these lines after its own `Host`, and what follows its head.
fn with(method: &str, lines: &str, rest: &str) -> Vec<u8> {
    format!("{method} /open/x HTTP/1.1\r\nHost: h\r\n{lines}\r\n{rest}").into_bytes()
}

/// Bytes that are no text.
fn get_with(field: &[u8]) -> Vec<u8> {
    [b"GET /open/x HTTP/1.1\r\nHost: h\r\n", field, b"\r\n\r\n"].concat()
}

const SMUGGLED: &str = "GET /open/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

const LENGTHS: &[&str] = &[
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
    "Transfer-Encoding:\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 5,6\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: -0\r\n",
    "Content-Length: 005\r\n",
    "Content-Length: 00\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 5.0\r\n",
    "Content-Length: 5e0\r\n",
    "Content-Length: 5 5\r\n",
    "Content-Length: 5;\r\n",
    "Content-Length: \"5\"\r\n",
    "Content-Length:\r\n",
    "Content-Length: \t\r\n",
    "Content-Length: five\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "Content-Length: 18446744073709551621\r\n",
    "Content-Length: 9223372036854775808\r\n",
    "Content-Length : 5\r\n",
    "Content_Length: 5\r\n",
    "Content-Length: 5\r\nContent_Length: 6\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\ntransfer-encoding: x\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunkedx\r\n",
    "Transfer-Encoding: chunked;q=1\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: 'chunked'\r\n",
    "Transfer-Encoding: chunk\r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding: chunked,\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding: \x0cchunked\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Transfer-Encoding: chunked\0\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding\t: chunked\r\n",
    " Transfer-Encoding: chunked\r\n",
    "X: y\r\n Transfer-Encoding: chunked\r\n",
    "X: y\r\n\tTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Transfer-Encoding:\n chunked\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent_Length: 5\r\n",
    "Transfer-\0Encoding: chunked\r\n",
    "Transfer-Encoding\r\n: chunked\r\n",
];

const CHUNKS: &[&str] = &[
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-1\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "\t5\r\nhello\r\n0\r\n\r\n",
    "5_0\r\nhello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhelloworld\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "5;\n\r\nhello\r\n0\r\n\r\n",
    "5;a=\"\nb\"\r\nhello\r\n0\r\n\r\n",
    "5;a\0\r\nhello\r\n0\r\n\r\n",
    "5;\r\nhello\r\n0\r\n\r\n",
    "5;=a\r\nhello\r\n0\r\n\r\n",
    "5;a=\r\nhello\r\n0\r\n\r\n",
    "5;a;;b\r\nhello\r\n0\r\n\r\n",
    "5;bad[=x\r\nhello\r\n0\r\n\r\n",
    "5;a=b c\r\nhello\r\n0\r\n\r\n",
    "5;a=\"b\r\nhello\r\n0\r\n\r\n",
    "1;a=\"\r\nX\r\n0\r\n\r\nGET /open/smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    "5\r\nhello\r\n0;\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "0000000000000000000005\r\nhello\r\n0\r\n\r\n",
    "\r\n5\r\nhello\r\n0\r\n\r\n",
    "G\r\nhello\r\n0\r\n\r\n",
    ";x\r\nhello\r\n0\r\n\r\n",
    "0\n\r\n",
    "0\r\n\n",
    "0\r\nX: y\n\r\n",
    "0\r\nX y\r\n\r\n",
    "0\r\n X: y\r\n\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\nGET /open/smuggled HTTP/1.1\r\n\r\n",
];

const FIELDS: &[&str] = &[
    "X : y\r\n",
    " X: y\r\n",
    "\tX: y\r\n",
    "X\t: y\r\n",
    ": y\r\n",
    "X\r\n",
    "X y\r\n",
    "X: y\r\n z\r\n",
    "X: y\r\n\tz\r\n",
    "X: y\n",
    "X: y\r",
    "X: y\rz\r\n",
    "X: \0\r\n",
    "X: a\x01b\r\n",
    "X: a\x7fb\r\n",
    "X: \x1b[0m\r\n",
    "X\0: y\r\n",
    "X(: y\r\n",
    "X/Y: z\r\n",
    "X,Y: z\r\n",
    "\"X\": y\r\n",
    "X@: y\r\n",
    "{X}: y\r\n",
    "X\x01: y\r\n",
    "Host: h\r\n",
    "Host: other\r\n",
    "host: h\r\n",
    "HOST: h\r\n",
    "Ho\0st: h\r\n",
];

const HOSTS: &[&str] = &[
    "", " ", "h, h", "h h", "h/x", "h:80:80", "h:x", "h:99999", "u@h", "u:p@h", "h\\x", "[::1", "[h]", "h#x", "h?x",
    "<h>", "http://h", "h:", ":80", "h,other", "h%00",
];

const LINES: &[&str] = &[
    "GET /open/x",
    "GET  /open/x HTTP/1.1",
    "GET /open/x  HTTP/1.1",
    " GET /open/x HTTP/1.1",
    "GET /open/x HTTP/1.1 ",
    "GET\t/open/x\tHTTP/1.1",
    "GET /open/x\tHTTP/1.1",
    "GET /open/a b HTTP/1.1",
    "GET HTTP/1.1",
    "GET",
    "/open/x HTTP/1.1",
    "G(T /open/x HTTP/1.1",
    "GET\0 /open/x HTTP/1.1",
    "G\x01T /open/x HTTP/1.1",
    "GET: /open/x HTTP/1.1",
    "GET /open/x http/1.1",
    "GET /open/x HTTP/1.1x",
    "GET /open/x HTTP/11",
    "GET /open/x HTTP/1.10",
    "GET /open/x HTTP/01.1",
    "GET /open/x HTTP /1.1",
    "GET /open/x HTTPS/1.1",
    "GET /open/x XTTP/1.1",
    "GET /open/x HTTP/1,1",
    "GET /open/x HTTP/ 1.1",
    "GET /open/x HTTP/1.\x31\x01",
    "GET open/x HTTP/1.1",
    "GET \\open\\x HTTP/1.1",
    "GET * HTTP/1.1",
    "GET h:80 HTTP/1.1",
    "GET http:///open/x HTTP/1.1",
    "GET http://other/open/x HTTP/1.1",
    "GET http://u@h/open/x HTTP/1.1",
    "GET http://h:80:80/open/x HTTP/1.1",
    "GET http:/open/x HTTP/1.1",
    "GET http:open/x HTTP/1.1",
    "GET ftp://h/open/x HTTP/1.1",
    "GET javascript:x HTTP/1.1",
    "GET http://h\\@other/open/x HTTP/1.1",
    "GET http://h#/open/x HTTP/1.1",
    "GET http://[::1/open/x HTTP/1.1",
    "GET ?x HTTP/1.1",
    "GET #x HTTP/1.1",
    "GET /open/x#y HTTP/1.1",
    "GET /open/\x7fx HTTP/1.1",
    "GET /open/\x01x HTTP/1.1",
    "GET /open/\u{e9} HTTP/1.1",
    "GET /open/<x> HTTP/1.1",
    "GET /open/`x` HTTP/1.1",
    "GET /open/x?<y> HTTP/1.1",
    "GET /open/x?y=\"z\" HTTP/1.1",
    "GET http://h/open/x?<y> HTTP/1.1",
];

/// Two lengths, lengths that are none, and codings that one reader knows and the next does not.
fn ambiguous_lengths() -> Vec<Vec<u8>> {
    let body = format!("0\r\n\r\n{SMUGGLED}");
    let mut cases = Vec::new();
    for lines in LENGTHS {
        cases.push(with("POST", lines, &body));
    }
    cases.push(format!("POST /open/x HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes());
    cases
}

/// Chunks that one reader ends elsewhere than the next.
fn ambiguous_chunks() -> Vec<Vec<u8>> {
    let chunked = |body: &str| with("POST", "Transfer-Encoding: chunked\r\n", body);
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1000));
    let mut bodies: Vec<&str> = CHUNKS.to_vec();
    bodies.push(&long);
    bodies.into_iter().map(|body| chunked(&format!("{body}{SMUGGLED}"))).collect()
}

/// Header fields that are none.
fn broken_fields() -> Vec<Vec<u8>> {
    let mut cases: Vec<Vec<u8>> = FIELDS.iter().map(|lines| with("GET", lines, SMUGGLED)).collect();
    cases.extend([&b"X\xe9: y"[..], b"\xffX: y", b"X: \x08", b"\xc2\xa0X: y"].map(get_with));
    for host in HOSTS {
        cases.push(format!("GET /open/x HTTP/1.1\r\nHost: {host}\r\n\r\n{SMUGGLED}").into_bytes());
    }
    cases
}

/// Request lines that are none.
fn broken_lines() -> Vec<Vec<u8>> {
    let whole = |line: &&str| format!("{line}\r\nHost: h\r\n\r\n{SMUGGLED}").into_bytes();
    let mut cases: Vec<Vec<u8>> = LINES.iter().map(whole).collect();
    cases.extend([
        b"\0\0\0\0".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\x80\x80\x80\x80".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"{\"json\": true}".to_vec(),
        b"A".repeat(100),
        b"GET /open/x?\xe9 HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"GET /open/x HTTP/1.1\nHost: h\n\n".to_vec(),
        b"GET /open/x HTTP/1.1\r\nHost: h\r\n\n".to_vec(),
        b"GET /open/x HTTP/1.1\rHost: h\r\r".to_vec(),
        b"\nGET /open/x HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"GET /open/x HTTP/1.1\r\n\r\n".to_vec(),
        b"GET /open/x HTTP/1.1\r\n Host: h\r\n\r\n".to_vec(),
        b"PRI * HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
    ]);
    cases
}

/// Sends it on a connection of its own; the refusal and that it is said well.
pub(crate) async fn refusal(edge: &Edge, bytes: &[u8], shown: &str) -> u16 {
    let mut client = RawClient::connect(edge.address()).await;
    client.send(bytes).await;
    let head = timeout(AT_ONCE, client.reader.head()).await;
    let head = head.unwrap_or_else(|_| panic!("no answer at once to {shown}")).unwrap();
    let head = head.unwrap_or_else(|| panic!("closed without an answer: {shown}"));
    let body = client.reader.body(&head).await.unwrap();
    assert_eq!(head.one("content-type").as_deref(), Some("application/problem+json"), "{shown}");
    assert_eq!(head.one("connection").as_deref(), Some("close"), "{shown}");
    let problem: Value = serde_json::from_slice(&body.start).unwrap();
    assert_eq!(problem["status"], head.status(), "{shown}");
    assert_eq!(problem["correlation_id"].as_str(), head.one("x-correlation-id").as_deref(), "{shown}");
    let end = timeout(AT_ONCE, client.reader.head()).await;
    assert!(matches!(end, Ok(Ok(None) | Err(_))), "it goes on after the refusal of {shown}: {end:?}");
    head.status()
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(160)].escape_ascii().to_string()
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_at_once_and_reaches_nobody() {
    let (edge, upstream) = edge().await;
    let cases = [ambiguous_lengths(), ambiguous_chunks(), broken_fields(), broken_lines()].concat();
    assert!(cases.len() > 180, "{}", cases.len());
    for bytes in &cases {
        let shown = shown(bytes);
        let status = refusal(&edge, bytes, &shown).await;
        assert_eq!(status, 400, "{shown}");
        assert_eq!((upstream.count(), upstream.connections()), (0, 0), "a service heard of {shown}");
    }
}

#[tokio::test]
async fn what_is_too_much_or_not_spoken_has_its_own_status() {
    let (edge, upstream) = edge().await;
    let line = |text: &str| format!("{text}\r\nHost: h\r\n\r\n{SMUGGLED}");
    let long = "x".repeat(20_000);
    for (status, request) in [
        (414, line(&format!("GET /open/{long} HTTP/1.1"))),
        (414, line(&format!("GET /open/x?{long} HTTP/1.1"))),
        (431, String::from_utf8(with("GET", &format!("X: {}\r\n", "x".repeat(70_000)), "")).unwrap()),
        (431, String::from_utf8(with("GET", &format!("{}: x\r\n", "x".repeat(70_000)), "")).unwrap()),
        (431, String::from_utf8(with("GET", &"X: y\r\n".repeat(200), "")).unwrap()),
        (505, line("GET /open/x HTTP/1.2")),
        (505, line("GET /open/x HTTP/2.0")),
        (505, line("GET /open/x HTTP/0.9")),
        (505, line("GET /open/x HTTP/9.9")),
        (405, line("CONNECT h:80 HTTP/1.1")),
        (405, line("CONNECT /open/x HTTP/1.1")),
    ] {
        assert_eq!(refusal(&edge, request.as_bytes(), &shown(request.as_bytes())).await, status);
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn what_is_odd_and_clear_is_forwarded_as_one_request() {
    let (edge, upstream) = edge().await;
    let port = edge.port;
    let cases: Vec<(String, u64)> = vec![
        ("GET /open/x HTTP/1.1\r\nhOST:h\r\n\r\n".into(), 0),
        ("GET /open/x HTTP/1.1\r\nHost:\t h \t\r\n\r\n".into(), 0),
        (format!("GET /open/x HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"), 0),
        ("GET /open/x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n".into(), 0),
        ("GET http://h/open/x HTTP/1.1\r\nHost: h\r\n\r\n".into(), 0),
        ("HTTP://".to_lowercase().replace("http", "GET HTTP") + "h/open/x HTTP/1.1\r\nHost: h\r\n\r\n", 0),
        ("\r\nGET /open/x HTTP/1.1\r\nHost: h\r\n\r\n".into(), 0),
        ("GET /open/x HTTP/1.0\r\nHost: h\r\n\r\n".into(), 0),
        ("GET /open/x HTTP/1.0\r\n\r\n".into(), 0),
        ("GET /open/x HTTP/1.1\r\nHost: h\r\nX:\r\nX-Empty: \r\n\r\n".into(), 0),
        ("GET /open/x HTTP/1.1\r\nHost: h\r\nX: caf\u{e9}\r\n\r\n".into(), 0),
        ("GET /open/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".into(), 0),
        ("GET /open/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello".into(), 5),
        ("POST /open/x HTTP/1.1\r\nHost: h\r\n\r\n".into(), 0),
        ("POST /open/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello".into(), 5),
        ("POST /open/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n".into(), 5),
        (
            "POST /open/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n05;a=b;c\r\nhello\r\n00\r\n\r\n"
                .into(),
            5,
        ),
        (
            "POST /open/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-ID\r\n\r\n\
             5\r\nhello\r\n0\r\nX-User-ID: root\r\nX-Original-User: root\r\nAuthorization: Bearer x\r\n\r\n"
                .into(),
            5,
        ),
        ("PROPFIND /open/x HTTP/1.1\r\nHost: h\r\n\r\n".into(), 0),
        ("get /open/x HTTP/1.1\r\nHost: h\r\n\r\n".into(), 0),
    ];
    for (number, (request, length)) in cases.iter().enumerate() {
        let mut client = RawClient::connect(edge.address()).await;
        let (head, _) = client.ask(request).await;
        assert_eq!(head.status(), 200, "{request:?}");
        assert_eq!(upstream.count(), number + 1, "{request:?}");
        let received = upstream.last();
        assert_eq!((received.target().as_str(), received.body.length), ("/open/x", *length), "{request:?}");
        let named = [received.head.all("content-length"), received.head.all("transfer-encoding")].concat();
        assert!(named.len() <= 1, "{request:?}: {named:?}");
        for name in ["x-user-id", "x-original-user", "authorization", "trailer"] {
            assert_eq!(received.head.all(name), Vec::<String>::new(), "{request:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_goes_wrong_on_its_way_ends_the_request_and_the_connection() {
    let (edge, upstream) = edge().await;
    let start = with("POST", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n");
    let mut client = RawClient::connect(edge.address()).await;
    client.send(&start).await;
    eventually!("the service has the head", upstream.heads() == 1);
    client.send(format!("5\nworld\r\n0\r\n\r\n{SMUGGLED}")).await;
    let (head, body) = client.response().await;
    assert_eq!(head.status(), 400, "{}", body.start.escape_ascii());
    assert_eq!(head.one("connection").as_deref(), Some("close"));
    assert!(!matches!(timeout(AT_ONCE, client.reader.head()).await, Ok(Ok(Some(_)))), "it goes on");
    assert_eq!((upstream.count(), upstream.heads()), (0, 1), "no whole request came");
}

#[tokio::test]
async fn pipelined_requests_are_each_answered_in_order() {
    let (edge, upstream) = edge().await;
    let get = |number: usize| format!("GET /open/{number} HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut client = RawClient::connect(edge.address()).await;
    client.send((0..50).map(get).collect::<String>()).await;
    for number in 0..50 {
        let (head, body) = client.response().await;
        assert_eq!(head.status(), 200);
        let said = String::from_utf8_lossy(&body.start).into_owned();
        assert!(said.contains(&format!("\"/open/{number}\"")), "{number}: {said}");
    }
    let post = "POST /open/p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    let chunks = "POST /open/c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n";
    let head = "HEAD /open/h HTTP/1.1\r\nHost: h\r\n\r\n";
    let refused = "GET /open/../x HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(format!("{post}{}{chunks}{refused}{head}{}", get(1), get(2))).await;
    let mut targets = Vec::new();
    for expected in [200, 200, 200, 400, 200, 200] {
        let head = client.head().await;
        assert_eq!(head.status(), expected);
        targets.push(upstream.last().target());
        if targets.len() != 5 {
            client.reader.body(&head).await.unwrap();
        }
    }
    assert_eq!(upstream.count(), 55);
    // The last word ends the connection; what was sent behind it reaches nobody.
    client.send(format!("GET /open/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n{SMUGGLED}")).await;
    let (head, _) = client.response().await;
    assert_eq!(head.one("connection").as_deref(), Some("close"));
    assert!(matches!(timeout(AT_ONCE, client.reader.head()).await, Ok(Ok(None) | Err(_))));
    assert_eq!(upstream.count(), 56);
}

/// The echo service writes a body whatever the method, after the head.
#[tokio::test]
async fn a_body_that_answers_a_head_is_nobodys_next_answer() {
    let (edge, upstream) = edge().await;
    let mut client = RawClient::connect(edge.address()).await;
    for number in 0..50 {
        client
            .send(format!("HEAD /open/h HTTP/1.1\r\nHost: h\r\n\r\nGET /open/{number} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .await;
        assert_eq!(client.head().await.status(), 200);
        let (head, body) = client.response().await;
        assert_eq!(head.status(), 200, "{number}");
        assert!(String::from_utf8_lossy(&body.start).contains(&format!("\"/open/{number}\"")), "{number}");
    }
    let heads = upstream.all().into_iter().filter(|received| received.head.start_line().starts_with("HEAD "));
    assert!(heads.into_iter().all(|received| received.head.one("connection").as_deref() == Some("close")));
}

#[tokio::test]
async fn what_comes_before_its_time_is_no_request() {
    let (edge, upstream) = edge().await;
    for upgrade in ["h2c", "x", "TLS/1.0"] {
        let mut client = RawClient::connect(edge.address()).await;
        client.send(with("GET", &format!("Connection: Upgrade\r\nUpgrade: {upgrade}\r\n"), SMUGGLED)).await;
        let (head, _) = client.response().await;
        assert_eq!(head.status(), 200, "{upgrade}");
        assert!(matches!(timeout(AT_ONCE, client.reader.head()).await, Ok(Ok(None) | Err(_))), "{upgrade}");
    }
    assert_eq!(upstream.count(), 3);
    // Sent without waiting for the 100 that was asked for: still one body, then one request.
    let mut client = RawClient::connect(edge.address()).await;
    let post = with("POST", "Expect: 100-continue\r\nContent-Length: 5\r\n", "hello");
    client.send([&post, SMUGGLED.as_bytes()].concat()).await;
    let mut finals = 0;
    while finals < 2 {
        let (head, _) = client.response().await;
        finals += usize::from(head.status() == 200);
        assert!(matches!(head.status(), 100 | 200), "{}", head.status());
    }
    let sent = upstream.all();
    assert_eq!(sent.len(), 5);
    assert_eq!((sent[3].body.length, sent[4].target().as_str()), (5, "/open/smuggled"), "two were sent, two came");
}

#[tokio::test]
async fn fields_for_one_hop_end_there_and_an_unasked_protocol_is_an_error() {
    let (edge, upstream) = edge().await;
    let lines = "Connection: X-Secret, close\r\nX-Secret: a\r\nKeep-Alive: timeout=5\r\nX-Kept: b\r\n".to_owned();
    upstream.behave(Behaviour::Say(Say { lines, ..Say::default() }));
    let (head, _) = raw(edge.address(), with("GET", "", "")).await;
    assert_eq!((head.status(), head.one("x-kept").as_deref()), (200, Some("b")));
    for gone in ["x-secret", "keep-alive"] {
        assert_eq!(head.one(gone), None, "{gone}");
    }
    upstream.behave(Behaviour::Say(Say { status: 101, ..Say::default() }));
    let (head, _) = raw(edge.address(), with("GET", "", "")).await;
    assert_eq!(head.status(), 502);
}

/// A proxy that is believed and writes only one of the two spellings passes on what a client wrote in the other.
#[tokio::test]
async fn what_a_client_wrote_in_the_other_spelling_is_not_believed() {
    let upstream = Upstream::start().await;
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 10").route(open);
    let edge = setup.server("trusted_proxies: [127.0.0.1]").start().await;
    let registered = "Forwarded: for=198.51.100.1;proto=http;host=shop.example\r\n";
    let unregistered = "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: shop.example\r\n";
    let evil = "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n";
    let evil_too = "Forwarded: for=10.0.0.1;proto=https;host=evil.example\r\n";
    for lines in [format!("{evil}{registered}"), format!("{evil_too}{unregistered}")] {
        raw(edge.address(), with("GET", &lines, "")).await;
        let head = upstream.last().head;
        let one = |name: &str| head.one(name).unwrap_or_default();
        assert_eq!(one("x-forwarded-for"), "127.0.0.1", "{lines}");
        assert_eq!((one("x-forwarded-proto"), one("x-forwarded-host")), ("http".to_owned(), "h".to_owned()), "{lines}");
    }
    for lines in [registered.to_owned(), unregistered.to_owned(), format!("{registered}{unregistered}")] {
        raw(edge.address(), with("GET", &lines, "")).await;
        let head = upstream.last().head;
        assert_eq!(head.one("x-forwarded-for").as_deref(), Some("198.51.100.1, 127.0.0.1"), "{lines}");
        assert_eq!(head.one("x-forwarded-host").as_deref(), Some("shop.example"), "{lines}");
    }
}
