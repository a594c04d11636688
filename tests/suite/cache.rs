//! The façade's response cache: whose answers, how long, and what of it clients are told. Contract §6.

use std::time::{Duration, Instant};

use reqwest::Response;

use crate::harness::cached::{ADA, ask, cached, pair, seen, told, url};
use crate::harness::{AUDIENCES, Behaviour, Browser, RawClient, Say, http_client, scale};

/// RFC 9111 §3.5: an answer to a request with `Authorization`, which a cache before us does not see.
#[tokio::test]
async fn a_cache_before_us_is_told_that_a_sessions_answer_is_nobody_elses() {
    let (edge, upstream, browser) = cached().await;
    let token = edge.client_token(Some(AUDIENCES[0])).await;
    for (written, more, told) in [
        ("max-age=60", "", "max-age=60, private"),
        ("max-age=60, must-revalidate", "", "max-age=60, must-revalidate, private"),
        ("max-age=60, private=\"set-cookie\"", "", "max-age=60, private=\"set-cookie\", private"),
        ("Private, max-age=60", "", "Private, max-age=60"),
        ("no-store", "", "no-store"),
        // §5.2.2.3: who knows the status may store it in spite of the second.
        ("must-understand, no-store, max-age=60", "", "must-understand, no-store, max-age=60, private"),
        // Commas within quotes part nothing.
        ("max-age=60, private=\"x-a, public\"", "", "max-age=60, private=\"x-a, public\", private"),
        ("max-age=60, no-cache=\"x-a, private\"", "", "max-age=60, no-cache=\"x-a, private\", private"),
        ("max-age=60, Public", "", "max-age=60, Public"),
        ("s-maxage=60", "", "s-maxage=60"),
        ("public, max-age=60", "Vary: Accept, authorization\r\n", "public, max-age=60, private"),
    ] {
        upstream.behave(Say::cache_control(written, more));
        let own = edge.url("/api/own/x");
        let facade = url(&edge, &written.replace(|letter: char| !letter.is_ascii_alphanumeric(), ""));
        let lines = |answer: &Response, name: &str| {
            let lines = answer.headers().get_all(name).iter().map(|line| line.to_str().unwrap().to_owned());
            lines.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(lines(&browser.get(&own).await, "cache-control"), told, "a route");
        for time in ["first", "again"] {
            let answer = browser.get(&facade).await;
            // Its fields are told as they were stored (RFC 9111 §3.1): the public cache tests look at them.
            assert_eq!(lines(&answer, "cache-control"), written, "façade, {time}");
        }
        // Its own `Authorization` says it to every cache between.
        let answer = http_client().get(&facade).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.headers()["cache-control"], written);
        assert_eq!(answer.headers().get_all("cache-control").iter().count(), 1);
    }
    upstream.behave(Behaviour::Say(Say::default()));
    assert_eq!(browser.get(edge.url("/api/own/y")).await.headers()["cache-control"], "private", "nor by a guess");
    // Whoever heeds this one does not read the other (RFC 9213 §2.1).
    let targeted = async |written: &str, more: &str| {
        upstream.behave(Say::cache_control("max-age=60", &format!("CDN-Cache-Control: {written}\r\n{more}")));
        browser.get(edge.url("/api/own/z")).await.headers().contains_key("cdn-cache-control")
    };
    for (written, more) in [("max-age=60", ""), ("max-age=x, public", ""), ("public", "Vary: X-Original-User\r\n")] {
        assert!(!targeted(written, more).await, "{written}");
    }
    for written in ["public, max-age=60", "s-maxage=60", "no-store", "private"] {
        assert!(targeted(written, "").await, "{written}");
    }
}

