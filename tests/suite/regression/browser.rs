//! What a page of somebody else can make a browser do.

use super::{APP, ask, status, world};
use crate::harness::liar::begin;
use crate::harness::{Browser, http_client, location};

/// Where a logout that nobody is part of sends the browser: the same check as at a login.
async fn sent_to(target: &str) -> String {
    let mut url = reqwest::Url::parse(&world().edge.url("/auth/logout")).unwrap();
    url.query_pairs_mut().append_pair("return_to", target);
    location(&http_client().post(url).send().await.unwrap()).unwrap()
}

async fn assert_home(targets: &[&str]) {
    let home = format!("{}/", world().edge.origin);
    for target in targets {
        assert_eq!(sent_to(target).await, home, "{target:?}");
    }
}

#[tokio::test]
async fn cve_2020_5233_a_backslash_leads_elsewhere() {
    assert_home(&["/\\evil.example", "\\\\evil.example", "/\\/evil.example", "\\/evil.example", "/x\\@evil.example"])
        .await;
}

#[tokio::test]
async fn cve_2019_14857_slashes_lead_elsewhere() {
    assert_home(&[
        "//evil.example",
        "///evil.example",
        "////evil.example/",
        "https:///evil.example",
        "//evil.example/%2f..",
    ])
    .await;
}

#[tokio::test]
async fn cve_2022_23527_a_tab_leads_elsewhere() {
    assert_home(&[
        "/\t/evil.example",
        "\t//evil.example",
        "/\n/evil.example",
        "/\r\n/evil.example",
        "ht\ntps://evil.example",
    ])
    .await;
}

#[tokio::test]
async fn cve_2021_21291_the_ending_of_a_listed_host() {
    assert_eq!(sent_to("https://app.example.com/x").await, "https://app.example.com/x", "the listed one");
    assert_home(&[
        "https://evilapp.example.com/",
        "https://app.example.com.evil.example/",
        "https://evil.example/app.example.com",
        "https://evil.example?app.example.com",
        "https://evil.example#app.example.com",
        "https://app.example.com:8443/",
        "https://app.example.com%2eevil.example/",
        "https://app.example.com\u{3002}evil.example/",
    ])
    .await;
}

#[tokio::test]
async fn cve_2026_28512_a_user_name_that_looks_like_a_host() {
    assert_home(&[
        "https://app.example.com@evil.example/",
        "https://app.example.com:x@evil.example/",
        "https://user@app.example.com/",
        "https://localhost%40evil.example",
        "//app.example.com@evil.example",
    ])
    .await;
}

#[tokio::test]
async fn cve_2021_29456_other_schemes_and_shapes() {
    assert_home(&[
        "javascript:alert(1)",
        "JaVaScRiPt://localhost/%0aalert(1)",
        "data:text/html,<script>",
        "vbscript:x",
        "file:///etc/passwd",
        "ftp://app.example.com/",
        "https:evil.example",
        "http:/evil.example",
        "evil.example",
        ".evil.example",
        "@evil.example",
        "?next=//evil.example",
        "#//evil.example",
        "/.//evil.example",
        "/x/..//evil.example",
        "/%2e//evil.example",
        "/auth/login?return_to=//evil.example",
        " /x",
        "/%00\0",
        "",
    ])
    .await;
}

#[tokio::test]
async fn cve_2015_9284_somebody_elses_login() {
    let world = world();
    let attacker = begin(world.edge, &world.liar).await;
    let before = world.edge.metric("bff_sessions_created_total").await;
    let victim = Browser::new();
    for _ in 0..2 {
        let answer = victim.get(attacker.back(world.edge, &world.liar.base, "code=attackers")).await;
        let planted = answer.headers().get_all("set-cookie").iter().any(|line| {
            line.to_str().unwrap().starts_with("bff_session=") && !line.to_str().unwrap().contains("Max-Age=0")
        });
        assert!(!planted && !location(&answer).unwrap_or_default().contains("/here"), "{answer:?}");
    }
    assert_eq!(victim.get(world.edge.url("/auth/session")).await.status(), 401);
    assert!(world.edge.metric("bff_sessions_created_total").await >= before);
    assert!(!world.liar.asked("/token").iter().any(|form| form.contains("code=attackers")));
}

#[tokio::test]
async fn cve_2023_27490_state_that_is_not_bound_to_the_browser() {
    let world = world();
    let (mine, theirs) = (begin(world.edge, &world.liar).await, begin(world.edge, &world.liar).await);
    // The victim has a login of its own under way, with another cookie.
    let answer = mine.browser.get(theirs.back(world.edge, &world.liar.base, "code=theirs")).await;
    // Nothing of theirs is used: a new login of the victim's own begins.
    assert_eq!(location(&answer).as_deref(), Some("/auth/login?return_to=%2Fhere&again=1"), "{answer:?}");
    assert!(
        !answer.headers().get_all("set-cookie").iter().any(|line| line.to_str().unwrap().starts_with("bff_session="))
    );
    let guessed = mine.back(world.edge, &world.liar.base, "code=guessed").replacen("state=", "state=x", 1);
    assert!(!location(&mine.browser.get(guessed).await).unwrap_or_default().contains("/here"));
    let sent = world.liar.asked("/token");
    assert!(!sent.iter().any(|form| form.contains("code=theirs") || form.contains("code=guessed")));
}

