//! What a service receives: the identity that we state, the bytes that the client sent, nothing else.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{
    AUDIENCES, Behaviour, Browser, Edge, RawClient, Received, Say, Setup, Upstream, builder, http_client, raw,
};

async fn edge() -> (Edge, Upstream, Browser) {
    let upstream = Upstream::start().await;
    let open =
        "{ id: open, path: \"/open/*\", target_service: own_service, upstream_path: \"/base/{path}\", auth: none }";
    let few = "{ id: few, path: /few, target_service: own_service, methods: [GET, OPTIONS], auth: none }";
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).route(open).route(few);
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    (edge, upstream, browser)
}

/// Sends a GET with these header lines, each ending in CRLF, and returns what the service received.
async fn send(edge: &Edge, upstream: &Upstream, path: &str, lines: &str) -> Received {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n{lines}\r\n", edge.port);
    let (head, body) = raw(edge.address(), request).await;
    assert_eq!(head.status(), 200, "{lines}: {}", String::from_utf8_lossy(&body.start));
    upstream.last()
}

#[tokio::test]
async fn spoofed_identity_never_arrives() {
    let (edge, upstream, browser) = edge().await;
    let cookie = browser.cookie_header(&edge.origin);
    let names = [
        "Authorization",
        "AUTHORIZATION",
        "authorization",
        "X-Original-User",
        "x-original-user",
        "X_Original_User",
        "x_original_user",
        "X-Original_User",
        "X-User-ID",
        "X-User-Foo",
        "x_user_foo",
        "X-User",
        "X-Session-ID",
        "X_SESSION_ID",
        "X-Auth-Time",
        "x_auth_time",
        "X-EmpowerID-Api-Key",
        "x_empowerid_api_key",
        "X-Forwarded-For",
        "X-Forwarded-User",
        "X-Forwarded-Email",
        "x_forwarded_for",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Prefix",
        "Forwarded",
        "X-Real-IP",
        "x_real_ip",
    ];
    for name in names {
        let lines = format!("Cookie: {cookie}\r\n{name}: spoofed-value\r\nX-Harmless: kept\r\n");
        let received = send(&edge, &upstream, "/api/own/x", &lines).await;
        let text = String::from_utf8_lossy(&received.head.bytes).into_owned();
        assert!(!text.contains("spoofed"), "{name}: {text}");
        assert_eq!(received.head.one("x-harmless").as_deref(), Some("kept"));
        assert_eq!(received.head.one("x-original-user").as_deref(), Some("auth:account:testidp:ada"));
    }
}

#[tokio::test]
async fn a_client_cannot_nominate_our_headers_away() {
    let (edge, upstream, browser) = edge().await;
    let cookie = browser.cookie_header(&edge.origin);
    for nominated in ["Authorization", "X-Original-User", "X-Correlation-ID, X-Harmless"] {
        let lines = format!("Cookie: {cookie}\r\nConnection: keep-alive, {nominated}\r\nX-Harmless: dropped?\r\n");
        let request = format!("GET /api/own/x HTTP/1.1\r\nHost: localhost:{}\r\n{lines}\r\n", edge.port);
        let before = upstream.count();
        let (head, _) = raw(edge.address(), request).await;
        if head.status() == 400 {
            assert_eq!(upstream.count(), before);
            continue;
        }
        let received = upstream.last();
        received.bearer();
        assert_eq!(received.head.one("x-original-user").as_deref(), Some("auth:account:testidp:ada"), "{nominated}");
        assert!(received.head.one("x-correlation-id").is_some());
    }
    let lines = format!(
        "Cookie: {cookie}\r\nKeep-Alive: timeout=5\r\nProxy-Authorization: x\r\nTE: gzip\r\nProxy-Connection: x\r\n"
    );
    let received = send(&edge, &upstream, "/api/own/x", &lines).await;
    for hop in ["keep-alive", "proxy-authorization", "te", "proxy-connection", "upgrade"] {
        assert_eq!(received.head.one(hop), None, "{hop}");
    }
}

/// One at a time: a request without any of them is handed on as it is.
#[tokio::test]
async fn no_field_of_one_hop_goes_on() {
    let (edge, upstream, _) = edge().await;
    let fields = [
        ("Connection", "X-Harmless"),
        ("Connection", "keep-alive, X-Harmless"),
        ("Connection", "keep-alive\r\nConnection: X-Harmless"),
        ("Connection", "keep-alive"),
        ("Connection", "Close"),
        ("HTTP2-Settings", "AAMAAABkAAQAoAAA"),
        ("keep-alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("PROXY-AUTHORIZATION", "Basic x"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Trailer", "X-Sum"),
        ("Upgrade", "h2c"),
    ];
    for (name, value) in fields {
        let received = send(&edge, &upstream, "/open/x", &format!("{name}: {value}\r\nX-Harmless: 1\r\n")).await;
        assert_eq!(received.head.one(name), None, "{name}");
        assert_eq!(received.head.one("x-harmless").is_some(), !value.contains("X-Harmless"), "{name}: {value}");
    }
}

