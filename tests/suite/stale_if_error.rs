//! What the response cache does when its service fails: stored answers stand in for everybody at once, half
//! an answer is never stored or padded, and what is between is passed on. Scorecard 26 and 27.

use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::harness::cached::{ask, cached, edge_with, pair, seen, told, url};
use crate::harness::{Behaviour, Browser, Edge, RawClient, Say, Upstream, scale};

/// A circuit that stays closed: what is stored has to cover by itself.
const NO_CIRCUIT: &str = "response_cache: { enabled: true, default_ttl: 0, max_size: 1000 }\n\
                          circuit_breaker: { threshold: 100000, reset_time: 60 }\n";

const STALE_IN: Duration = Duration::from_millis(1100);
const HERD: usize = 100;

async fn uncircuited() -> (Edge, Upstream, Browser) {
    let (edge, upstream) = edge_with(NO_CIRCUIT).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    (edge, upstream, browser)
}

#[tokio::test]
async fn a_service_that_fails_is_covered_for_everybody_at_once() {
    let (edge, upstream, browser) = uncircuited().await;
    let kinds = [
        ("max-age=1, stale-if-error=60", Behaviour::Close, "STALE"),
        ("max-age=1", Behaviour::Close, "STALE"),
        ("max-age=1, stale-if-error=60", Behaviour::Status(503), "STALE"),
        // It answers, and nothing says that a stored answer may stand in for that.
        ("max-age=1", Behaviour::Status(503), "MISS"),
        ("max-age=1, must-revalidate", Behaviour::Close, ""),
    ];
    for (number, (value, _, _)) in kinds.iter().enumerate() {
        upstream.behave(Say::cache_control(value, "ETag: \"a\"\r\n"));
        assert_eq!(seen(&browser, &edge, &number.to_string(), &[]).await.0, "MISS");
    }
    tokio::time::sleep(STALE_IN).await;
    for (number, (value, behaviour, expected)) in kinds.into_iter().enumerate() {
        let fault = if behaviour == Behaviour::Close { "connection" } else { "status_5xx" };
        let counter = format!("service_errors_total{{error_type=\"{fault}\",service=\"svc\"}}");
        let faults_before = edge.metric(&counter).await;
        upstream.behave(behaviour.clone());
        let (rest, before) = (number.to_string(), upstream.heads());
        let answers = join_all((0..HERD).map(|_| ask(&browser, &edge, &rest, &[]))).await;
        let right = answers.iter().filter(|answer| told(answer) == expected).count();
        assert_eq!(right, HERD, "{value}, {behaviour:?}");
        assert_eq!(
            answers.iter().filter(|answer| answer.status() == 200).count(),
            if expected == "STALE" { HERD } else { 0 }
        );
        println!("{value}, {behaviour:?}: the service was asked {} times by {HERD}", upstream.heads() - before);
        eventually!("a fault counts, covered or not", edge.metric(&counter).await > faults_before);
        if expected == "STALE" {
            let held = ask(&browser, &edge, &rest, &[("if-none-match", "\"a\"")]).await;
            assert_eq!((held.status().as_u16(), told(&held)), (304, "STALE"));
        }
    }
}

#[tokio::test]
async fn a_service_that_hangs_is_covered_too() {
    // Its time is longer than what a request waits for another: the engine has forgotten what is stored.
    let (edge, upstream, browser) = uncircuited().await;
    for (rest, value) in [("sie", "max-age=1, stale-if-error=60"), ("silent", "max-age=1")] {
        upstream.behave(Say::cache_control(value, ""));
        assert_eq!(seen(&browser, &edge, rest, &[]).await.0, "MISS");
    }
    tokio::time::sleep(STALE_IN).await;
    upstream.behave(Behaviour::Delay(Duration::from_secs(60)));
    let both = ["sie", "silent"].map(|rest| join_all((0..20).map(|_| ask(&browser, &edge, rest, &[]))));
    for answers in join_all(both).await {
        assert!(answers.iter().all(|answer| answer.status() == 200 && told(answer) == "STALE"));
    }
}

