//! What is refused, with which status and words, and that the connection survives it.

use serde_json::Value;

use crate::harness::{AUDIENCES, Browser, Edge, RawClient, Setup, Upstream, http_client, location, problem, raw};

const APP: &str = "https://app.example.com";

async fn edge() -> (Edge, Upstream, Browser) {
    let upstream = Upstream::start().await;
    let only_get = "{ id: only-get, path: \"/only/get\", target_service: own_service, preserve_path: true, auth: session, \
                    methods: [GET, DELETE] }";
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).route(only_get).route(open);
    let edge = setup.top(&format!("cors: {{ allow_origins: [\"{APP}\"] }}")).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    (edge, upstream, browser)
}

#[tokio::test]
async fn an_ambiguous_path_is_400_and_never_forwarded() {
    let (edge, upstream, _browser) = edge().await;
    let refused = [
        "/open/../admin",
        "/open/./x",
        "/open/..",
        "/open//x",
        "//open/x",
        "/open/\\x",
        "/open/%2e%2e/x",
        "/open/%2E%2e/x",
        "/open/.%2e/x",
        "/open/%2fx",
        "/open/%2Fx",
        "/open/%5cx",
        "/open/%00x",
        "/open/..;/x",
        "/open/..;a=b/x",
        "/open/%zzx",
        "/open/%2",
        "/open/%c0%ae%c0%ae/x",
        "/open/%c0%af",
        "/open/x#y",
        "/open/\x01x",
        "/open/\x7fx",
        "/open/%0d%0a",
    ];
    for path in refused {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", edge.port);
        let (head, _) = raw(edge.address(), request).await;
        assert_eq!(head.status(), 400, "{path:?}: {}", head.start_line());
    }
    assert_eq!(upstream.count(), 0);
    for path in ["/open/a%20b", "/open/a.b..c/...", "/open/%E2%82%AC", "/open/a;b=c", "/open/a%3Bb", "/open/~%25"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", edge.port);
        let (head, _) = raw(edge.address(), request).await;
        assert_eq!(head.status(), 200, "{path:?} is harmless");
        assert_eq!(upstream.last().target(), path, "forwarded as it came");
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_known_one_names_its_methods() {
    let (edge, upstream, browser) = edge().await;
    let answer = browser.get(edge.url("/nowhere")).await;
    assert_eq!(answer.status(), 404);
    assert_eq!(problem(answer).await["code"], "no_route");
    let answer = browser.post(edge.url("/only/get")).await;
    assert_eq!(answer.status(), 405);
    let mut allow: Vec<_> = answer.headers()["allow"].to_str().unwrap().split(", ").map(str::to_owned).collect();
    allow.sort();
    allow.retain(|method| !matches!(method.as_str(), "HEAD" | "OPTIONS"));
    assert_eq!(allow, ["DELETE", "GET"]);
    assert_eq!(problem(answer).await["code"], "method_not_allowed");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_listed_page_may_read_every_refusal() {
    let (edge, _upstream, _browser) = edge().await;
    for (status, line) in [(400, "GET /open/%2e%2e/x"), (404, "GET /nowhere"), (405, "POST /only/get")] {
        let request = format!("{line} HTTP/1.1\r\nHost: h\r\nOrigin: {APP}\r\nContent-Length: 0\r\n\r\n");
        let (head, _) = raw(edge.address(), request).await;
        assert_eq!((head.status(), head.one("access-control-allow-origin").as_deref()), (status, Some(APP)), "{line}");
        let (head, _) = raw(edge.address(), format!("{line} HTTP/1.1\r\nHost: h\r\nOrigin: {APP}x\r\n\r\n")).await;
        assert_eq!((head.status(), head.one("access-control-allow-origin")), (status, None), "{line}");
    }
}

#[tokio::test]
async fn a_missing_session_is_json_for_scripts_and_a_redirect_for_navigations() {
    let (edge, upstream, browser) = edge().await;
    let client = http_client();
    let answer = client.get(edge.url("/api/own/x?y=1")).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let body = problem(answer).await;
    assert_eq!(body["code"], "not_authenticated");
    assert!(body["login_url"].as_str().unwrap().contains("/auth/login"), "{body}");

    let navigation = |method: reqwest::Method| {
        let request = client.request(method, edge.url("/api/own/x?y=1&z=%2F"));
        request.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document").send()
    };
    let answer = navigation(reqwest::Method::GET).await.unwrap();
    assert_eq!(answer.status(), 302);
    let target = reqwest::Url::parse(&edge.origin).unwrap().join(&location(&answer).unwrap()).unwrap();
    assert_eq!(target.path(), "/auth/login");
    assert_eq!(target.query_pairs().next().unwrap(), ("return_to".into(), "/api/own/x?y=1&z=%2F".into()));
    assert_eq!(navigation(reqwest::Method::POST).await.unwrap().status(), 401, "only GET goes to the login");

    let live = browser.cookie(&edge.origin, "bff_session").unwrap();
    let dead = format!("bff_session={}{}", if live.starts_with('A') { 'B' } else { 'A' }, &live[1..]);
    let with_dead_cookie = client.get(edge.url("/api/own/x")).header("cookie", dead).send();
    assert_eq!(with_dead_cookie.await.unwrap().status(), 401);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn another_proxy_that_asks_for_a_page_load_is_told_401() {
    let (edge, _upstream, _browser) = edge().await;
    for path in ["/auth/verify", "/auth/forward"] {
        let asked = http_client().get(edge.url(path));
        let asked = asked.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        let told = problem(answer).await;
        assert_eq!(told["code"], "not_authenticated", "{path}");
        assert_eq!(told["login_url"], "/auth/login", "a login that came back here would end on an empty page");
    }
}

/// With the method and the fields of the request it was asked for.
#[tokio::test]
async fn another_proxy_that_asks_for_an_options_is_told_401() {
    let (edge, _upstream, browser) = edge().await;
    for path in ["/auth/verify", "/auth/forward"] {
        for (name, value) in [("access-control-request-method", "GET"), ("max-forwards", "0"), ("accept", "*/*")] {
            let ask = async |client: &reqwest::Client| {
                let asked = client.request(reqwest::Method::OPTIONS, edge.url(path)).header(name, value);
                asked.send().await.unwrap().status().as_u16()
            };
            assert_eq!((ask(&http_client()).await, ask(&browser.client).await), (401, 200), "{path} {name}");
        }
    }
}

#[tokio::test]
async fn a_page_too_long_to_return_to_is_left_out_of_the_way_to_the_login() {
    let (edge, _upstream, _browser) = edge().await;
    let way = async |length: usize| {
        let path = format!("/api/own/{}", "-".repeat(length - "/api/own/".len()));
        let asked = http_client().get(edge.url(&path));
        let asked = asked.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
        location(&asked.send().await.unwrap()).unwrap()
    };
    assert!(way(2048).await.starts_with("/auth/login?return_to=%2Fapi%2Fown%2F%2D"));
    assert_eq!(way(2049).await, "/auth/login");
}

#[tokio::test]
async fn a_cross_site_request_is_403_before_anything_happens() {
    let (edge, upstream, browser) = edge().await;
    let post = || browser.client.post(edge.url("/api/own/x"));
    let foreign = [
        post().header("sec-fetch-site", "cross-site"),
        post().header("sec-fetch-site", "same-site"),
        post().header("origin", "https://evil.example"),
        post().header("origin", "null"),
        post().header("origin", format!("{}.evil.example", edge.origin)),
        post().header("origin", format!("{APP}.evil.example")),
    ];
    for request in foreign {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 403);
        assert_eq!(problem(answer).await["code"], "csrf_failed");
    }
    assert_eq!(upstream.count(), 0);
    assert!(edge.metric("bff_csrf_violations_total").await >= 1);
    let ours = [
        post(),
        post().header("sec-fetch-site", "same-origin").header("origin", &edge.origin),
        post().header("sec-fetch-site", "none"),
        post().header("sec-fetch-site", "cross-site").header("origin", APP),
        browser.client.get(edge.url("/api/own/x")).header("sec-fetch-site", "cross-site"),
    ];
    for request in ours {
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn an_allowed_origin_gets_its_preflight_answered_here() {
    let (edge, upstream, browser) = edge().await;
    let preflight = |origin: &str| {
        let request = http_client().request(reqwest::Method::OPTIONS, edge.url("/api/own/x")).header("origin", origin);
        request
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "content-type,x-csrf-token")
            .send()
    };
    let answer = preflight(APP).await.unwrap();
    assert!(matches!(answer.status().as_u16(), 200 | 204), "{}", answer.status());
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_ascii_lowercase();
    assert_eq!(header("access-control-allow-origin"), APP);
    assert_eq!(header("access-control-allow-credentials"), "true");
    assert!(header("access-control-allow-methods").contains("put"));
    assert!(header("access-control-allow-headers").contains("content-type"));
    assert!(header("vary").contains("origin"));
    let foreign = preflight("https://evil.example").await.unwrap();
    assert_eq!(foreign.headers().get("access-control-allow-origin"), None);
    assert_eq!(upstream.count(), 0);

    let real = browser.client.get(edge.url("/api/own/x")).header("origin", APP).send().await.unwrap();
    assert_eq!(real.headers()["access-control-allow-origin"], APP);
    let refused = http_client().get(edge.url("/api/own/x")).header("origin", APP).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["access-control-allow-origin"], APP, "a 401 that scripts may read");
}

#[tokio::test]
async fn where_origins_are_listed_every_answer_varies_by_origin_and_says_so_once() {
    let (edge, upstream, browser) = edge().await;
    let vary = |answer: &reqwest::Response| -> Vec<String> {
        answer.headers().get_all("vary").iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    };
    for origin in [None, Some(APP), Some("https://evil.example")] {
        for path in ["/open/x", "/api/own/x", "/auth/session", "/auth/login", "/nowhere", "/open/../x"] {
            for client in [&http_client(), &browser.client] {
                let get = client.get(edge.url(path));
                let get = origin.iter().fold(get, |get, origin| get.header("origin", *origin));
                assert_eq!(vary(&get.send().await.unwrap()), ["Origin"], "{path} {origin:?}");
            }
        }
        let preflight = http_client().request(reqwest::Method::OPTIONS, edge.url("/api/own/x"));
        let preflight = preflight.header("access-control-request-method", "PUT");
        let preflight = preflight.header("origin", origin.unwrap_or("null"));
        assert_eq!(vary(&preflight.send().await.unwrap()), ["Origin"], "{origin:?}");
    }
    for (said, told) in [
        ("Vary: Accept", vec!["Accept", "Origin"]),
        ("Vary: accept, ORIGIN", vec!["accept, ORIGIN"]),
        ("Vary: *", vec!["*"]),
    ] {
        upstream.behave(crate::harness::Say::cache_control("no-cache", &format!("{said}\r\n")));
        assert_eq!(vary(&http_client().get(edge.url("/open/x")).send().await.unwrap()), told);
    }
    let silent = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).start().await;
    upstream.behave(crate::harness::Say::cache_control("no-cache", ""));
    let answer = http_client().get(silent.url("/auth/session")).header("origin", APP).send().await.unwrap();
    assert!(vary(&answer).is_empty(), "nobody is listed");
}

#[tokio::test]
async fn csrf_token_mode_asks_for_the_header() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).top("csrf: { mode: token }");
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let answer = browser.post(edge.url("/api/own/x")).await;
    assert_eq!(problem(answer).await["code"], "csrf_failed");
    let body: Value = browser.get(edge.url("/auth/session")).await.json().await.unwrap();
    let token = body["csrf_token"].as_str().expect("the session endpoint gives the token");
    let post = browser.client.post(edge.url("/api/own/x")).header("x-csrf-token", token);
    assert_eq!(post.send().await.unwrap().status(), 200);
    let wrong = browser.client.post(edge.url("/api/own/x")).header("x-csrf-token", format!("{token}x"));
    assert_eq!(wrong.send().await.unwrap().status(), 403);
    let bare = browser.post(edge.url("/auth/logout")).await;
    assert_eq!(problem(bare).await["code"], "csrf_failed", "a logout is an unsafe request, too");
    assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200);
    let logout = browser.client.post(edge.url("/auth/logout")).header("x-csrf-token", token);
    assert_eq!(logout.send().await.unwrap().status(), 302);
    assert_eq!(edge.metric("bff_csrf_violations_total{reason=\"token\"}").await, 3);
}