#[tokio::test]
async fn an_open_route_states_no_identity() {
    let (edge, upstream, browser) = edge().await;
    let lines = format!(
        "Cookie: {}; theme=dark\r\nX-Original-User: auth:account:testidp:root\r\n",
        browser.cookie_header(&edge.origin)
    );
    let received = send(&edge, &upstream, "/open/x", &lines).await;
    assert_eq!(received.head.one("x-original-user"), None);
    assert_eq!(received.head.one("cookie").as_deref(), Some("theme=dark"), "our cookie is no service's business");
    assert_eq!(received.target(), "/base/x");
}

#[tokio::test]
async fn our_cookies_are_cut_and_the_others_stay_byte_for_byte() {
    let (edge, upstream, browser) = edge().await;
    let ours = browser.cookie_header(&edge.origin);
    let others = [
        ("a=1; b=2", format!("a=1; {ours}; b=2")),
        ("a=1", format!("{ours}; a=1")),
        ("a=1", format!("a=1; {ours}")),
        (
            "odd; =empty; q=\"a b\"; x=y=z; bff_sessionx=1; Bff_session=2",
            format!("odd; =empty; {ours}; q=\"a b\"; x=y=z; bff_sessionx=1; Bff_session=2"),
        ),
    ];
    for (kept, sent) in others {
        let received = send(&edge, &upstream, "/api/own/x", &format!("Cookie: {sent}\r\n")).await;
        assert_eq!(received.head.one("cookie").as_deref(), Some(kept), "{sent}");
    }
    let received = send(&edge, &upstream, "/api/own/x", &format!("Cookie: {ours}\r\n")).await;
    assert_eq!(received.head.one("cookie"), None);
    let received = send(&edge, &upstream, "/open/x", "Cookie: bff_flow_abc=1; a=1\r\n").await;
    assert_eq!(received.head.one("cookie").as_deref(), Some("a=1"), "flow cookies are ours too");
}

#[tokio::test]
async fn http2_cookie_crumbs_are_joined() {
    let (edge, upstream, browser) = edge().await;
    let client = builder().http2_prior_knowledge().build().unwrap();
    let ours = browser.cookie_header(&edge.origin);
    let crumbs =
        client.get(edge.url("/api/own/x")).header("cookie", "a=1").header("cookie", ours).header("cookie", "b=2");
    let answer = crumbs.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    assert_eq!(upstream.last().head.all("cookie"), ["a=1; b=2"]);
    upstream.last().bearer();
}

#[tokio::test]
async fn the_correlation_id_is_kept_where_it_is_sane() {
    let (edge, upstream, _browser) = edge().await;
    let long = "x".repeat(128);
    for sane in ["abc", "A-b_c.9", long.as_str()] {
        let answer = http_client().get(edge.url("/open/x")).header("x-correlation-id", sane).send().await.unwrap();
        assert_eq!(answer.headers()["x-correlation-id"], sane);
        assert_eq!(upstream.last().head.one("x-correlation-id").as_deref(), Some(sane));
    }
    let too_long = "x".repeat(129);
    for odd in ["", "a b", "a/b", "<script>", "a,b", too_long.as_str()] {
        let answer = http_client().get(edge.url("/open/x")).header("x-correlation-id", odd).send().await.unwrap();
        let made = answer.headers()["x-correlation-id"].to_str().unwrap().to_owned();
        assert_ne!(made, odd);
        assert!((16..=128).contains(&made.len()), "{made}");
        assert_eq!(upstream.last().head.one("x-correlation-id"), Some(made));
    }
    let refused = http_client().get(edge.url("/api/own/x")).header("x-correlation-id", "mine").send().await.unwrap();
    assert_eq!(refused.headers()["x-correlation-id"], "mine");
    assert_eq!(refused.json::<Value>().await.unwrap()["correlation_id"], "mine");
}

