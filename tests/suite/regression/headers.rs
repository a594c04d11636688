//! Headers that say who somebody is, or where somebody comes from.

use super::{ADA, Answer, ask, status, world};

/// Sends the lines with ada's session; what the service received.
async fn with_session(lines: &str) -> Answer {
    let answer = ask("GET /pass/headers", &format!("{}{lines}", world().cookie())).await;
    assert_eq!(answer.status, 200, "{lines}: {}", answer.text);
    answer
}

fn assert_ours(answer: &Answer, what: &str) {
    assert!(!answer.text.contains("spoofed"), "{what}: {}", answer.text);
    assert_eq!(answer.received("x-original-user"), [ADA], "{what}");
    assert_eq!(answer.received("authorization"), ["Bearer at-ada"], "{what}");
}

#[tokio::test]
async fn cve_2025_64484_underscores_in_identity_headers() {
    for name in
        ["X_Original_User", "X_Forwarded_User", "X_User_ID", "x_user", "X-Original_User", "X_Auth_Time", "X_Session_ID"]
    {
        assert_ours(&with_session(&format!("{name}: spoofed\r\n")).await, name);
        let open = ask("GET /open/x", &format!("{name}: spoofed\r\n")).await;
        assert!(!open.text.contains("spoofed"), "{name}: {}", open.text);
    }
}

#[tokio::test]
async fn cve_2026_39858_aliases_of_forwarded_headers() {
    for name in [
        "X_Forwarded_Proto",
        "X_Forwarded_Host",
        "X_Forwarded_For",
        "X-Forwarded_Method",
        "x_real_ip",
        "X.Forwarded.For",
    ] {
        assert_ours(&with_session(&format!("{name}: spoofed\r\n")).await, name);
        assert_eq!(status("GET /auth/verify", &format!("{name}: spoofed\r\n")).await, 401, "{name}");
    }
}

#[tokio::test]
async fn ghsa_6384_m2mw_rf54_x_forwarded_prefix() {
    for name in
        ["X-Forwarded-Prefix", "X-Forwarded-Path", "X-Forwarded-Server", "X-Forwarded-Port", "X-Forwarded-Anything"]
    {
        assert_ours(&with_session(&format!("{name}: /spoofed\r\n")).await, name);
    }
}

#[tokio::test]
async fn cve_2026_30851_client_headers_survive_where_the_check_sets_none() {
    let lines = "X-Original-User: spoofed\r\nX-User-Roles: spoofed\r\nX-User-ID: spoofed\r\nX-Session-ID: spoofed\r\n";
    let answer = ask("GET /open/x", lines).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text.contains("spoofed"), "{}", answer.text);
    assert_ours(&with_session(lines).await, "with a session");
}

#[tokio::test]
async fn cve_2026_52845_two_spellings_of_one_cgi_variable() {
    let lines = "X-Original-User: spoofed\r\nX_Original_User: spoofed\r\nX.Original.User: spoofed\r\nx-original_USER: spoofed\r\n";
    assert_ours(&with_session(lines).await, "all at once");
}

#[tokio::test]
async fn cve_2020_14359_lower_case_headers_pass() {
    for name in ["authorization", "AUTHORIZATION", "x-original-user", "X-ORIGINAL-USER"] {
        assert_ours(&with_session(&format!("{name}: spoofed\r\n")).await, name);
    }
}

#[tokio::test]
async fn cve_2025_48865_connection_takes_our_headers_away() {
    for named in [
        "X-Original-User",
        "Authorization",
        "X-Correlation-ID",
        "x-original-user, authorization",
        "close, X-Original-User",
    ] {
        let answer = ask("GET /pass/x", &format!("{}Connection: {named}\r\n", world().cookie())).await;
        assert!(matches!(answer.status, 200 | 400), "{named}: {}", answer.status);
        if answer.status == 200 {
            assert_ours(&answer, named);
            assert_eq!(answer.received("x-correlation-id").len(), 1, "{named}");
        }
    }
}

