//! The façade: where requests go and as whom, the circuit, the limits. Contract §6.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    AUDIENCES, Behaviour, Browser, Edge, RawClient, Setup, Upstream, claims, free_port, has_audience, http_client,
    problem, raw,
};

/// A circuit that opens after three failures for three seconds; no cache, so that every request counts.
const LIMITS: &str = "circuit_breaker: { threshold: 3, reset_time: 3 }\nresponse_cache: { enabled: false }\n\
                      request_limits: { max_body_size: 1000, max_concurrent: 200 }\n";

async fn facade_to(url: &str, timeout: &str) -> (Edge, Browser) {
    let services = format!(
        "legacy_services: {{ res-admin: \"{url}/base\", empowerid: \"{url}/eid/\" }}\n\
         legacy_service_timeouts: {{ res-admin: {timeout} }}\n{LIMITS}"
    );
    let setup = Setup::new().top("empowerid_api_key: the-api-key").service("own", url, Some(AUDIENCES[0]));
    let edge = setup.legacy(&services).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    (edge, browser)
}

/// RFC 9110 §15.5.2: whoever may bring a token is told so.
#[tokio::test]
async fn who_brings_nothing_is_told_what_would_do() {
    let (edge, upstream, _browser) = facade().await;
    let answer = http_client().get(legacy(&edge, "res-admin/x")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["www-authenticate"]), (401, &"Bearer".parse().unwrap()));
    assert_eq!(problem(answer).await["code"], "not_authenticated");
    let page = http_client().get(legacy(&edge, "res-admin/x"));
    let page = page.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document").send().await.unwrap();
    assert_eq!(page.status(), 302, "to the login");
    assert_eq!(upstream.count(), 0);
}

async fn facade() -> (Edge, Upstream, Browser) {
    let upstream = Upstream::start().await;
    let (edge, browser) = facade_to(&upstream.url(), "0.5").await;
    (edge, upstream, browser)
}

fn legacy(edge: &Edge, rest: &str) -> String {
    edge.url(&format!("/api/v1/proxy/{rest}"))
}

async fn state(edge: &Edge) -> Value {
    let health = http_client().get(legacy(edge, "health")).send().await.unwrap();
    health.json::<Value>().await.unwrap()["services"]["res-admin"].clone()
}

#[tokio::test]
async fn any_method_reaches_the_listed_service_with_query_and_body_untouched() {
    let (edge, upstream, browser) = facade().await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "REPORT"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = browser.client.request(method.clone(), legacy(&edge, "res-admin/a/b%20c?x=%2F&&y=1"));
        let answer = request.body(&b"\x00\xff binary"[..]).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{method}");
        let received = upstream.last();
        assert_eq!(received.head.start_line(), format!("{method} /base/a/b%20c?x=%2F&&y=1 HTTP/1.1"));
        assert_eq!(received.body.start, b"\x00\xff binary");
    }
    for (asked, sent) in [("res-admin", "/base/"), ("res-admin/", "/base/"), ("empowerid/x", "/eid/x")] {
        assert_eq!(browser.get(legacy(&edge, asked)).await.status(), 200, "{asked}");
        assert_eq!(upstream.last().target(), sent);
    }
}

#[tokio::test]
async fn the_session_sends_its_login_token_and_the_user_is_named() {
    let (edge, upstream, browser) = facade().await;
    assert_eq!(browser.get(legacy(&edge, "empowerid/x")).await.status(), 200);
    let received = upstream.last();
    assert!(has_audience(&claims(&received.bearer()), AUDIENCES[0]));
    assert_eq!(received.head.one("x-original-user").as_deref(), Some("auth:account:testidp:ada"));
    assert_eq!(received.head.one("x-empowerid-api-key").as_deref(), Some("the-api-key"));
    assert_eq!(received.head.one("cookie"), None);
    let spoofed = browser.client.get(legacy(&edge, "res-admin/x")).header("x-empowerid-api-key", "spoofed");
    assert_eq!(spoofed.send().await.unwrap().status(), 200);
    assert_eq!(upstream.last().head.one("x-empowerid-api-key"), None, "only empowerid gets the key");
}

