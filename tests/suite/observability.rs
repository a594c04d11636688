//! What the program tells about itself: metrics, the access line, and what it never tells.

use serde_json::Value;

use crate::harness::{AUDIENCES, Browser, Setup, Upstream, field, http_client};

/// Names and labels that dashboards are built on, with the label set of each.
const METRICS: [(&str, &[&str]); 28] = [
    ("http_requests_total", &["method", "endpoint", "status"]),
    ("http_request_duration_seconds", &["endpoint"]),
    ("http_requests_in_flight", &[]),
    ("bff_client_connections", &[]),
    ("bff_active_sessions_total", &[]),
    ("bff_sessions_created_total", &[]),
    ("bff_sessions_destroyed_total", &["reason"]),
    ("bff_session_lookups_total", &["tier", "result"]),
    ("bff_verify_duration_seconds", &["status"]),
    ("bff_token_lookups_total", &["service", "result"]),
    ("bff_token_refresh_total", &["service", "status"]),
    ("bff_token_exchange_total", &["grant_type", "status"]),
    ("bff_token_validation_total", &["token_type", "status"]),
    ("bff_idp_requests_total", &["endpoint", "status"]),
    ("bff_idp_latency_seconds", &["endpoint"]),
    ("bff_csrf_violations_total", &["reason"]),
    ("service_requests_total", &["service"]),
    ("service_errors_total", &["service", "error_type"]),
    ("service_latency_seconds", &["service"]),
    ("circuit_breaker_status", &["service"]),
    ("circuit_breaks_total", &["service"]),
    ("cache_hits_total", &[]),
    ("cache_misses_total", &[]),
    ("cache_entries", &[]),
    ("cache_bytes", &[]),
    ("bff_redis_operations_total", &["operation", "status"]),
    ("bff_redis_latency_seconds", &["operation"]),
    ("bff_build_info", &["version"]),
];

/// Metrics of parts that a single-machine edge without a façade does not have: absent until used.
const ABSENT_UNTIL_USED: [&str; 5] = [
    "circuit_breaker_status",
    "circuit_breaks_total",
    "bff_redis_operations_total",
    "bff_redis_latency_seconds",
    "service_errors_total",
];

/// What an access line holds, under the names that the log documents.
const ACCESS_FIELDS: [&str; 11] = [
    "correlation_id",
    "method",
    "route",
    "service",
    "status",
    "upstream_status",
    "bytes_in",
    "bytes_out",
    "duration_ms",
    "upstream_ms",
    "session",
];

#[tokio::test]
async fn every_promised_metric_is_told_on_the_admin_port_only() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).service(
        "crud",
        &upstream.url(),
        Some(AUDIENCES[2]),
    );
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "zebedee").await;
    for path in ["/api/crud/secret-path?secret=query", "/auth/verify", "/auth/session"] {
        assert_eq!(browser.get(edge.url(path)).await.status(), 200, "{path}");
    }
    browser.client.post(edge.url("/api/own/x")).header("sec-fetch-site", "cross-site").send().await.unwrap();
    browser.post(edge.url("/auth/logout")).await;
    let page = http_client().get(edge.admin_url("/metrics")).send().await.unwrap();
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    let page = page.text().await.unwrap();
    for (name, labels) in METRICS {
        let samples: Vec<_> = page.lines().filter(|line| is_sample_of(line, name)).collect();
        assert!(!samples.is_empty() || ABSENT_UNTIL_USED.contains(&name), "{name} is missing:\n{page}");
        let head = |word: &str| page.matches(&format!("# {word} {name} ")).count();
        assert_eq!((head("HELP"), head("TYPE")), (1, 1), "{name} is named, used or not:\n{page}");
        for sample in samples {
            for label in labels {
                assert!(sample.contains(&format!("{label}=\"")), "{label} of {sample}");
            }
        }
    }
    for never in ["secret-path", "secret=query", "zebedee"] {
        assert!(!page.contains(never), "{never} in a metric");
    }
    assert!(page.contains("endpoint=\"api-crud\""), "the route's id, not its path");
}

fn is_sample_of(line: &str, name: &str) -> bool {
    let rest = line.strip_prefix(name).unwrap_or("x");
    ["{", " ", "_bucket", "_sum", "_count"].iter().any(|next| rest.starts_with(next))
}

#[tokio::test]
async fn counters_count_what_happened() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    for _ in 0..3 {
        browser.get(edge.url("/api/own/x")).await;
    }
    assert_eq!(browser.get(edge.url("/nowhere")).await.status(), 404);
    let to_route = "http_requests_total{endpoint=\"api-own\",method=\"GET\",status=\"200\"}";
    eventually!("three requests to the route are counted", edge.metric(to_route).await == 3);
    assert_eq!(edge.metric("bff_sessions_created_total").await, 1);
    assert_eq!(edge.metric("service_requests_total{service=\"own_service\"}").await, 3);
}

#[tokio::test]
async fn each_request_is_one_access_line_without_secrets() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let request = browser.client.post(edge.url("/api/own/x?password=hunter2")).header("x-correlation-id", "find-me");
    assert_eq!(request.body("hello").send().await.unwrap().status(), 200);
    eventually!("the line is written", edge.log.has(&["find-me", "duration_ms"]));
    let lines = edge.log.entries(&["find-me", "duration_ms"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    for key in ACCESS_FIELDS {
        assert!(field(line, key).is_some_and(|value| !value.is_null()), "{key} is missing: {line}");
    }
    let text = |key: &str| field(line, key).unwrap().as_str().unwrap_or("").to_owned();
    assert_eq!(
        (text("method").as_str(), text("route").as_str(), text("service").as_str()),
        ("POST", "api-own", "own_service")
    );
    assert_eq!(field(line, "status"), Some(&Value::from(200)));
    assert_eq!(field(line, "upstream_status"), Some(&Value::from(200)));
    assert!(line["timestamp"].is_string() || line["time"].is_string(), "{line}");

    let cookie = browser.cookie(&edge.origin, "bff_session").unwrap();
    browser.post(edge.url("/auth/logout")).await;
    let log = edge.log.text();
    let token = upstream.last().bearer();
    let signature = token.rsplit('.').next().unwrap();
    for secret in [
        cookie.as_str(),
        "hunter2",
        "password=",
        signature,
        "code=",
        "code_verifier",
        "state=",
        "MDEyMzQ1Njc4OWFiY2RlZjAx",
    ] {
        assert!(!log.contains(secret), "{secret} in the log");
    }
}

#[tokio::test]
async fn the_log_is_json_from_the_first_line_to_the_last() {
    let upstream = Upstream::start().await;
    let mut edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    browser.get(edge.url("/api/own/x")).await;
    edge.sigterm();
    edge.exit_status(std::time::Duration::from_secs(10)).await.expect("it ends");
    let log = edge.log.text();
    for line in log.lines().filter(|line| !line.is_empty()) {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "not JSON: {line}");
    }
}
