//! What the service's word on a stored answer is worth: a full answer takes the stored one back. RFC 9111 §4.3.3.

use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::harness::cached::{ask, cached, edge_with, pair, seen, told};
use crate::harness::{Behaviour, Browser, Edge, Say};

const STALE_IN: Duration = Duration::from_millis(1100);

fn status(status: u16, lines: &str) -> Behaviour {
    Behaviour::Say(Say { status, lines: lines.to_owned(), ..Say::default() })
}

#[tokio::test]
async fn after_a_full_answer_to_a_reload_the_old_one_is_gone() {
    let (edge, upstream) = edge_with("response_cache: { enabled: true, default_ttl: 30, max_size: 1000 }\n").await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let reload = [("cache-control", "no-cache")];
    for (number, (answer, code)) in [
        (status(401, ""), 401),
        (status(403, ""), 403),
        (status(404, "Cache-Control: no-store\r\n"), 404),
        (status(200, "Cache-Control: private\r\n"), 200),
    ]
    .into_iter()
    .enumerate()
    {
        // The service says nothing of how long it holds.
        upstream.behave(status(200, "ETag: \"1\"\r\n"));
        let rest = format!("reload/{number}");
        let (first, old) = seen(&browser, &edge, &rest, &[]).await;
        assert_eq!((first.as_str(), seen(&browser, &edge, &rest, &[]).await), ("MISS", pair("HIT", &old)));
        upstream.behave(answer);
        assert_eq!(ask(&browser, &edge, &rest, &reload).await.status(), code);
        let next = ask(&browser, &edge, &rest, &[]).await;
        assert_eq!((next.status().as_u16(), told(&next) != "HIT"), (code, true));
        assert_ne!(next.text().await.unwrap(), old, "{code}");
    }
    for busy in [408, 429, 500] {
        upstream.behave(status(200, "ETag: \"1\"\r\n"));
        let old = seen(&browser, &edge, &busy.to_string(), &[]).await.1;
        upstream.behave(status(busy, ""));
        assert_eq!(ask(&browser, &edge, &busy.to_string(), &reload).await.status(), busy);
        assert_eq!(seen(&browser, &edge, &busy.to_string(), &[]).await, pair("HIT", &old), "{busy} says nothing of it");
    }
}

#[tokio::test]
async fn a_refresh_in_the_background_takes_back_what_it_finds_gone() {
    let (edge, upstream, browser) = cached().await;
    for (code, goes_on) in [(401, false), (403, false), (404, false), (429, true)] {
        let rest = code.to_string();
        upstream.behave(Say::cache_control("max-age=1, stale-while-revalidate=3", "ETag: \"1\"\r\n"));
        let old = seen(&browser, &edge, &rest, &[]).await.1;
        tokio::time::sleep(STALE_IN).await;
        upstream.behave(status(code, ""));
        assert_eq!(seen(&browser, &edge, &rest, &[]).await, pair("STALE", &old), "{code}");
        tokio::time::sleep(STALE_IN).await;
        let next = ask(&browser, &edge, &rest, &[]).await;
        assert_eq!(next.status().as_u16(), if goes_on { 200 } else { code });
        eventually!("not beyond its window", ask(&browser, &edge, &rest, &[]).await.status() == code);
    }
}

#[tokio::test]
async fn what_was_taken_back_stands_in_for_nothing() {
    let (edge, upstream, browser) = cached().await;
    for (rest, answer) in
        [("403", status(403, "")), ("private", status(200, "Cache-Control: private\r\n")), ("429", status(429, ""))]
    {
        upstream.behave(Say::cache_control("max-age=1", "ETag: \"1\"\r\n"));
        let old = seen(&browser, &edge, rest, &[]).await.1;
        tokio::time::sleep(STALE_IN).await;
        upstream.behave(answer);
        assert_ne!(seen(&browser, &edge, rest, &[]).await.1, old);
        upstream.behave(Behaviour::Close);
        let next = ask(&browser, &edge, rest, &[]).await;
        assert_eq!(next.status().as_u16(), if rest == "429" { 200 } else { 502 }, "{rest}");
    }
}