/// Whoever pipelines, or asks again at once, must know what becomes of the connection.
#[tokio::test]
async fn a_connection_goes_on_after_a_stale_answer_or_says_that_it_does_not() {
    let (edge, upstream, browser) = uncircuited().await;
    let cookie = browser.cookie_header(&edge.origin);
    let head = |rest: &str| {
        let (target, port) = (format!("/api/v1/proxy/svc/{rest}"), edge.port);
        format!(
            "GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\nCookie: {cookie}\r\nX-Correlation-ID: of-{rest}\r\n\r\n"
        )
    };
    for rest in ["malformed", "hangs"] {
        upstream.behave(Say::cache_control("max-age=1, stale-if-error=60", ""));
        assert_eq!(seen(&browser, &edge, rest, &[]).await.0, "MISS");
    }
    tokio::time::sleep(STALE_IN).await;
    upstream.behave(Behaviour::Bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nx".to_vec()));
    let (answer, _) = RawClient::connect(edge.address()).await.ask(head("malformed")).await;
    assert_eq!((answer.one("x-cache").as_deref(), answer.one("connection").as_deref()), (Some("STALE"), Some("close")));
    eventually!("it is no refusal of ours", edge.log.has(&["of-malformed", "duration_ms", "upstream_error"]));
    assert_eq!(edge.log.entries(&["of-malformed", "\"code\""]).len(), 0);

    upstream.behave(Behaviour::Stall("HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nx"));
    let (mut client, asked) = (RawClient::connect(edge.address()).await, Instant::now());
    for _ in 0..2 {
        let (answer, _) = client.ask(head("hangs")).await;
        let told = (answer.one("x-cache"), answer.one("connection"));
        assert_eq!((told.0.as_deref(), told.1.as_deref()), (Some("STALE"), Some("keep-alive")));
    }
    // The service has eight seconds.
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    eventually!("the service's word is told", edge.log.has(&["of-hangs", "\"upstream_status\":500"]));
}

#[tokio::test]
async fn after_its_window_a_stale_answer_is_none() {
    let (edge, upstream, browser) = cached().await;
    upstream.behave(Say::cache_control("max-age=1, stale-if-error=2", ""));
    assert_eq!(seen(&browser, &edge, "x", &[]).await.0, "MISS");
    let stored = Instant::now();
    tokio::time::sleep(STALE_IN).await;
    upstream.behave(Behaviour::Status(500));
    let (mut stale, mut refused) = (0, 0);
    while refused < 5 {
        let age_before = stored.elapsed();
        let answer = ask(&browser, &edge, "x", &[]).await;
        match answer.status().as_u16() {
            200 => {
                assert_eq!((told(&answer), refused), ("STALE", 0));
                let age: u64 = answer.headers()["age"].to_str().unwrap().parse().unwrap();
                assert!(age <= 3, "one second fresh, two seconds stale, but {age}");
                stale += 1;
            }
            status => {
                assert!(matches!(status, 500 | 503), "{status}");
                assert!(age_before > Duration::from_millis(2500), "still in its window after {age_before:?}");
                refused += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(stale > 5, "{stale} stale answers before");
}

fn request(edge: &Edge, browser: &Browser, rest: &str) -> String {
    let cookie = browser.cookie_header(&edge.origin);
    format!("GET /api/v1/proxy/svc/{rest} HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n", edge.port)
}

#[tokio::test]
async fn half_an_answer_is_cut_for_the_client_and_never_stored() {
    let (edge, upstream, browser) = uncircuited().await;
    let h2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let cookie = browser.cookie_header(&edge.origin);
    let head = "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60, stale-if-error=60\r\n";
    for (rest, tail) in [
        ("short", "Content-Length: 20\r\n\r\nhalf"),
        ("chunk", "Transfer-Encoding: chunked\r\n\r\n14\r\nhalf"),
        ("between", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
    ] {
        upstream.behave(Behaviour::Bytes(format!("{head}{tail}").into_bytes()));
        let before = upstream.count();
        let mut raw = RawClient::connect(edge.address()).await;
        raw.send(request(&edge, &browser, rest)).await;
        let got = raw.head().await;
        assert_eq!(got.status(), 200, "{rest}");
        let body = tokio::time::timeout(Duration::from_secs(5), raw.reader.body(&got)).await.expect("it is closed");
        assert!(body.is_err(), "{rest}: neither padded nor ended");
        let answer = h2.get(url(&edge, rest)).header("cookie", &cookie).send().await;
        let whole = match answer {
            Ok(answer) => answer.bytes().await.is_ok(),
            Err(_) => false,
        };
        assert!(!whole, "{rest}: a stream of HTTP/2 is reset");
        assert!(upstream.count() >= before + 2, "{rest}: nothing of it was stored");
        upstream.behave(Behaviour::Close);
        assert_eq!(ask(&browser, &edge, rest, &[]).await.status(), 502, "{rest}: nor kept to stand in");
        // A whole one in between is stored, and the next half does not replace it.
        upstream.behave(Say::cache_control("max-age=1, stale-if-error=60", ""));
        let stored = seen(&browser, &edge, rest, &[]).await.1;
        tokio::time::sleep(STALE_IN).await;
        upstream.behave(Behaviour::Bytes(format!("{head}{tail}").into_bytes()));
        assert!(ask(&browser, &edge, rest, &[]).await.bytes().await.is_err(), "{rest}");
        upstream.behave(Behaviour::Close);
        assert_eq!(seen(&browser, &edge, rest, &[]).await, pair("STALE", &stored), "{rest}");
    }
}

#[tokio::test]
async fn interim_answers_are_passed_on_and_not_stored() {
    let (edge, upstream, browser) = cached().await;
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Early: 1\r\n\r\n\
                  HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nbody";
    upstream.behave(Behaviour::Bytes(answer.as_bytes().to_vec()));
    let mut first = RawClient::connect(edge.address()).await;
    first.send(request(&edge, &browser, "early")).await;
    let early = first.head().await;
    assert_eq!((early.status(), early.one("x-early").as_deref()), (103, Some("1")));
    let (head, body) = first.response().await;
    assert_eq!((head.status(), head.one("x-early"), body.start), (200, None, b"body".to_vec()));
    let mut second = RawClient::connect(edge.address()).await;
    let (head, body) = second.ask(request(&edge, &browser, "early")).await;
    assert_eq!((head.status(), head.one("x-cache").as_deref(), head.one("link")), (200, Some("HIT"), None));
    assert_eq!((body.start, upstream.count()), (b"body".to_vec(), 1));
}

#[tokio::test]
async fn two_bearer_tokens_never_share_a_personal_answer() {
    let (edge, upstream, ada) = cached().await;
    let mut tokens = Vec::new();
    for (browser, user) in [(ada, "ada"), (Browser::logged_in(&edge, "bob").await, "bob")] {
        // The login tokens themselves, as a native client would bring them.
        assert_eq!(ask(&browser, &edge, &format!("token/{user}"), &[]).await.status(), 200);
        tokens.push((user, upstream.last().bearer()));
    }
    let client = crate::harness::http_client();
    for (number, lines) in
        ["Cache-Control: max-age=60\r\n", "", "Cache-Control: max-age=0\r\nETag: \"1\"\r\n"].iter().enumerate()
    {
        upstream.behave(Behaviour::Say(Say { lines: (*lines).to_owned(), ..Say::default() }));
        for round in 0..scale(50, 17_000) {
            let answers = join_all(tokens.iter().map(|(user, token)| {
                let request = client.get(url(&edge, &format!("bearer/{number}"))).bearer_auth(token);
                async move { (*user, request.send().await.unwrap().text().await.unwrap()) }
            }));
            for (user, body) in answers.await {
                assert!(
                    body.starts_with(&format!("auth:account:testidp:{user} #")),
                    "{lines} {round}: {user} got {body}"
                );
            }
        }
    }
    assert!(edge.metric("cache_hits_total").await > 50, "the cache was at work");
}