#[tokio::test]
async fn two_session_cookies_are_refused_on_one_line_or_two() {
    let (edge, upstream, browser) = edge().await;
    let cookie = browser.cookie_header(&edge.origin);
    let host = format!("Host: localhost:{}\r\n", edge.port);
    let twice = [
        format!("Cookie: {cookie}; {cookie}\r\n"),
        format!("Cookie: {cookie}\r\nCookie: {cookie}\r\n"),
        format!("Cookie: {cookie}; bff_session=other\r\n"),
    ];
    for lines in twice {
        let request = format!("GET /api/own/x HTTP/1.1\r\n{host}{lines}\r\n");
        let (head, body) = raw(edge.address(), request).await;
        assert_eq!(head.status(), 400, "{lines}");
        assert_eq!(serde_json::from_slice::<Value>(&body.start).unwrap()["code"], "bad_request");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_refusal_keeps_the_connection() {
    let (edge, _upstream, browser) = edge().await;
    let host = format!("Host: localhost:{}\r\n", edge.port);
    let cookie = browser.cookie_header(&edge.origin);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let mut client = RawClient::connect(edge.address()).await;
    let refused = [
        (400, format!("GET /open/%2fx HTTP/1.1\r\n{host}\r\n")),
        (401, format!("GET /api/own/x HTTP/1.1\r\n{host}\r\n")),
        (401, format!("POST /api/own/x HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nhello")),
        (403, format!("DELETE /api/own/x HTTP/1.1\r\n{host}Cookie: {cookie}\r\nSec-Fetch-Site: cross-site\r\n\r\n")),
        (404, format!("GET /nowhere HTTP/1.1\r\n{host}\r\n")),
        (405, format!("PUT /only/get HTTP/1.1\r\n{host}Content-Length: 0\r\n\r\n")),
        (401, format!("POST /api/own/x HTTP/1.1\r\n{host}{chunked}5\r\nhello\r\n0\r\n\r\n")),
    ];
    for (status, request) in refused {
        let (head, _) = client.ask(request).await;
        assert_eq!(head.status(), status, "{}", head.start_line());
    }
    let (head, _) = client.ask(format!("GET /api/own/x HTTP/1.1\r\n{host}Cookie: {cookie}\r\n\r\n")).await;
    assert_eq!(head.status(), 200, "the eighth request on one connection");

    // Who streams on is told at once, and that this is the end.
    let (head, _) = client.ask(format!("POST /api/own/x HTTP/1.1\r\n{host}{chunked}5\r\nhello\r\n")).await;
    assert_eq!((head.status(), head.one("connection").as_deref()), (401, Some("close")));
}

#[tokio::test]
async fn garbage_never_brings_the_program_down() {
    let (edge, _upstream, browser) = edge().await;
    let garbage: [&[u8]; 8] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /open/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /open/x HTTP/1.1\r\nHost: a\r\nCookie: \xff\xfe=;;;===\r\n\r\n",
        b"GET /auth/callback?state=%ff&code=%00&state HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /auth/login?return_to=%ff%fe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /auth/backchannel-logout HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\xff=&",
    ];
    for bytes in garbage {
        let mut client = RawClient::connect(edge.address()).await;
        client.send(bytes).await;
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), client.reader.head()).await;
    }
    assert_eq!(browser.get(edge.url("/api/own/x")).await.status(), 200);
    assert!(!edge.log.text().contains("panicked"), "{}", edge.log.text());
}