#[tokio::test]
async fn who_may_not_see_it_takes_it_from_nobody_else() {
    let (edge, upstream, ada) = cached().await;
    let bob = Browser::logged_in(&edge, "bob").await;
    for (number, answer) in
        [status(403, ""), status(403, "Cache-Control: no-store\r\n"), status(401, "Cache-Control: max-age=60\r\n")]
            .into_iter()
            .enumerate()
    {
        let rest = format!("everybodys/{number}");
        upstream.behave(Say::cache_control("public, max-age=60", ""));
        let shared = seen(&ada, &edge, &rest, &[]).await.1;
        upstream.behave(answer);
        assert!(ask(&bob, &edge, &rest, &[("cache-control", "no-cache")]).await.status().is_client_error());
        assert_eq!(seen(&ada, &edge, &rest, &[]).await, pair("HIT", &shared), "{rest}");
    }
}

/// How long so many take who ask at once, and what they are told.
async fn crowd(browser: &Browser, edge: &Edge, rest: &str) -> (Duration, Vec<String>) {
    let started = Instant::now();
    let answers = join_all((0..20).map(|_| ask(browser, edge, rest, &[]))).await;
    (started.elapsed(), answers.iter().map(|answer| told(answer).to_owned()).collect())
}

#[tokio::test]
async fn nobody_waits_for_an_answer_that_serves_only_who_fetched_it() {
    const TAKES: Duration = Duration::from_millis(500);
    let (edge, upstream, browser) = cached().await;
    for (number, value) in ["no-cache", "public, no-cache", "max-age=0, must-revalidate"].into_iter().enumerate() {
        let lines = format!("Cache-Control: {value}\r\nETag: \"1\"\r\n");
        upstream.behave(Behaviour::Say(Say { lines, after: TAKES, ..Say::default() }));
        let rest = format!("once/{number}");
        // The first time nobody knows it yet.
        let (took, all) = crowd(&browser, &edge, &rest).await;
        assert!(took < TAKES * 3, "{value}: {took:?}");
        assert_eq!(all.iter().filter(|told| *told == "HIT").count(), 19, "{value}: {all:?}");
        let (took, all) = crowd(&browser, &edge, &rest).await;
        assert!(took < TAKES * 2, "{value}: {took:?}");
        assert!(all.iter().all(|told| told == "HIT"), "each is answered 304: {all:?}");
        assert_eq!(upstream.count(), 40 * (number + 1));
    }
    // What others can use is still asked for once.
    let before = upstream.count();
    let lines = "Cache-Control: max-age=60\r\n".to_owned();
    upstream.behave(Behaviour::Say(Say { lines, after: TAKES, ..Say::default() }));
    crowd(&browser, &edge, "shared").await;
    assert_eq!(upstream.count(), before + 1);
}

#[tokio::test]
async fn a_fresh_answer_that_the_request_would_not_take_is_not_called_stale() {
    let (edge, upstream, browser) = cached().await;
    let why = async |rest: &str, name: &str, value: &str| {
        let answer = ask(&browser, &edge, rest, &[(name, value)]).await;
        let told = answer.headers()["cache-status"].to_str().unwrap().to_owned();
        // What its client does not wait for is not stored.
        answer.text().await.unwrap();
        told
    };
    upstream.behave(Say::cache_control("max-age=60", "ETag: \"1\"\r\n"));
    why("x", "accept", "*/*").await;
    for (name, value) in [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "min-fresh=900"),
        ("pragma", "no-cache"),
    ] {
        let told = why("x", name, value).await;
        assert!(told.starts_with("pingora-bff; fwd=request; fwd-status=304; stored"), "{value}: {told}");
    }
    upstream.behave(Say::cache_control("max-age=1, stale-if-error=60", ""));
    assert!(why("x", "cache-control", "no-cache").await.starts_with("pingora-bff; fwd=request; stored"));
    upstream.behave(Behaviour::Close);
    assert!(why("x", "cache-control", "max-age=0").await.starts_with("pingora-bff; fwd=request"), "and it failed");
    tokio::time::sleep(STALE_IN).await;
    let told = why("x", "accept", "*/*").await;
    assert!(told.starts_with("pingora-bff; fwd=stale"), "{told}");
}

/// It is slow just when a crowd comes: then its answer is as old as it may be when it is here, and serves all who waited.
#[tokio::test]
async fn a_crowd_is_one_request_however_slow_the_service_is() {
    let (edge, upstream, browser) = cached().await;
    let lines = "Cache-Control: max-age=1\r\n".to_owned();
    upstream.behave(Behaviour::Say(Say { lines, after: Duration::from_millis(1_200), ..Say::default() }));
    let crowd = join_all((0..20).map(|_| ask(&browser, &edge, "slow", &[]))).await;
    assert!(crowd.iter().all(|answer| answer.status() == 200));
    assert_eq!(upstream.count(), 1);
}
