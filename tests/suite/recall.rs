//! What a request says besides its fields, and what the response cache makes of it: a body, its version, what it
//! wants to know.

use std::time::Duration;

use crate::harness::cached::{ADA, ask, cached, pair, seen, told, url};
use crate::harness::{Behaviour, Browser, Say, builder, raw};

const STALE_IN: Duration = Duration::from_millis(1100);

#[tokio::test]
async fn on_http2_too_an_answer_to_a_body_is_nobody_elses() {
    let (edge, upstream, ada) = cached().await;
    let bob = Browser::logged_in(&edge, "bob").await;
    let cookie = ada.cookie_header(&edge.origin);
    let h2 = builder().http2_prior_knowledge().build().unwrap();
    upstream.behave(Say::cache_control("public, max-age=60", ""));
    // Its length is in no field.
    let body = reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>("evil")]));
    let fat = h2.get(url(&edge, "x")).header("cookie", &cookie).body(body).send().await.unwrap();
    assert_eq!((fat.status().as_u16(), told(&fat)), (200, "BYPASS"));
    assert_eq!(upstream.last().body.start, b"evil");
    assert_eq!(seen(&bob, &edge, "x", &[]).await.0, "MISS", "nothing of it was stored");
    let plain = h2.get(url(&edge, "x")).header("cookie", &cookie).send().await.unwrap();
    assert_eq!(told(&plain), "HIT", "without a body it is a question like any other");
    // Whose body does not end, holds nobody back.
    let open = reqwest::Body::wrap_stream(futures::stream::pending::<Result<&str, std::io::Error>>());
    let held = tokio::spawn(h2.get(url(&edge, "y")).header("cookie", &cookie).body(open).send());
    eventually!("it is under way", edge.metric("http_requests_in_flight").await >= 1);
    let next = tokio::time::timeout(Duration::from_secs(4), seen(&ada, &edge, "y", &[])).await;
    assert_eq!(next.expect("nobody waits for it").0, "MISS");
    held.abort();
}

#[tokio::test]
async fn a_stale_answer_is_refreshed_behind_a_client_on_http2() {
    let (edge, upstream, browser) = cached().await;
    let cookie = browser.cookie_header(&edge.origin);
    let h2 = builder().http2_prior_knowledge().build().unwrap();
    let seen = async || {
        let answer = h2.get(url(&edge, "x?y=1")).header("cookie", &cookie).send().await.unwrap();
        (told(&answer).to_owned(), answer.text().await.unwrap())
    };
    upstream.behave(Say::cache_control("max-age=1, stale-while-revalidate=60", ""));
    assert_eq!(seen().await.0, "MISS");
    tokio::time::sleep(STALE_IN).await;
    assert_eq!(seen().await, pair("STALE", &format!("{ADA} #1")));
    eventually!("it was refreshed", upstream.count() >= 2);
    eventually!("the refreshed one is served", seen().await.1 != format!("{ADA} #1"));
}

#[tokio::test]
async fn who_wants_the_services_word_gets_what_is_stored_only_if_there_is_none() {
    let (edge, upstream, browser) = cached().await;
    let wants = |value: &'static str| [("cache-control", value)];
    upstream.behave(Say::cache_control("max-age=2, stale-if-error=600", ""));
    assert_eq!(seen(&browser, &edge, "sie", &[]).await.0, "MISS");
    upstream.behave(Behaviour::Status(500));
    for round in ["fresh", "stale"] {
        for (value, status, how) in
            [("max-age=0", 200, "STALE"), ("min-fresh=100", 200, "STALE"), ("no-cache", 500, "MISS")]
        {
            let answer = ask(&browser, &edge, "sie", &wants(value)).await;
            assert_eq!((answer.status().as_u16(), told(&answer)), (status, how), "{round}: {value}");
            // Good answers between keep the circuit closed.
            upstream.behave(Say::cache_control("no-store", ""));
            ask(&browser, &edge, "good", &[]).await;
            upstream.behave(Behaviour::Status(500));
        }
        tokio::time::sleep(STALE_IN * 2).await;
    }
    // While somebody asks again, too.
    upstream.behave(Say::cache_control("max-age=1, stale-while-revalidate=60", "ETag: \"1\"\r\n"));
    for (number, value) in ["max-age=0", "min-fresh=1", "no-cache"].into_iter().enumerate() {
        let rest = format!("swr/{number}");
        assert_eq!(seen(&browser, &edge, &rest, &[]).await.0, "MISS");
        tokio::time::sleep(STALE_IN).await;
        assert_eq!(seen(&browser, &edge, &rest, &wants(value)).await.0, "HIT", "{value}: it was validated");
    }
}

/// RFC 9110 §7.6.1: what a client nominates goes no further than to us.
#[tokio::test]
async fn a_field_that_the_service_was_not_sent_selects_no_answer() {
    let (edge, upstream, ada) = cached().await;
    let bob = Browser::logged_in(&edge, "bob").await;
    upstream.behave(Say::cache_control("public, max-age=60", "Vary: X-Tenant\r\n"));
    let cookie = ada.cookie_header(&edge.origin);
    let lines = "Connection: keep-alive, X-Tenant\r\nX-Tenant: blue\r\n";
    let ask =
        format!("GET /api/v1/proxy/svc/x HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n{lines}\r\n", edge.port);
    assert_eq!(raw(edge.address(), &ask).await.0.one("x-cache").as_deref(), Some("MISS"));
    assert_eq!(upstream.last().head.one("x-tenant"), None);
    let blue = seen(&bob, &edge, "x", &[("x-tenant", "blue")]).await;
    assert_eq!((&*blue.0, upstream.last().head.one("x-tenant").as_deref()), ("MISS", Some("blue")));
    // It was asked without one.
    assert_eq!(raw(edge.address(), &ask).await.0.one("x-cache").as_deref(), Some("HIT"));
    assert_eq!(seen(&bob, &edge, "x", &[]).await.0, "HIT");
}