#[tokio::test]
async fn a_stored_answer_is_told_from_a_fetched_one() {
    let (edge, upstream, browser) = cached().await;
    upstream.behave(Say::cache_control("max-age=60", "Age: 5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Kept: 1\r\n"));
    let first = ask(&browser, &edge, "x", &[]).await;
    assert_eq!(
        (told(&first), first.headers()["cache-status"].to_str().unwrap()),
        ("MISS", "pingora-bff; fwd=miss; stored; ttl=55")
    );
    let second = ask(&browser, &edge, "x", &[]).await;
    assert_eq!(told(&second), "HIT");
    assert!(second.headers()["cache-status"].to_str().unwrap().starts_with("pingora-bff; hit; ttl=5"));
    let age: u32 = second.headers()["age"].to_str().unwrap().parse().unwrap();
    assert!((5..15).contains(&age) && second.headers().get_all("age").iter().count() == 1);
    assert!(!second.headers().contains_key("x-hop") && second.headers()["x-kept"] == "1");
    assert_eq!(second.text().await.unwrap(), format!("{ADA} #1"));
    let bypassed = browser.post(url(&edge, "y")).await;
    assert_eq!(
        (told(&bypassed), bypassed.headers()["cache-status"].to_str().unwrap()),
        ("BYPASS", "pingora-bff; fwd=method")
    );
    assert_eq!(edge.metric("cache_hits_total").await, 1);
    assert_eq!(edge.metric("cache_misses_total").await, 1);
    assert_eq!(edge.metric("cache_entries").await, 1);
    assert!(edge.metric("cache_bytes").await > 100);
    let health: serde_json::Value =
        http_client().get(edge.url("/api/v1/proxy/health")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&health["cache"]["entries"], &health["cache"]["hits"]), (&1.into(), &1.into()));
}

/// Rounds of two users asking for one URL; the scorecard asks for 10⁵ answers.
fn rounds() -> usize {
    scale(5_000, 50_000)
}

#[tokio::test]
async fn two_users_never_share_a_personal_answer() {
    let (edge, upstream, ada) = cached().await;
    let bob = Browser::logged_in(&edge, "bob").await;
    let sayings = [
        "Cache-Control: max-age=60\r\n",
        "Cache-Control: max-age=1, must-revalidate\r\nETag: \"1\"\r\n",
        "Cache-Control: private, max-age=60\r\n",
        "Cache-Control: no-store\r\n",
        "Cache-Control: public, max-age=60\r\nSet-Cookie: a=b\r\n",
        "Cache-Control: public, max-age=60\r\nVary: Authorization\r\n",
        "Cache-Control: public, max-age=60\r\nVary: X-Original-User\r\n",
        "Cache-Control: public, max-age=60\r\nVary: Cookie\r\n",
        "Cache-Control: max-age=0, stale-while-revalidate=60\r\nETag: \"2\"\r\n",
        "ETag: \"3\"\r\n",
        "",
    ];
    let each = rounds().div_ceil(sayings.len());
    for (number, lines) in sayings.into_iter().enumerate() {
        upstream.behave(Behaviour::Say(Say { lines: lines.to_owned(), ..Say::default() }));
        let rest = format!("personal/{number}");
        let both = |_round: usize| async {
            let (hers, his) = tokio::join!(seen(&ada, &edge, &rest, &[]), seen(&bob, &edge, &rest, &[]));
            assert!(hers.1.starts_with("auth:account:testidp:ada #"), "{lines}: ada got {hers:?}");
            assert!(his.1.starts_with("auth:account:testidp:bob #"), "{lines}: bob got {his:?}");
        };
        let mut round = 0;
        while round < each {
            futures::future::join_all((round..each.min(round + 25)).map(both)).await;
            round += 25;
        }
    }
    assert!(edge.metric("cache_hits_total").await > 100, "the cache was at work");
}

#[tokio::test]
async fn a_public_answer_is_everybodys() {
    let (edge, upstream, ada) = cached().await;
    let bob = Browser::logged_in(&edge, "bob").await;
    for (number, value) in ["public, max-age=60", "s-maxage=60"].into_iter().enumerate() {
        upstream.behave(Say::cache_control(value, ""));
        let rest = format!("public/{number}");
        let first = seen(&ada, &edge, &rest, &[]).await;
        assert_eq!(seen(&bob, &edge, &rest, &[]).await, ("HIT".to_owned(), first.1), "{value}");
    }
}

/// Clients in a stampede; the scorecard asks for a thousand.
fn herd() -> usize {
    scale(500, 1_000)
}