/// Whatever else is wrong with the request.
#[tokio::test]
async fn a_method_that_is_not_taken_is_told_first() {
    let (edge, upstream, browser) = edge().await;
    for (method, path, allow) in [("POST", "/auth/session", "GET, HEAD"), ("GET", "/auth/backchannel-logout", "POST")] {
        let request =
            browser.client.request(method.parse().unwrap(), edge.url(path)).header("sec-fetch-site", "cross-site");
        let answer = request.body(vec![b'x'; 100_000]).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &allow.parse().unwrap()), "{path}");
    }
    let trace = http_client().request(reqwest::Method::TRACE, edge.url("/api/v1/proxy/svc/x")).send().await.unwrap();
    assert_eq!(trace.status(), 405);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn our_own_endpoints_are_not_forwarded() {
    let (edge, upstream, _browser) = edge().await;
    for (path, status) in [("/health/live", 200), ("/health/ready", 200), ("/health", 200), ("/auth/health", 200)] {
        assert_eq!(http_client().get(edge.url(path)).send().await.unwrap().status(), status, "{path}");
    }
    for path in ["/metrics", "/status"] {
        assert_eq!(http_client().get(edge.url(path)).send().await.unwrap().status(), 404, "{path}");
        assert_eq!(http_client().get(edge.admin_url(path)).send().await.unwrap().status(), 200, "{path}");
        let post = http_client().post(edge.admin_url(path)).send().await.unwrap();
        assert_eq!((post.status().as_u16(), &post.headers()["allow"]), (405, &"GET, HEAD".parse().unwrap()), "{path}");
        assert_eq!(problem(post).await["code"], "method_not_allowed");
    }
    for path in ["/health", "/health/ready", "/auth/health"] {
        let body: Value = http_client().get(edge.admin_url(path)).send().await.unwrap().json().await.unwrap();
        assert_eq!((&body["status"], &body["store"]), (&"ready".into(), &"ok".into()), "{path}: {body}");
    }
    assert_eq!(problem(http_client().get(edge.admin_url("/")).send().await.unwrap()).await["code"], "no_route");
    assert_eq!(upstream.count(), 0);
}
