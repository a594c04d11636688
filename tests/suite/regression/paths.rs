//! What was authorised was not what was forwarded.

use super::{ask, status, world};

/// Each is refused, and nothing with this mark arrives anywhere.
async fn assert_refused(mark: &str, targets: &[&str], wanted: u16) {
    for target in targets {
        let found = status(&format!("GET {target}"), "").await;
        assert_eq!(found, wanted, "{target:?}");
    }
    assert!(!world().arrived(mark));
}

#[tokio::test]
async fn cve_2025_54576_skip_auth_regex_on_query() {
    assert_refused("q54576", &["/pass/q54576?/open/x", "/pass/q54576?a=/open/", "/pass/q54576?/../open/x"], 401).await;
}

#[tokio::test]
async fn cve_2026_41059_a_fragment_widens_the_open_route() {
    assert_refused("q41059", &["/pass/q41059#/open/x", "/open/q41059#/pass", "/open/q41059/%23#"], 400).await;
}

#[tokio::test]
async fn cve_2021_32779_a_fragment_hides_the_rest() {
    assert_refused("q32779", &["/pass/q32779#", "/pass/q32779#?x", "/open/x?q32779#/pass"], 400).await;
}

#[tokio::test]
async fn cve_2026_40575_x_forwarded_uri_decides() {
    for name in
        ["X-Forwarded-Uri", "X-Forwarded-URI", "X-Original-URI", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path"]
    {
        assert_eq!(status("GET /pass/q40575", &format!("{name}: /open/x\r\n")).await, 401, "{name}");
        assert_eq!(status("GET /auth/verify", &format!("{name}: /open/x\r\n")).await, 401, "{name}");
    }
    assert!(!world().arrived("q40575"));
}

#[tokio::test]
async fn ghsa_p224_6x5r_fjpm_a_traversal_matches_the_open_rule() {
    assert_refused(
        "qp224",
        &["/open/../pass/qp224", "/open/./../pass/qp224", "/open/../../qp224", "/open/qp224/.."],
        400,
    )
    .await;
}

#[tokio::test]
async fn cve_2026_42274_encoded_dot_segments() {
    let encoded =
        ["/open/%2e%2e/pass/q42274", "/open/%2E%2e%2Fpass/q42274", "/open/.%2e/q42274", "/open/%252e%252e/q42274"];
    assert_refused("q42274", &encoded, 400).await;
}

#[tokio::test]
async fn cve_2021_29492_escaped_slashes() {
    assert_refused("q29492", &["/open%2fq29492", "/open/..%2Fq29492", "/open/..%5cq29492", "/open\\q29492"], 400).await;
}

#[tokio::test]
async fn cve_2019_9901_paths_that_were_not_normalised() {
    assert_refused("q9901", &["//pass/q9901", "/open//../pass/q9901", "/./pass/q9901", "/pass/.//q9901"], 400).await;
}

#[tokio::test]
async fn ghsa_6jwx_7vp4_9847_the_decoded_and_the_raw_path_differ() {
    let answer = ask("GET /open/%61%2Db%5F~?q=%61", "").await;
    assert_eq!((answer.status, answer.body["target"].as_str()), (200, Some("/open/a-b_~?q=%61")), "one spelling");
    let answer = ask("GET /open/%C3%A9%20x", "").await;
    assert_eq!(answer.body["target"].as_str(), Some("/open/%C3%A9%20x"), "forwarded as it was matched");
    assert_refused("q9847", &["/%6fpen/%2e%2e/q9847", "/open/q9847%", "/open/q9847%g0", "/open/%c0%ae/q9847"], 400)
        .await;
}

#[tokio::test]
async fn cve_2025_32431_dot_dot_after_a_matched_prefix() {
    assert_refused("q32431", &["/open/x/../../pass/q32431", "/open/x/../../../q32431"], 400).await;
}

#[tokio::test]
async fn cve_2020_5902_a_semicolon_hides_a_dot_segment() {
    assert_refused(
        "q5902",
        &["/open/..;/pass/q5902", "/open/..;a=b/q5902", "/open/%2e%2e;/q5902", "/open/;/q5902"],
        400,
    )
    .await;
}

#[tokio::test]
async fn cve_2021_43557_the_raw_request_line_is_matched() {
    assert_refused("q43557", &["/open/.//pass/q43557", "/open/x//q43557", "/open/%2f/q43557"], 400).await;
    let absolute = format!("GET http://localhost:{}/open/../pass/q43557", world().edge.port);
    assert_eq!(status(&absolute, "").await, 400);
}

#[tokio::test]
async fn cve_2025_29927_an_internal_header_skips_the_check() {
    for name in ["X-Middleware-Subrequest", "X-Internal", "X-Pingora-Bff", "X-Authenticated", "X-Auth-Request-User"] {
        assert_eq!(status("GET /pass/q29927", &format!("{name}: middleware:middleware\r\n")).await, 401, "{name}");
    }
    assert!(!world().arrived("q29927"));
}

#[tokio::test]
async fn cve_2021_32637_a_malformed_address_passes_the_check() {
    for value in ["%zz", "http://%", "\\", "://", "https://a b/", "/\u{e9}"] {
        let lines = format!("X-Original-URL: {value}\r\nX-Forwarded-Uri: {value}\r\nX-Forwarded-Host: {value}\r\n");
        assert_eq!(status("GET /auth/verify", &lines).await, 401, "{value}");
    }
}

#[tokio::test]
async fn cve_2026_48794_capitals_in_the_host() {
    let edge = world().edge;
    for host in ["LOCALHOST", "localhost.", "Open.Localhost"] {
        let request = format!("GET /pass/q48794 HTTP/1.1\r\nHost: {host}:{}\r\n\r\n", edge.port);
        let (head, _) = crate::harness::raw(edge.address(), request).await;
        assert!(matches!(head.status(), 400 | 401), "{host}: {}", head.status());
    }
    assert!(!world().arrived("q48794"));
}

#[tokio::test]
async fn method_override_headers_decide_nothing() {
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Forwarded-Method"] {
        let lines = format!("{name}: GET\r\nContent-Length: 0\r\n");
        assert_eq!(status("POST /reads/override", &lines).await, 405, "{name}");
        let cookie = world().cookie();
        let lines = format!("{cookie}{name}: GET\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 0\r\n");
        assert_eq!(status("POST /pass/override", &lines).await, 403, "{name}");
    }
    assert!(!world().arrived("/override"));
}

#[tokio::test]
async fn a_host_of_the_clients_choice_is_not_called() {
    // The advisory of another proxy: the address to dial could be chosen by the request (CVE-2021-40438).
    for target in ["http://169.254.169.254/latest", "unix:/run/docker.sock|http://x/", "@169.254.169.254/"] {
        let found = status(&format!("GET {target}"), "").await;
        assert!(matches!(found, 400 | 404), "{target}: {found}");
    }
}