#[tokio::test]
async fn cve_2024_45410_connection_takes_forwarded_headers_away() {
    let lines = "Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto\r\nX-Forwarded-For: spoofed\r\n";
    let answer = ask("GET /pass/x", &format!("{}{lines}", world().cookie())).await;
    // The engine takes it for an attack, and rightly.
    assert_eq!(answer.status, 400);
    let answer = with_session("Connection: X-Forwarded-Hostess\r\nX-Forwarded-For: spoofed\r\n").await;
    assert_ours(&answer, "nominated");
    assert_eq!(answer.received("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(answer.received("x-forwarded-proto"), ["http"]);
}

#[tokio::test]
async fn cve_2026_105299_nominated_headers_are_still_removed() {
    let lines = "Connection: X-Secret-Hop, Authorization\r\nX-Secret-Hop: 1\r\nKeep-Alive: 1\r\nProxy-Authorization: spoofed\r\nTE: gzip\r\n";
    let answer = with_session(lines).await;
    assert_ours(&answer, "the engine's own advisory");
    for hop in ["x-secret-hop", "keep-alive", "proxy-authorization", "te"] {
        assert_eq!(answer.received(hop), Vec::<String>::new(), "{hop}");
    }
}

#[tokio::test]
async fn cve_2023_36456_anybody_names_the_clients_address() {
    let answer = with_session("X-Forwarded-For: 203.0.113.7\r\nForwarded: for=203.0.113.7;host=spoofed\r\n").await;
    assert_eq!(answer.received("x-forwarded-for"), ["127.0.0.1"], "nobody is trusted here");
    assert_eq!(answer.received("forwarded"), Vec::<String>::new());
}

#[tokio::test]
async fn cve_2022_24112_x_real_ip_opens_what_is_for_localhost() {
    for name in ["X-Real-IP", "X-REAL-IP", "x_real_ip"] {
        let answer = with_session(&format!("{name}: 127.0.0.1\r\n")).await;
        assert_eq!(answer.received(name), Vec::<String>::new(), "{name}");
        assert_eq!(
            status("GET /metrics", &format!("{name}: 127.0.0.1\r\n")).await,
            404,
            "the admin port is another one"
        );
    }
}

#[tokio::test]
async fn ghsa_vhr5_ggp3_qq85_x_forwarded_proto_is_believed() {
    let answer = with_session("X-Forwarded-Proto: https\r\nX-Forwarded-Host: spoofed\r\n").await;
    assert_eq!(answer.received("x-forwarded-proto"), ["http"]);
    let login = ask("GET /auth/login", "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n").await;
    assert!(!login.head.one("set-cookie").unwrap().contains("Secure"), "what the cookie is like is configuration");
}

#[tokio::test]
async fn cve_2016_5385_a_proxy_header_becomes_http_proxy() {
    assert_eq!(with_session("Proxy: http://evil.example\r\n").await.received("proxy"), Vec::<String>::new());
}

#[tokio::test]
async fn cve_2018_14773_x_original_url_is_served_instead() {
    for name in ["X-Original-URL", "X-Rewrite-URL", "X_Original_URL"] {
        assert_ours(&with_session(&format!("{name}: /spoofed\r\n")).await, name);
    }
}

#[tokio::test]
async fn cve_2021_32777_only_the_last_of_two_lines_is_checked() {
    let lines = "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n";
    assert_eq!(status("GET /robots/twice", lines).await, 400);
    assert!(!world().arrived("/robots/twice"));
    let answer = with_session(
        "X-Original-User: spoofed\r\nX-Original-User: spoofed\r\nAuthorization: spoofed\r\nAuthorization: spoofed\r\n",
    );
    assert_ours(&answer.await, "every line of it");
}

#[tokio::test]
async fn cve_2026_39998_the_check_repeats_what_the_client_said() {
    let said = "X-User-ID: spoofed\r\nX-Session-ID: spoofed\r\nX-Auth-Time: spoofed\r\n";
    let answer = ask("GET /auth/verify", &format!("{}{said}", world().cookie())).await;
    assert_eq!((answer.status, answer.head.one("x-user-id").as_deref()), (200, Some("ada")));
    assert!(!String::from_utf8_lossy(&answer.head.bytes).contains("spoofed"));
    let nobody = ask("GET /auth/verify", said).await;
    assert_eq!((nobody.status, nobody.head.one("x-user-id")), (401, None));
}

#[tokio::test]
async fn a_poisoned_host_changes_no_redirect_uri() {
    let edge = world().edge;
    let poisons = [
        "Host: evil.example\r\n".to_owned(),
        format!("Host: localhost:{}\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n", edge.port),
        format!("Host: localhost:{}\r\nX-Host: evil.example\r\nX-Forwarded-Server: evil.example\r\n", edge.port),
    ];
    for lines in poisons {
        let (head, _) = crate::harness::raw(edge.address(), format!("GET /auth/login HTTP/1.1\r\n{lines}\r\n")).await;
        let location = head.one("location").unwrap_or_default();
        assert!(!location.contains("evil.example"), "{lines}: {location}");
        assert!(
            head.status() == 400 || location.contains("redirect_uri=http%3A%2F%2Flocalhost%3A"),
            "{lines}: {location}"
        );
    }
}
