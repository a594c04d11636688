//! One run of the load generator against one target.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What `wrk` saw.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub requests: f64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Keeps `connections` busy for `seconds` with `requests`, one after the other.
pub fn drive(dir: &Path, port: u16, requests: &[String], connections: usize, seconds: u64) -> Seen {
    let script = dir.join("load.lua");
    let mut text = String::from("local r = {}\n");
    for (number, request) in requests.iter().enumerate() {
        writeln!(text, "r[{}] = {:?}", number + 1, request).unwrap();
    }
    text += "local i, n = 0, #r\nrequest = function() i = i % n + 1; return r[i] end\n";
    fs::write(&script, text).unwrap();
    let (connections, seconds) = (format!("-c{connections}"), format!("-d{seconds}s"));
    let script = script.display().to_string();
    let url = format!("http://127.0.0.1:{port}/");
    let words = ["-t1", &connections, &seconds, "--latency", "-s", &script, &url];
    let output = Command::new("wrk").args(words).output().expect("wrk is needed (apt-get install wrk)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "not every answer was 200:\n{text}");
    read(&text).unwrap_or_else(|| panic!("wrk said: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn read(text: &str) -> Option<Seen> {
    let after = |label: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(label))?;
        line.trim_start().strip_prefix(label)?.split_whitespace().next()
    };
    let requests = text.lines().find(|line| line.contains(" requests in "))?.split_whitespace().next()?;
    Some(Seen {
        requests: requests.parse().ok()?,
        per_second: after("Requests/sec:")?.parse().ok()?,
        p50_ms: millis(after("50%")?)?,
        p99_ms: millis(after("99%")?)?,
    })
}

fn millis(text: &str) -> Option<f64> {
    let (number, factor) = match text {
        _ if text.ends_with("us") => (text.trim_end_matches("us"), 0.001),
        _ if text.ends_with("ms") => (text.trim_end_matches("ms"), 1.0),
        _ => (text.trim_end_matches('s'), 1000.0),
    };
    Some(number.parse::<f64>().ok()? * factor)
}