#[tokio::test]
async fn nobody_reaches_what_is_not_listed() {
    let (edge, upstream, browser) = facade().await;
    let anonymous = http_client().get(legacy(&edge, "res-admin/x")).send().await.unwrap();
    assert_eq!(
        (anonymous.status().as_u16(), problem(anonymous).await["code"].clone()),
        (401, "not_authenticated".into())
    );
    let unknown = browser.get(legacy(&edge, "nowhere/x")).await;
    assert_eq!((unknown.status().as_u16(), problem(unknown).await["code"].clone()), (404, "unknown_service".into()));
    let cookie = browser.cookie_header(&edge.origin);
    for path in [
        "res-admin/../x",
        "res-admin/%2e%2e/x",
        "res-admin/..%2fx",
        "res-admin//evil.example/x",
        "res-admin/\\evil",
        "res-admin%2f..%2fx",
        "http://evil.example/x",
        "res-admin@evil.example/x",
        "res-admin:80/x",
        "127.0.0.1/x",
        "RES-ADMIN/x",
        "res-admin%00/x",
        "./res-admin/x",
        "..;/res-admin/x",
    ] {
        let request =
            format!("GET /api/v1/proxy/{path} HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n", edge.port);
        let (head, _) = raw(edge.address(), request).await;
        assert!(matches!(head.status(), 400 | 404), "{path}: {}", head.status());
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_circuit_opens_tells_how_long_and_lets_one_trial_through() {
    let upstream = Upstream::start().await;
    let (edge, browser) = facade_to(&upstream.url(), "10").await;
    upstream.behave(Behaviour::Status(500));
    for _ in 0..3 {
        assert_eq!(browser.get(legacy(&edge, "res-admin/x")).await.status(), 500);
    }
    let refused = browser.get(legacy(&edge, "res-admin/x")).await;
    assert_eq!(refused.status(), 503);
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&seconds), "{seconds}");
    assert_eq!(problem(refused).await["code"], "circuit_open");
    assert_eq!(upstream.count(), 3, "an open circuit asks nobody");
    assert_eq!(state(&edge).await["state"], "open");
    assert_eq!(edge.metric("circuit_breaker_status{service=\"res-admin\"}").await, 1);
    assert_eq!(edge.metric("circuit_breaks_total{service=\"res-admin\"}").await, 1);
    assert_eq!(browser.get(legacy(&edge, "empowerid/x")).await.status(), 500, "circuits are per service");

    eventually!("the circuit is half-open", state(&edge).await["state"] == "half_open");
    // Longer than all calls take to arrive: what comes after the trial is let through, and rightly.
    upstream.behave(Behaviour::Delay(Duration::from_secs(2)));
    let before = upstream.count();
    let calls = (0..200).map(|_| browser.get(legacy(&edge, "res-admin/x")));
    let answers: Vec<u16> =
        futures::future::join_all(calls).await.into_iter().map(|answer| answer.status().as_u16()).collect();
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "exactly one trial");
    assert_eq!(answers.iter().filter(|status| **status == 503).count(), 199);
    assert_eq!(upstream.count() - before, 1);
    assert_eq!(state(&edge).await["state"], "closed");
    assert_eq!(browser.get(legacy(&edge, "res-admin/x")).await.status(), 200);
}

#[tokio::test]
async fn the_request_that_opens_a_circuit_is_named() {
    let (edge, upstream, browser) = facade().await;
    upstream.behave(Behaviour::Status(500));
    for number in 0..10 {
        let asked =
            browser.client.post(legacy(&edge, "res-admin/x")).header("x-correlation-id", format!("no-{number}"));
        if asked.send().await.unwrap().status() == 503 {
            break;
        }
    }
    eventually!("it is told", edge.log.has(&["CIRCUIT_OPEN", "\"no-"]));
}

