//! The session cookie: planted, pieced together, doubled, misspelled.

use serde_json::Value;

use super::{ask, status, world};
use crate::harness::liar::begin;
use crate::harness::{Browser, http_client};

const NAME: &str = "bff_session";

/// The value of ada's cookie.
fn value() -> String {
    world().ada.cookie(&world().edge.origin, NAME).unwrap()
}

#[tokio::test]
async fn cve_2023_48309_the_cookie_of_a_login_under_way_as_a_session() {
    let world = world();
    let begun = begin(world.edge, &world.liar).await;
    let header = begun.browser.cookie_header(&world.edge.origin);
    let (_, flow) = header.split_once('=').unwrap();
    for cookie in [format!("{NAME}={flow}"), format!("{NAME}={}", header.split('=').next().unwrap())] {
        assert_eq!(status("GET /pass/x", &format!("Cookie: {cookie}\r\n")).await, 401, "{cookie}");
        assert_eq!(status("GET /auth/session", &format!("Cookie: {cookie}\r\n")).await, 401);
    }
}

#[tokio::test]
async fn cve_2026_25748_a_malformed_cookie_passes_the_check() {
    for cookie in
        ["", "=", "x", "\"\"", "%00", "a b", "null", "undefined", "{}", "AAAA", &"A".repeat(64), &"A".repeat(9000)]
    {
        for path in ["/auth/verify", "/auth/forward"] {
            let found = ask(&format!("GET {path}"), &format!("Cookie: {NAME}={cookie}\r\n")).await;
            assert!(matches!(found.status, 400 | 401 | 431), "{cookie:.20}: {}", found.status);
            assert_eq!(found.head.one("x-user-id"), None);
        }
    }
}

#[tokio::test]
async fn cve_2024_24814_a_number_of_cookies_to_collect() {
    let lines = format!("Cookie: {NAME}_chunks=99999999; {NAME}_0=a; {NAME}_chunks_99999999=b\r\n");
    assert_eq!(status("GET /pass/x", &lines).await, 401);
}

#[tokio::test]
async fn cve_2023_28625_a_cookie_header_of_separators() {
    for cookie in ["", ";", ";;;;", "; ", " ", "=", "=;=", NAME, "\t", ";=;\"", ", ,"] {
        assert_eq!(status("GET /pass/x", &format!("Cookie: {cookie}\r\n")).await, 401, "{cookie:?}");
        assert_eq!(status("GET /open/x", &format!("Cookie: {cookie}\r\n")).await, 200, "{cookie:?}");
    }
}

#[tokio::test]
async fn cve_2023_35941_a_cookie_pieced_together_from_two() {
    let eve = world().login("at-eve").await;
    let (ada, eve) = (value(), eve.cookie(&world().edge.origin, NAME).unwrap());
    // Bytes of id and key meet within a character; both cuts around it are tried. One last character alone is the same in
    // one pair of cookies of 64.
    for cut in [20, 21, 22, 32, 56] {
        for mixed in [format!("{}{}", &ada[..cut], &eve[cut..]), format!("{}{}", &eve[..cut], &ada[cut..])] {
            assert_eq!(status("GET /pass/x", &format!("Cookie: {NAME}={mixed}\r\n")).await, 401, "{cut}");
        }
    }
}

#[tokio::test]
async fn cve_2023_23934_a_cookie_without_a_name() {
    let planted = value();
    for cookie in [format!("={NAME}={planted}"), format!("=={NAME}={planted}"), format!(" ={NAME}={planted}")] {
        assert_eq!(status("GET /pass/x", &format!("Cookie: {cookie}\r\n")).await, 401, "{cookie:.30}");
    }
    let both = format!("Cookie: ={NAME}=x; {NAME}={planted}\r\n");
    assert_eq!(status("GET /pass/x", &both).await, 200, "and it does not hide ours");
}

