//! Answers kept for one and given to another, and bodies taken for requests.

use super::{ADA, world};
use crate::harness::{Browser, RawClient, raw};

async fn cached(browser: &Browser, path: &str) -> (String, String) {
    let answer = browser.get(world().edge.url(&format!("/api/v1/proxy/svc{path}"))).await;
    let told = answer.headers().get("x-cache").map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    (told, answer.text().await.unwrap())
}

/// A session of another person: the liar says so.
async fn of(subject: &str) -> Browser {
    let world = world();
    let _one_at_a_time = world.login.lock().await;
    let begun = crate::harness::liar::begin(world.edge, &world.liar).await;
    world.liar.hand_out(&serde_json::json!(world.liar.sign(&begun.claims("sub", serde_json::json!(subject)))));
    begun.browser.get(begun.back(world.edge, &world.liar.base, "code=c")).await;
    begun.browser
}

#[tokio::test]
async fn rustsec_2026_0035_a_cache_key_without_the_user() {
    let grace = of("grace").await;
    let (told, first) = cached(&world().ada, "/key/x").await;
    assert!(told == "MISS" && first.starts_with(ADA), "{told} {first}");
    assert_eq!(cached(&world().ada, "/key/x").await.0, "HIT");
    let (told, second) = cached(&grace, "/key/x").await;
    assert!(told == "MISS" && second.starts_with("auth:account:testidp:grace"), "{told} {second}");
}

#[tokio::test]
async fn cve_2024_46982_a_header_that_is_not_in_the_key_poisons_it() {
    let edge = world().edge;
    let ask = async |lines: &str| {
        let request = format!(
            "GET /api/v1/proxy/svc/poison HTTP/1.1\r\nHost: localhost:{}\r\n{}{lines}\r\n",
            edge.port,
            world().cookie()
        );
        String::from_utf8(raw(edge.address(), request).await.1.start).unwrap()
    };
    for lines in ["X-Forwarded-Host: evil.example\r\n", "X-Original-User: spoofed\r\n", "X-Now-Route-Matches: 1\r\n"] {
        let text = ask(lines).await;
        assert!(text.starts_with(ADA), "{text}");
    }
    let seen = world().cacheable.all();
    let poisoned = seen.iter().filter(|received| received.target().contains("poison"));
    for received in poisoned {
        assert!(!String::from_utf8_lossy(&received.head.bytes).contains("evil.example"));
    }
}

#[tokio::test]
async fn a_private_page_under_the_name_of_a_picture() {
    let grace = of("grace").await;
    for path in ["/account/x.css", "/account.js", "/account;x.png", "/account%3Fx.ico"] {
        assert!(cached(&world().ada, path).await.1.starts_with(ADA), "{path}");
        assert!(cached(&grace, path).await.1.contains("grace"), "{path}");
        let nobody = Browser::new();
        assert_eq!(nobody.get(world().edge.url(&format!("/api/v1/proxy/svc{path}"))).await.status(), 401, "{path}");
    }
}

#[tokio::test]
async fn rustsec_2025_0037_the_body_beside_a_stored_answer_is_no_request() {
    cached(&world().ada, "/body/x").await;
    let edge = world().edge;
    let mut client = RawClient::connect(edge.address()).await;
    let smuggled = "GET /open/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let host = format!("Host: localhost:{}\r\n{}", edge.port, world().cookie());
    let head = format!("GET /api/v1/proxy/svc/body/x HTTP/1.1\r\n{host}Content-Length: {}\r\n\r\n", smuggled.len());
    client.send(format!("{head}{smuggled}GET /open/next HTTP/1.1\r\n{host}\r\n")).await;
    let (first, body) = client.response().await;
    assert!(matches!(first.status(), 200 | 400), "{}", first.start_line());
    assert!(!String::from_utf8_lossy(&body.start).contains("smuggled"));
    if first.all("connection").iter().all(|value| value != "close")
        && let Ok(Ok(Some(second))) =
            tokio::time::timeout(std::time::Duration::from_secs(2), client.reader.head()).await
    {
        let body = client.reader.body(&second).await.unwrap();
        assert!(!String::from_utf8_lossy(&body.start).contains("smuggled"), "{}", second.start_line());
    }
    assert!(!world().arrived("smuggled"));
}

#[tokio::test]
async fn rustsec_2026_0033_bytes_before_the_switch_are_no_request() {
    let edge = world().edge;
    let upgrade = format!(
        "GET /open/early HTTP/1.1\r\nHost: localhost:{}\r\nConnection: Upgrade\r\nUpgrade: anything\r\n\r\n\
         GET /pass/early-smuggled HTTP/1.1\r\nHost: x\r\nX-Original-User: root\r\n\r\n",
        edge.port
    );
    let (head, _) = raw(edge.address(), upgrade).await;
    assert!(head.status() < 500, "{}", head.start_line());
    assert!(!world().arrived("early-smuggled"), "it never reaches a service unchecked");
}

#[tokio::test]
async fn rustsec_2026_0034_http_1_0_with_a_coded_body() {
    let edge = world().edge;
    let smuggled = "GET /pass/old-smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for (version, coding) in [
        ("1.0", "Transfer-Encoding: chunked\r\n"),
        ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("1.1", "Transfer-Encoding: xchunked\r\n"),
        ("1.1", "Transfer-Encoding: chunked, chunked\r\n"),
    ] {
        let body = format!("0\r\n\r\n{smuggled}");
        let head = format!("POST /open/old HTTP/{version}\r\nHost: localhost:{}\r\n{coding}\r\n", edge.port);
        let (answer, _) = raw(edge.address(), head + &body).await;
        assert!(answer.status() >= 200 && answer.status() < 500, "{coding}: {}", answer.start_line());
    }
    assert!(!world().arrived("old-smuggled"));
}