#[tokio::test]
async fn client_errors_and_clients_that_leave_never_open_a_circuit() {
    let (edge, upstream, browser) = facade().await;
    for status in [400, 401, 404, 409, 429] {
        upstream.behave(Behaviour::Status(status));
        for _ in 0..5 {
            assert_eq!(browser.get(legacy(&edge, "res-admin/x")).await.status().as_u16(), status);
        }
    }
    upstream.behave(Behaviour::Delay(Duration::from_millis(300)));
    for _ in 0..10 {
        let left = tokio::time::timeout(Duration::from_millis(50), browser.get(legacy(&edge, "res-admin/x"))).await;
        assert!(left.is_err());
    }
    eventually!("nobody is waiting", edge.metric("http_requests_in_flight").await <= 1);
    assert_eq!(state(&edge).await["state"], "closed");
    let left = "http_requests_total{endpoint=\"legacy-res-admin\",method=\"GET\",status=\"499\"}";
    eventually!("they are said to have left", edge.metric(left).await == 10);
}

#[tokio::test]
async fn a_dead_and_a_hanging_service_count_as_failures() {
    let upstream = Upstream::start().await;
    upstream.behave(Behaviour::Delay(Duration::from_secs(5)));
    for (url, status) in [(format!("http://127.0.0.1:{}", free_port()), 502), (upstream.url(), 504)] {
        let (edge, browser) = facade_to(&url, "0.3").await;
        for _ in 0..3 {
            assert_eq!(browser.get(legacy(&edge, "res-admin/x")).await.status().as_u16(), status);
        }
        let started = Instant::now();
        assert_eq!(browser.get(legacy(&edge, "res-admin/x")).await.status(), 503);
        assert!(started.elapsed() < Duration::from_millis(250), "refused without asking");
    }
}

#[tokio::test]
async fn an_answer_that_drips_for_ever_is_a_timeout() {
    let (edge, upstream, browser) = facade().await;
    upstream.behave(Behaviour::Events { count: 100, every: Duration::from_millis(100) });
    for _ in 0..3 {
        let answer = browser.get(legacy(&edge, "res-admin/x")).await;
        assert!(answer.bytes().await.is_err(), "cut off at its total time");
    }
    assert_eq!(state(&edge).await["state"], "open");
}

fn upload(edge: &Edge, cookie: &str, framing: &str) -> String {
    format!(
        "POST /api/v1/proxy/res-admin/x HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n{framing}\r\n\r\n",
        edge.port
    )
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_passes_and_one_more_byte_does_not() {
    let (edge, upstream, browser) = facade().await;
    let cookie = browser.cookie_header(&edge.origin);
    let mut client = RawClient::connect(edge.address()).await;
    client.send(upload(&edge, &cookie, "Content-Length: 1000")).await;
    let (head, _) = client.ask([b'x'; 1000]).await;
    assert_eq!((head.status(), upstream.last().body.length), (200, 1000));
    client.send(upload(&edge, &cookie, "Content-Length: 1001")).await;
    let (head, body) = client.ask([b'x'; 1001]).await;
    assert_eq!(head.status(), 413);
    assert!(String::from_utf8_lossy(&body.start).contains("body_too_large"));
    assert_eq!(upstream.heads(), 1, "a declared body over the limit asks nobody");
    // The refusal cost nothing but itself: the connection goes on.
    client.send(upload(&edge, &cookie, "Content-Length: 3")).await;
    assert_eq!(client.ask(b"abc").await.0.status(), 200);
}

#[tokio::test]
async fn a_streamed_body_over_the_limit_is_413_while_it_is_still_being_sent() {
    let (edge, upstream, browser) = facade().await;
    let cookie = browser.cookie_header(&edge.origin);
    for _ in 0..20 {
        let mut client = RawClient::connect(edge.address()).await;
        client.send(upload(&edge, &cookie, "Transfer-Encoding: chunked")).await;
        for _ in 0..40 {
            client.send(format!("64\r\n{}\r\n", "x".repeat(100))).await;
        }
        let (head, _) = client.response().await;
        assert_eq!(head.status(), 413, "not a reset");
    }
    assert_eq!(upstream.count(), 0, "the service never sees a whole body");
    assert_eq!(state(&edge).await["state"], "closed", "the client's fault");
}

#[tokio::test]
async fn more_requests_than_the_service_may_have_are_told_to_come_back() {
    let upstream = Upstream::start().await;
    let text = format!(
        "legacy_services: {{ res-admin: \"{}\" }}\nresponse_cache: {{ enabled: false }}\nrequest_limits: {{ max_concurrent: 5 }}\n",
        upstream.url()
    );
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0]));
    let edge = setup.legacy(&text).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    upstream.behave(Behaviour::Delay(Duration::from_millis(500)));
    let calls = (0..20).map(|_| browser.get(legacy(&edge, "res-admin/x")));
    let answers = futures::future::join_all(calls).await;
    let served = answers.iter().filter(|answer| answer.status() == 200).count();
    let refused = answers.iter().filter(|a| a.status() == 503 && a.headers().contains_key("retry-after")).count();
    assert_eq!((served, refused), (5, 15));
    assert_eq!(browser.get(legacy(&edge, "res-admin/x")).await.status(), 200, "places are given back");
}