#[tokio::test]
async fn cve_2022_31629_names_that_fold_to_ours() {
    let planted = value();
    for name in [
        "bff.session",
        "bff session",
        "bff%5fsession",
        "Bff_Session",
        "BFF_SESSION",
        "bff_session[]",
        "__Host-bff_session",
        "bff-session",
    ] {
        assert_eq!(status("GET /pass/x", &format!("Cookie: {name}={planted}\r\n")).await, 401, "{name}");
    }
}

#[tokio::test]
async fn a_tossed_cookie_beside_ours_is_refused() {
    let ours = value();
    for second in ["planted".to_owned(), ours.clone(), String::new()] {
        for lines in [
            format!("Cookie: {NAME}={ours}; {NAME}={second}\r\n"),
            format!("Cookie: {NAME}={second}; {NAME}={ours}\r\n"),
            format!("Cookie: {NAME}={second}\r\nCookie: {NAME}={ours}\r\n"),
        ] {
            for path in ["/pass/x", "/auth/verify", "/auth/session"] {
                assert_eq!(status(&format!("GET {path}"), &lines).await, 400, "{path}: {second:.10}");
            }
        }
    }
}

#[tokio::test]
async fn a_planted_session_is_not_taken_over_by_a_login() {
    let world = world();
    let victim = Browser::new();
    let planted = "A".repeat(64);
    victim.put_cookie(&world.edge.origin, &format!("{NAME}={planted}; Path=/"));
    let begun = begin(world.edge, &world.liar).await;
    drop(begun);
    assert_eq!(victim.get(world.edge.url("/auth/session")).await.status(), 401);
    // An attacker's live session in the victim's browser: the login replaces it, and the old one dies.
    let attacker = world.login("at-attacker").await;
    let old = attacker.cookie(&world.edge.origin, NAME).unwrap();
    let _one_at_a_time = world.login.lock().await;
    let answer = relogin(&attacker).await;
    assert_ne!(answer, old);
    let stolen = http_client().get(world.edge.url("/auth/session")).header("cookie", format!("{NAME}={old}"));
    assert_eq!(stolen.send().await.unwrap().status(), 401, "the earlier session is over");
}

/// Logs in again in a browser that has a session; the new cookie.
async fn relogin(browser: &Browser) -> String {
    let world = world();
    let started = browser.get(world.edge.url("/auth/login")).await;
    let url = reqwest::Url::parse(&crate::harness::location(&started).unwrap()).unwrap();
    let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    let now = crate::harness::liar::now();
    world.liar.hand_out(&Value::from(world.liar.sign(&serde_json::json!({
        "iss": world.liar.base, "aud": world.edge.client_id, "sub": "ada", "iat": now, "exp": now + 300, "nonce": query["nonce"],
    }))));
    let back = format!("/auth/callback?state={}&iss={}&code=c", query["state"], world.liar.base);
    browser.get(world.edge.url(&back)).await;
    browser.cookie(&world.edge.origin, NAME).unwrap()
}

#[tokio::test]
async fn cve_2024_39315_tokens_in_the_answer_about_the_user() {
    let answer = ask("GET /auth/session", &world().cookie()).await;
    assert_eq!(answer.status, 200);
    for secret in ["at-ada", "eyJ", &value()] {
        assert!(!answer.text.contains(secret), "{}", answer.text);
    }
    assert_eq!(answer.head.one("cache-control").as_deref(), Some("no-store"));
}

#[tokio::test]
async fn cve_2025_55162_a_logout_that_leaves_the_cookie() {
    let eve = world().login("at-eve").await;
    let header = eve.cookie_header(&world().edge.origin);
    let answer = ask("POST /auth/logout", &format!("Cookie: {header}\r\nContent-Length: 0\r\n")).await;
    let expired = answer.head.all("set-cookie").into_iter().find(|line| line.starts_with("bff_session=;")).unwrap();
    for attribute in ["Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=0"] {
        assert!(expired.contains(attribute), "as it was set: {expired}");
    }
    assert_eq!(status("GET /auth/session", &format!("Cookie: {header}\r\n")).await, 401, "and it is dead in any case");
}