#[tokio::test]
async fn a_stampede_on_a_cold_url_is_one_request() {
    let (edge, upstream, browser) = cached().await;
    let say = |after, missing| {
        let lines = "Cache-Control: max-age=60\r\n".to_owned();
        Behaviour::Say(Say { lines, after, missing, ..Say::default() })
    };
    upstream.behave(say(Duration::from_secs(scale(1, 2) as u64), 0));
    // Plain sockets that stand connected: what is timed is the edge, not a client of many layers.
    let mut clients = Vec::new();
    for _ in 0..herd() {
        clients.push(RawClient::connect(edge.address()).await);
    }
    let cookie = browser.cookie_header(&edge.origin);
    let request =
        format!("GET /api/v1/proxy/svc/cold HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n", edge.port);
    let started = Instant::now();
    let answers = futures::future::join_all(clients.iter_mut().map(|client| client.ask(&request))).await;
    println!("{} clients answered within {:?}", answers.len(), started.elapsed());
    assert!(answers.iter().all(|(head, body)| head.status() == 200 && body.length == format!("{ADA} #1").len() as u64));
    assert_eq!(upstream.count(), 1);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());

    // The service breaks off its first answer: one client got half of it, the next one goes for all others.
    upstream.behave(say(Duration::from_secs(1), 10));
    let herd = futures::future::join_all(
        (0..herd()).map(|_| async { ask(&browser, &edge, "breaks", &[]).await.text().await }),
    );
    let mend = async {
        eventually!("the first is under way", upstream.count() == 2);
        upstream.behave(say(Duration::ZERO, 0));
    };
    // What the service does is decided when it is asked: only the first answer breaks.
    let (answers, ()) = tokio::join!(herd, mend);
    let (whole, broken): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(whole.iter().flatten().all(|body| *body == format!("{ADA} #3")));
    assert_eq!((broken.len(), upstream.count()), (1, 3), "one half an answer, one more request");
}

