//! The public HTTP cache tests (npm `http-cache-tests`, cache-tests.fyi) through the façade, with a gate
//! on what was reached. The edition on npm is older than RFC 9111; what it wants differently is listed in
//! `tests/cache/run.mjs`, and judged by the RFC.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{AUDIENCES, Browser, Setup, free_port};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cache");

/// No freshness is invented but from `Last-Modified`: the tests need a cache that uses nothing it was not told to. The
/// circuit stays closed, because the tests break connections on purpose.
const CONFIG: &str = "response_cache: { enabled: true, default_ttl: 1ms, max_size: 100000 }\n\
                      circuit_breaker: { threshold: 1000000, reset_time: 1 }\n";

/// Required tests that fail, with the reason.
const KNOWN: [&str; 1] = [
    // The engine writes `Date` anew on every answer; `Age` is right.
    "other-date-update",
];

struct Origin(Child);

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn origin(port: u16) -> Origin {
    let child = Command::new("node")
        .args(["node_modules/http-cache-tests/server/server.mjs"])
        .current_dir(FOLDER)
        .env("npm_config_protocol", "http")
        .env("npm_config_port", port.to_string())
        .env("npm_config_pidfile", "/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Origin(child.expect("node is needed"))
}

#[tokio::test]
async fn the_public_cache_tests_stay_where_they_are() {
    let port = free_port();
    let _origin = origin(port);
    eventually!("the tests' origin listens", tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    let url = format!("http://127.0.0.1:{port}");
    let text = format!("legacy_services: {{ ct: \"{url}\" }}\nlegacy_service_timeouts: {{ ct: 5 }}\n{CONFIG}");
    let edge = Setup::new().service("own", &url, Some(AUDIENCES[0])).legacy(&text).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let output = tokio::process::Command::new("node")
        .arg("run.mjs")
        .current_dir(FOLDER)
        .env("BASE", edge.url("/api/v1/proxy/ct"))
        .env("COOKIE", browser.cookie_header(&edge.origin))
        .env("NODE_NO_WARNINGS", "1")
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if std::env::var_os("ONLY").is_some() {
        return println!("{text}");
    }
    let last = text.lines().last().unwrap_or_default();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let summary: Value = serde_json::from_str(last)
        .unwrap_or_else(|_| panic!("no summary (was `npm ci` run in {FOLDER}?): {text}\n{complaint}"));
    println!("{summary:#}");
    let count = |kind: &str, what: &str| summary[kind][what].as_u64().unwrap();
    let required = |(_, reason): &(&String, &Value)| reason.as_str().is_some_and(|text| text.starts_with("required"));
    let failed = summary["failed"].as_object().unwrap().iter().filter(required);
    let unknown: Vec<_> = failed.filter(|(id, _)| !KNOWN.iter().any(|known| id.starts_with(known))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(count("required", "pass") >= 152, "required passed");
    assert!(count("optimal", "pass") >= 73, "optimal passed");
}