#[tokio::test]
async fn the_way_here_is_stated() {
    let (edge, upstream, _browser) = edge().await;
    let received = send(&edge, &upstream, "/open/x", "").await;
    let one = |name: &str| received.head.one(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(one("x-forwarded-for"), "127.0.0.1");
    assert_eq!(one("x-forwarded-proto"), "http");
    assert_eq!(one("x-forwarded-host"), format!("localhost:{}", edge.port));
    assert!(one("via").starts_with("1.1 "), "{}", one("via"));
    let trace: Vec<_> = one("traceparent").split('-').map(str::len).collect();
    assert_eq!(trace, [2, 32, 16, 2]);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let received = send(&edge, &upstream, "/open/x", &format!("traceparent: {parent}\r\ntracestate: a=b\r\n")).await;
    let child = received.head.one("traceparent").unwrap();
    assert!(child.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "the trace goes on: {child}");
    assert_eq!(received.head.one("tracestate").as_deref(), Some("a=b"));
    let received = send(&edge, &upstream, "/open/x", "traceparent: nonsense\r\ntracestate: a=b\r\n").await;
    assert_eq!(received.head.one("tracestate"), None, "it is about another trace");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let upstream = Upstream::start().await;
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).route(open);
    let edge = setup.server("trusted_proxies: [127.0.0.0/8]").start().await;
    let lines = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n";
    let received = send(&edge, &upstream, "/open/x", lines).await;
    assert!(received.head.one("x-forwarded-for").unwrap().starts_with("203.0.113.7"));
    assert_eq!(received.head.one("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(received.head.one("x-forwarded-host").as_deref(), Some("shop.example"));
    // Some proxies add a line of their own below what the client sent.
    let lines = "X-Forwarded-For: 198.51.100.66\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: evil.example\r\n\
                 X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n";
    let received = send(&edge, &upstream, "/open/x", lines).await;
    assert_eq!(received.head.one("x-forwarded-for").as_deref(), Some("198.51.100.66, 203.0.113.7, 127.0.0.1"));
    assert_eq!(received.head.one("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(received.head.one("x-forwarded-host").as_deref(), Some("shop.example"));
    // RFC 7239 says the same in one field.
    let line =
        "Forwarded: for=198.51.100.66;host=evil.example, for=\"[2001:db8::7]:4711\";proto=https;host=shop.example\r\n";
    let received = send(&edge, &upstream, "/open/x", line).await;
    assert_eq!(received.head.one("x-forwarded-for").as_deref(), Some("198.51.100.66, 2001:db8::7, 127.0.0.1"));
    assert_eq!(received.head.one("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(received.head.one("x-forwarded-host").as_deref(), Some("shop.example"));
    assert_eq!(received.head.one("forwarded"), None);
}

#[tokio::test]
async fn path_and_query_travel_byte_for_byte() {
    let (edge, upstream, browser) = edge().await;
    let cookie = format!("Cookie: {}\r\n", browser.cookie_header(&edge.origin));
    let targets = [
        "/api/own/a%20b~?x=%2F..%2f&y=a+b&&=&z",
        "/api/own/x?",
        "/api/own/x?a=1?b=2",
        "/api/own/x?q=//../%00%zz",
        "/api/own/%E2%82%AC?q=€",
    ];
    for target in targets {
        assert_eq!(send(&edge, &upstream, target, &cookie).await.target(), target);
    }
    assert_eq!(send(&edge, &upstream, "/open/a/b%20c?d=e%2F", "").await.target(), "/base/a/b%20c?d=e%2F");
}

#[tokio::test]
async fn every_method_and_status_passes_with_its_body() {
    let (edge, upstream, browser) = edge().await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let answer = browser.client.request(method.clone(), edge.url("/api/own/x")).body("hello").send().await.unwrap();
        let echo: Value = answer.json().await.unwrap();
        assert_eq!((&echo["method"], &echo["body_length"]), (&Value::from(method.as_str()), &Value::from(5)));
    }
    for status in [201, 400, 404, 418, 500, 503] {
        upstream.behave(crate::harness::Behaviour::Status(status));
        let answer = browser.get(edge.url("/api/own/x")).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-type"], "application/json", "the service's own answer, not ours");
    }
}

#[tokio::test]
async fn connections_to_a_service_are_kept() {
    let (edge, upstream, browser) = edge().await;
    for _ in 0..20 {
        assert_eq!(browser.get(edge.url("/api/own/x")).await.status(), 200);
    }
    assert_eq!(upstream.count(), 20);
    assert!(upstream.connections() <= 4, "{} connections for 20 requests", upstream.connections());
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body() {
    let (edge, _upstream, browser) = edge().await;
    let mut client = RawClient::connect(edge.address()).await;
    let head = format!(
        "POST /api/own/x HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        edge.port,
        browser.cookie_header(&edge.origin)
    );
    client.send(head).await;
    assert_eq!(client.head().await.status(), 100);
    let (head, body) = client.ask("hello").await;
    assert_eq!(head.status(), 200);
    assert_eq!(serde_json::from_slice::<Value>(&body.start).unwrap()["body_length"], 5);
    // Without a session the body is never asked for.
    let mut client = RawClient::connect(edge.address()).await;
    let head = "POST /api/own/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(client.ask(head).await.0.status(), 401);
}

#[tokio::test]
async fn our_credentials_are_not_repeated_to_the_client() {
    let (edge, upstream, browser) = edge().await;
    let cookie = browser.cookie_header(&edge.origin);
    for path in ["/api/own/x", "/open/x"] {
        let request = format!("TRACE {path} HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n", edge.port);
        let (head, _) = raw(edge.address(), request).await;
        assert_eq!(head.status(), 405, "{path}");
        assert_eq!(head.one("allow").as_deref(), Some("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"), "{path}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn an_absolute_form_is_read_as_its_path_and_query() {
    let (edge, upstream, _browser) = edge().await;
    let authority = format!("localhost:{}", edge.port);
    for (target, status) in [
        (format!("http://{authority}/open/x?y=/z"), 200),
        (format!("HTTP://{authority}/open/x?y=/z"), 200),
        (format!("http://{authority}?y=/open/x"), 404),
    ] {
        let (head, _) = raw(edge.address(), format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
        assert_eq!(head.status(), status, "{target}");
    }
    assert_eq!(upstream.last().target(), "/base/x?y=/z");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_body_that_is_coded_twice_is_refused() {
    let (edge, upstream, _browser) = edge().await;
    for codings in ["gzip, chunked", "chunked\r\nTransfer-Encoding: chunked", "identity, chunked"] {
        let request = format!(
            "POST /open/x HTTP/1.1\r\nHost: localhost:{}\r\nTransfer-Encoding: {codings}\r\n\r\n0\r\n\r\n",
            edge.port
        );
        assert_eq!(raw(edge.address(), request).await.0.status(), 400, "{codings}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn no_service_sets_our_cookies() {
    let (edge, upstream, browser) = edge().await;
    let ours = browser.cookie_header(&edge.origin);
    let lines = "Set-Cookie: a=1; Path=/\r\nSet-Cookie: bff_session=planted; Path=/\r\nSet-Cookie: =bff_session=x\r\n\
                 Set-Cookie: bff_flow_a=1\r\nSet-Cookie: b=2\r\n";
    upstream.behave(Behaviour::Say(Say { lines: lines.to_owned(), ..Say::default() }));
    for path in ["/open/x", "/api/own/x"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {ours}\r\n\r\n", edge.port);
        assert_eq!(raw(edge.address(), request).await.0.all("set-cookie"), ["a=1; Path=/", "b=2"], "{path}");
    }
}

#[tokio::test]
async fn http_1_0_is_sent_no_chunks() {
    let (edge, upstream, _browser) = edge().await;
    upstream.behave(Behaviour::Events { count: 2, every: Duration::from_millis(10) });
    for keep in ["", "Connection: keep-alive\r\n"] {
        let mut stream = tokio::net::TcpStream::connect(edge.address()).await.unwrap();
        stream.write_all(format!("GET /open/x HTTP/1.0\r\n{keep}\r\n").as_bytes()).await.unwrap();
        let mut said = String::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut said)).await;
        closed.expect("its end is the end of the connection").unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        let head = head.to_ascii_lowercase();
        assert!(!head.contains("transfer-encoding") && head.contains("connection: close"), "{head}");
        assert!(body.starts_with("data: ") && body.ends_with("\n\n") && !body.contains('\r'), "{body:?}");
    }
}

/// RFC 9110 §7.6.2.
#[tokio::test]
async fn an_options_goes_no_further_than_it_may() {
    let (edge, upstream, _browser) = edge().await;
    let ask_at = async |path: &str, left: &str| {
        let request = format!("OPTIONS {path} HTTP/1.1\r\nHost: h\r\n{left}\r\n");
        raw(edge.address(), request).await.0
    };
    let ask = async |left: &str| ask_at("/open/x", left).await;
    let ours = ask("Max-Forwards: 0\r\n").await;
    assert_eq!((ours.status(), upstream.count()), (204, 0));
    assert!(ours.one("allow").unwrap().contains("PATCH"));
    let few = ask_at("/few", "Max-Forwards: 0\r\n").await;
    assert_eq!((few.status(), few.one("allow").as_deref()), (204, Some("GET, HEAD, OPTIONS")));
    for (sent, told) in [("Max-Forwards: 3\r\n", Some("2")), ("Max-Forwards: x\r\n", Some("x")), ("", None)] {
        assert_eq!(ask(sent).await.status(), 200);
        assert_eq!(upstream.last().head.one("max-forwards").as_deref(), told, "{sent}");
    }
}