#[tokio::test]
async fn an_answer_of_another_provider_is_a_mix_up() {
    let world = world();
    let begun = begin(world.edge, &world.liar).await;
    let answer = begun.browser.get(begun.back(world.edge, "https://evil.example", "code=mixed-up")).await;
    assert_eq!(answer.status(), 400);
    assert!(!world.liar.asked("/token").iter().any(|form| form.contains("code=mixed-up")), "RFC 9207");
}

#[tokio::test]
async fn a_foreign_page_logs_nobody_out() {
    for site in ["cross-site", "same-site"] {
        let lines = format!("{}Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: no-cors\r\n", world().cookie());
        assert_eq!(status("GET /auth/logout", &lines).await, 403, "{site}");
        assert_eq!(status("GET /auth/logout?everywhere=true", &lines).await, 403, "{site}");
        assert_eq!(status("POST /auth/logout", &format!("{lines}Content-Length: 0\r\n")).await, 403, "{site}");
    }
    let form = format!("{}Origin: https://evil.example\r\nContent-Length: 0\r\n", world().cookie());
    assert_eq!(status("POST /auth/logout", &form).await, 403);
    assert_eq!(status("GET /auth/session", &world().cookie()).await, 200);
}

#[tokio::test]
async fn cve_2024_26135_a_foreign_page_opens_a_websocket() {
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    for origin in ["https://evil.example", "null", &format!("{}.evil.example", world().edge.origin)] {
        let lines = format!("{}{handshake}Origin: {origin}\r\n", world().cookie());
        assert_eq!(status("GET /pass/socket", &lines).await, 403, "{origin}");
    }
    assert!(!world().arrived("/pass/socket"));
}

#[tokio::test]
async fn an_opaque_or_doubled_origin_changes_nothing() {
    for origin in
        ["Origin: null\r\n", "Origin: \r\n", "Origin: https://app.example.com\r\nOrigin: https://evil.example\r\n"]
    {
        let lines = format!("{}{origin}Content-Length: 0\r\n", world().cookie());
        assert_eq!(status("POST /pass/opaque", &lines).await, 403, "{origin}");
    }
    assert!(!world().arrived("/pass/opaque"));
}

#[tokio::test]
async fn any_origin_may_read_with_credentials() {
    let own = world().edge.origin.clone();
    let evil = [
        "https://evil.example",
        "null",
        "https://app.example.com.evil.example",
        "https://evilapp.example.com",
        "http://app.example.com",
        "https://app.example.com:444",
        "HTTPS://APP.EXAMPLE.COM",
        "https://app.example.com/",
        &format!("{own}.evil.example"),
    ];
    for origin in evil {
        for path in ["/pass/x", "/auth/session", "/nowhere"] {
            let answer = ask(&format!("GET {path}"), &format!("{}Origin: {origin}\r\n", world().cookie())).await;
            assert_eq!(answer.head.one("access-control-allow-origin"), None, "{origin} {path}");
            assert_eq!(answer.head.one("access-control-allow-credentials"), None, "{origin} {path}");
        }
    }
    let listed = ask("GET /pass/x", &format!("{}Origin: {APP}\r\n", world().cookie())).await;
    assert_eq!(listed.head.one("access-control-allow-origin").as_deref(), Some(APP));
    assert!(listed.head.all("vary").iter().any(|names| names.to_ascii_lowercase().contains("origin")));
}

#[tokio::test]
async fn our_pages_cannot_be_framed_and_run_no_script() {
    let answer = ask("GET /auth/callback?state=x&error=%3Cscript%3E", "").await;
    let answer = if answer.status == 302 { ask("GET /auth/callback?code=a&code=b", "").await } else { answer };
    assert_eq!(answer.status, 400);
    let policy = answer.head.one("content-security-policy").unwrap();
    for held in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"] {
        assert!(policy.contains(held), "{policy}");
    }
    assert!(!policy.contains("script-src"), "{policy}");
    assert_eq!(answer.head.one("x-content-type-options").as_deref(), Some("nosniff"));
    assert_eq!(answer.head.one("referrer-policy").as_deref(), Some("no-referrer"));
    assert!(!answer.text.contains("<script"), "{}", answer.text);
}

#[tokio::test]
async fn what_is_echoed_splits_no_answer() {
    let evil = "%0d%0aSet-Cookie:%20planted=1";
    for target in
        [format!("/auth/login?return_to=/{evil}"), format!("/auth/logout?return_to=/{evil}"), format!("/pass/x?{evil}")]
    {
        let answer = ask(&format!("GET {target}"), "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n").await;
        assert!(!answer.head.all("set-cookie").iter().any(|line| line.starts_with("planted")), "{target}");
        assert_eq!(answer.head.one("planted"), None);
    }
    let answer = ask("GET /nowhere", "X-Correlation-ID: a\tb<script>\r\n").await;
    assert!(!String::from_utf8_lossy(&answer.head.bytes).contains("<script>") && !answer.text.contains("<script>"));
}

#[tokio::test]
async fn a_trace_shows_no_credentials() {
    let answer = ask("TRACE /pass/trace", &world().cookie()).await;
    assert_eq!(answer.status, 405);
    assert!(!answer.text.contains("at-ada") && !world().arrived("/pass/trace"));
}