#[tokio::test]
async fn nobody_waits_for_ever_behind_a_slow_or_aborted_first_request() {
    let (edge, upstream, browser) = cached().await;
    let slow =
        |after| Behaviour::Say(Say { lines: "Cache-Control: max-age=60\r\n".to_owned(), after, ..Say::default() });
    upstream.behave(slow(Duration::from_secs(7)));
    let first = tokio::spawn({
        let (browser, url) = (browser.clone(), url(&edge, "slow"));
        async move { browser.get(url).await.status() }
    });
    eventually!("the first request is under way", upstream.count() == 1);
    upstream.behave(slow(Duration::ZERO));
    let started = Instant::now();
    assert_eq!(ask(&browser, &edge, "slow", &[]).await.status(), 200);
    assert!((4.0..6.5).contains(&started.elapsed().as_secs_f32()), "after five seconds one more asks");
    assert_eq!(first.await.unwrap(), 200);

    upstream.behave(slow(Duration::from_millis(600)));
    let mut leaver = RawClient::connect(edge.address()).await;
    let cookie = browser.cookie_header(&edge.origin);
    let head =
        format!("GET /api/v1/proxy/svc/left HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n", edge.port);
    leaver.send(head).await;
    eventually!("the leaver's request is under way", upstream.count() == 3);
    let waiting = futures::future::join_all((0..200).map(|_| seen(&browser, &edge, "left", &[])));
    drop(leaver);
    let started = Instant::now();
    assert!(waiting.await.iter().all(|(_, body)| *body == format!("{ADA} #4")), "one of them goes, for all");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_truncated_answer_is_never_stored() {
    let (edge, upstream, browser) = cached().await;
    let lines = "Cache-Control: public, max-age=60\r\n".to_owned();
    upstream.behave(Behaviour::Say(Say { lines: lines.clone(), missing: 10, ..Say::default() }));
    for _ in 0..2 {
        assert!(ask(&browser, &edge, "cut", &[]).await.bytes().await.is_err(), "cut for the client too, not padded");
    }
    upstream.behave(Behaviour::Say(Say { lines, ..Say::default() }));
    let (cache, body) = seen(&browser, &edge, "cut", &[]).await;
    assert_eq!((cache.as_str(), body.ends_with("#3")), ("MISS", true));
}

#[tokio::test]
async fn variants_are_told_apart() {
    let (edge, upstream, browser) = cached().await;
    upstream.behave(Say::cache_control("max-age=60", "Vary: Accept-Language\r\n"));
    let german = [("accept-language", "de, en")];
    assert_eq!(seen(&browser, &edge, "v", &german).await, pair("MISS", &format!("{ADA} #1")));
    assert_eq!(seen(&browser, &edge, "v", &[("accept-language", "fr")]).await, pair("MISS", &format!("{ADA} #2")));
    assert_eq!(seen(&browser, &edge, "v", &[("accept-language", "de,en")]).await, pair("HIT", &format!("{ADA} #1")));
    assert_eq!(seen(&browser, &edge, "v", &[]).await, pair("MISS", &format!("{ADA} #3")));
    upstream.behave(Say::cache_control("max-age=60", "Vary: *\r\n"));
    for number in 4..=5 {
        assert_eq!(seen(&browser, &edge, "star", &[]).await.1, format!("{ADA} #{number}"));
    }
}

#[tokio::test]
async fn conditional_range_and_head_requests_are_answered_from_the_store() {
    let (edge, upstream, browser) = cached().await;
    upstream.behave(Say::cache_control("max-age=60", "ETag: \"a\"\r\n"));
    let whole = format!("{ADA} #1");
    assert_eq!(seen(&browser, &edge, "x", &[]).await, pair("MISS", &whole));
    let held = ask(&browser, &edge, "x", &[("if-none-match", "\"b\", \"a\"")]).await;
    assert_eq!((held.status().as_u16(), told(&held)), (304, "HIT"));
    let part = ask(&browser, &edge, "x", &[("range", "bytes=5-9")]).await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes 5-9/{}", whole.len()));
    assert_eq!(part.text().await.unwrap(), whole[5..=9]);
    assert_eq!(ask(&browser, &edge, "x", &[("range", "bytes=900-")]).await.status(), 416);
    let other = ask(&browser, &edge, "x", &[("range", "bytes=5-9"), ("if-range", "\"b\"")]).await;
    assert_eq!((other.status().as_u16(), other.text().await.unwrap()), (200, whole.clone()));
    let bodiless = browser.client.head(url(&edge, "x")).send().await.unwrap();
    assert_eq!(
        (told(&bodiless), bodiless.headers()["content-length"].to_str().unwrap()),
        ("HIT", whole.len().to_string().as_str())
    );
    assert_eq!(upstream.count(), 1);
    // A HEAD that misses fetches the whole for those who come later, unless its client moves on first:
    // what that client asks next, on the same connection, is answered either way.
    assert_eq!(told(&browser.client.head(url(&edge, "h")).send().await.unwrap()), "MISS");
    let next = seen(&browser, &edge, "h", &[]).await;
    assert!([pair("HIT", &format!("{ADA} #2")), pair("MISS", &format!("{ADA} #3"))].contains(&next), "{next:?}");
    let missed = ask(&browser, &edge, "p", &[("range", "bytes=0-3")]).await;
    assert_eq!((missed.status().as_u16(), missed.text().await.unwrap()), (206, "auth".to_owned()));
    for (how, range) in [("MISS", None), ("HIT", None), ("HIT", Some(("range", "bytes=0-3")))] {
        let answer = ask(&browser, &edge, "w", range.as_slice()).await;
        let divisible = answer.headers().get("accept-ranges").map(|unit| unit.to_str().unwrap());
        assert_eq!((told(&answer), divisible), (how, range.is_none().then_some("bytes")));
    }
}

/// On HTTP/2 the body that the cache fetches would follow the head, which ends the stream in an error.
#[tokio::test]
async fn a_head_that_misses_on_http2_is_a_head() {
    let (edge, upstream, browser) = cached().await;
    let lines = format!("Cache-Control: max-age=60\r\nX-Pad: {}\r\n", "x".repeat(100));
    upstream.behave(Behaviour::Say(Say { lines, ..Say::default() }));
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let cookie = browser.cookie_header(&edge.origin);
    for number in 0..30 {
        let head = client.head(url(&edge, &format!("h{number}"))).header("cookie", &cookie);
        let head = head.send().await.unwrap();
        assert_eq!((head.status().as_u16(), told(&head)), (200, "MISS"), "{number}");
        head.bytes().await.unwrap();
    }
}

#[tokio::test]
async fn a_stale_answer_is_validated_and_freshened() {
    let (edge, upstream, browser) = cached().await;
    upstream.behave(Say::cache_control("max-age=1", "ETag: \"a\"\r\nX-Version: 1\r\n"));
    assert_eq!(seen(&browser, &edge, "x", &[]).await.0, "MISS");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    upstream.behave(Say::cache_control("max-age=60", "ETag: \"a\"\r\nX-Version: 2\r\nSet-Cookie: fresh=1; Path=/\r\n"));
    let validated = ask(&browser, &edge, "x", &[]).await;
    assert_eq!(upstream.last().head.one("if-none-match").as_deref(), Some("\"a\""));
    assert_eq!((validated.status().as_u16(), &validated.headers()["x-version"]), (200, &"2".parse().unwrap()));
    assert!(validated.headers().contains_key("set-cookie"), "the 304's cookie is this client's");
    assert_eq!(validated.text().await.unwrap(), format!("{ADA} #1"));
    upstream.behave(Say::cache_control("max-age=60", "ETag: \"a\"\r\nX-Version: 3\r\n"));
    assert_eq!(ask(&browser, &edge, "x", &[("cache-control", "no-cache")]).await.headers()["x-version"], "3");
    let fresh = ask(&browser, &edge, "x", &[]).await;
    assert_eq!((told(&fresh), fresh.headers()["x-version"].to_str().unwrap()), ("HIT", "3"));
    assert!(!fresh.headers().contains_key("set-cookie"));
    // What a 304 takes back is gone.
    upstream.behave(Say::cache_control("no-store", "ETag: \"a\"\r\n"));
    assert_eq!(seen(&browser, &edge, "x", &[("cache-control", "no-cache")]).await.1, format!("{ADA} #1"));
    upstream.behave(Say::cache_control("no-store", ""));
    assert_ne!(seen(&browser, &edge, "x", &[]).await.1, format!("{ADA} #1"));
}

#[tokio::test]
async fn requests_say_what_they_take() {
    let (edge, upstream, browser) = cached().await;
    upstream.behave(Say::cache_control("max-age=60", ""));
    let none = ask(&browser, &edge, "x", &[("cache-control", "only-if-cached")]).await;
    assert_eq!((none.status().as_u16(), upstream.count()), (504, 0));
    assert_eq!(seen(&browser, &edge, "x", &[]).await.0, "MISS");
    assert_eq!(seen(&browser, &edge, "x", &[("cache-control", "only-if-cached")]).await.0, "HIT");
    for (value, expected) in [
        ("max-age=0", "HIT"),
        ("no-cache", "MISS"),
        ("min-fresh=900", "MISS"),
        ("max-age=50", "HIT"),
        ("no-store", "BYPASS"),
    ] {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let expected = if value == "max-age=0" { "MISS" } else { expected };
        assert_eq!(seen(&browser, &edge, "x", &[("cache-control", value)]).await.0, expected, "{value}");
    }
    assert_eq!(seen(&browser, &edge, "x", &[("pragma", "no-cache")]).await.0, "MISS");
}

#[tokio::test]
async fn a_change_invalidates_for_everybody() {
    let (edge, upstream, ada) = cached().await;
    let bob = Browser::logged_in(&edge, "bob").await;
    upstream.behave(Say::cache_control("max-age=60", "Location: sub\r\nContent-Location: /base/other\r\n"));
    for rest in ["x", "sub", "other", "unrelated"] {
        assert_eq!(seen(&ada, &edge, rest, &[]).await.0, "MISS");
        assert_eq!(seen(&bob, &edge, rest, &[]).await.0, "MISS");
        assert_eq!(seen(&bob, &edge, rest, &[]).await.0, "HIT");
    }
    upstream.behave(Behaviour::Status(500));
    assert_eq!(ada.post(url(&edge, "x")).await.status(), 500);
    assert_eq!(seen(&ada, &edge, "x", &[]).await.0, "HIT", "a change that failed changes nothing");
    upstream.behave(Say::cache_control("max-age=60", "Location: sub\r\nContent-Location: /base/other\r\n"));
    assert_eq!(ada.post(url(&edge, "x")).await.status(), 200);
    for (rest, expected) in [("x", "MISS"), ("sub", "MISS"), ("other", "MISS"), ("unrelated", "HIT")] {
        assert_eq!(seen(&ada, &edge, rest, &[]).await.0, expected, "{rest}");
        assert_eq!(seen(&bob, &edge, rest, &[]).await.0, expected, "{rest}");
    }
}

#[tokio::test]
async fn what_a_change_left_behind_that_nobody_heard_of_is_asked_for_again() {
    let (edge, upstream, ada) = cached().await;
    let say = || upstream.behave(Say::cache_control("max-age=60", ""));
    for fault in [Behaviour::Close, Behaviour::Delay(Duration::from_secs(20))] {
        say();
        ada.get(url(&edge, "x")).await;
        assert_eq!(seen(&ada, &edge, "x", &[]).await.0, "HIT");
        upstream.behave(fault);
        let change = ada.client.post(url(&edge, "x")).timeout(Duration::from_secs(1)).send().await;
        assert!(change.is_err() || change.unwrap().status() == 502);
        say();
        eventually!("it is asked for", seen(&ada, &edge, "x", &[]).await.0 == "MISS");
    }
}

#[tokio::test]
async fn an_answer_from_before_a_change_is_not_stored_after_it() {
    let (edge, upstream, browser) = cached().await;
    let say =
        |after| Behaviour::Say(Say { lines: "Cache-Control: max-age=60\r\n".to_owned(), after, ..Say::default() });
    upstream.behave(say(Duration::from_millis(500)));
    let early = seen(&browser, &edge, "x", &[]);
    let change = async {
        eventually!("the read is under way", upstream.count() == 1);
        upstream.behave(say(Duration::ZERO));
        browser.post(url(&edge, "x")).await.status()
    };
    let (early, changed) = tokio::join!(early, change);
    assert_eq!((early.1, changed.as_u16()), (format!("{ADA} #1"), 200));
    assert_eq!(seen(&browser, &edge, "x", &[]).await, pair("MISS", &format!("{ADA} #3")));
}

#[tokio::test]
async fn a_stale_answer_bridges_a_refresh_in_the_background() {
    let (edge, upstream, browser) = cached().await;
    upstream.behave(Say::cache_control("max-age=1, stale-while-revalidate=60", ""));
    assert_eq!(seen(&browser, &edge, "x", &[]).await.0, "MISS");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let before = edge.metric("http_requests_total{endpoint=\"legacy-svc\"").await;
    assert_eq!(seen(&browser, &edge, "x", &[]).await, pair("STALE", &format!("{ADA} #1")));
    eventually!("it was refreshed", upstream.count() == 2);
    assert_eq!(upstream.last().head.one("x-original-user").as_deref(), Some(ADA));
    eventually!("the refreshed one is served", seen(&browser, &edge, "x", &[]).await.1 == format!("{ADA} #2"));
    assert!(edge.metric("http_requests_total{endpoint=\"legacy-svc\"").await > before);
}

#[tokio::test]
async fn a_failing_service_is_covered_by_what_is_stored() {
    let (edge, upstream, browser) = cached().await;
    let mut stored = Vec::new();
    for (rest, value) in [
        ("sie", "max-age=1, stale-if-error=60"),
        ("silent", "max-age=1"),
        ("strict", "max-age=1, must-revalidate"),
        ("shared", "s-maxage=1"),
    ] {
        upstream.behave(Say::cache_control(value, "ETag: \"a\"\r\n"));
        stored.push(seen(&browser, &edge, rest, &[]).await.1);
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // An answer of the service stands, unless the stored one says otherwise.
    upstream.behave(Behaviour::Status(503));
    assert_eq!(seen(&browser, &edge, "sie", &[]).await, pair("STALE", &stored[0]));
    assert_eq!(ask(&browser, &edge, "silent", &[]).await.status(), 503);
    // Three failures: the second and third are connections that break.
    upstream.behave(Behaviour::Close);
    assert_eq!(seen(&browser, &edge, "silent", &[]).await, pair("STALE", &stored[1]));
    for (rest, code) in [("strict", 503), ("shared", 503)] {
        let refused = ask(&browser, &edge, rest, &[]).await;
        assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (code, true), "{rest}");
    }
    let count = upstream.heads();
    for (rest, body) in [("sie", &stored[0]), ("silent", &stored[1])] {
        assert_eq!(seen(&browser, &edge, rest, &[]).await, pair("STALE", body), "the circuit is open");
    }
    assert_eq!(upstream.heads(), count, "and nobody was asked");
    let refused = ask(&browser, &edge, "never-stored", &[]).await;
    assert_eq!(refused.status(), 503);
}

#[tokio::test]
async fn a_304_does_not_make_one_callers_answer_everybodys() {
    let (edge, upstream, ada) = cached().await;
    let bob = Browser::logged_in(&edge, "bob").await;
    upstream.behave(Say::cache_control("max-age=0", "ETag: \"a\"\r\n"));
    assert_eq!(seen(&ada, &edge, "x", &[]).await.0, "MISS");
    // Some servers put one and the same line on every 304.
    upstream.behave(Say::cache_control("public, max-age=60", "ETag: \"a\"\r\n"));
    assert_eq!(seen(&ada, &edge, "x", &[]).await.0, "HIT");
    assert_eq!(seen(&ada, &edge, "x", &[]).await.0, "HIT");
    let (told, body) = seen(&bob, &edge, "x", &[]).await;
    assert!(told == "MISS" && !body.contains("ada"), "{told}: {body}");
}