#[tokio::test]
async fn nothing_that_was_sent_is_sent_twice_unless_it_is_harmless() {
    let (edge, upstream, browser) = facade().await;
    // A connection of the pool that dies under a POST is 502, never a second POST.
    for round in 1..=2 {
        upstream.behave(Behaviour::Echo);
        assert_eq!(browser.post(legacy(&edge, "res-admin/x")).await.status(), 200);
        upstream.behave(Behaviour::Close);
        let before = upstream.heads();
        assert_eq!(browser.post(legacy(&edge, "res-admin/x")).await.status(), 502);
        assert_eq!(upstream.heads() - before, 1, "round {round}");
    }
}

/// Answers every connection once, until aborted.
async fn serve(address: std::net::SocketAddr) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        }
    })
}

#[tokio::test]
async fn a_service_that_comes_back_under_load_serves_again_after_one_trial() {
    const CLIENTS: usize = 10;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let service = serve(address).await;
    let (edge, browser) = facade_to(&format!("http://{address}"), "2").await;
    let url = legacy(&edge, "res-admin/x");
    let begun = Instant::now();
    let over = begun + Duration::from_secs(9);
    let clients = (0..CLIENTS).map(|_| {
        let (browser, url) = (browser.client.clone(), url.clone());
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while Instant::now() < over {
                let asked = Instant::now();
                seen.push((asked, browser.get(&url).send().await.unwrap().status().as_u16()));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            seen
        })
    });
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.abort();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _back = serve(address).await;
    let back = Instant::now();
    let seen: Vec<(Instant, u16)> =
        futures::future::join_all(clients).await.into_iter().flat_map(Result::unwrap).collect();
    let failed = seen.iter().filter(|(_, status)| *status == 502).count();
    assert!((3..=3 + CLIENTS).contains(&failed), "{failed} reached a dead service: the threshold and those under way");
    assert!(seen.iter().all(|(_, status)| matches!(status, 200 | 502 | 503)));
    assert!(seen.iter().all(|(asked, status)| *asked < back || *status != 502), "the first trial finds it well");
    let limit = back + Duration::from_secs(4);
    let late = seen.iter().filter(|(asked, status)| *asked > limit && *status != 200).count();
    let served = seen.iter().filter(|(asked, status)| *asked > limit && *status == 200).count();
    assert!(late == 0 && served > 0, "{late} refused, {served} served after the circuit's time");
}

#[tokio::test]
async fn the_api_key_is_not_repeated_to_the_client() {
    let (edge, upstream, browser) = facade().await;
    let cookie = browser.cookie_header(&edge.origin);
    let request = format!(
        "TRACE /api/v1/proxy/empowerid/x HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n",
        edge.port
    );
    let (head, _) = raw(edge.address(), request).await;
    assert_eq!(head.status(), 405);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn over_http2_too_the_413_is_seen_while_the_body_is_being_sent() {
    let (edge, upstream, browser) = facade().await;
    let h2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let cookie = browser.cookie_header(&edge.origin);
    for known in [true, false] {
        let chunks = (0..200).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1000]));
        let stream = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
        let body = if known { reqwest::Body::from(vec![b'x'; 200_000]) } else { stream };
        let request = h2.post(legacy(&edge, "res-admin/x")).header("cookie", &cookie).body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (413, reqwest::Version::HTTP_2),
            "length known: {known}"
        );
        assert_eq!(problem(answer).await["code"], "body_too_large");
    }
    assert_eq!(upstream.count(), 0);
}
