//! One line a request, formatted once and handed to the writer thread. Never a query, a cookie, a
//! token or a path: the route says what was asked.
//!
//! JSON is written by hand into one buffer a thread: `serde_json` cost a request a twentieth of its instructions.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::Duration;

use super::line_writer::LineWriter;
use crate::resilience::{SystemClock, Timestamp};

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What is told of one request. Absent fields are left out.
#[derive(Debug)]
pub struct AccessLine<'a> {
    /// When the answer was over.
    pub timestamp: Timestamp,
    /// `X-Correlation-ID`, one with nothing to escape.
    pub correlation_id: &'a str,
    /// HTTP method.
    pub method: &'static str,
    /// Route id, or the name of our own endpoint.
    pub route: &'a str,
    /// `target_service`.
    pub service: Option<&'a str>,
    /// What the client got; 499 when it left first.
    pub status: u16,
    /// What the service said.
    pub upstream_status: Option<u16>,
    /// What the connection to the service failed of, and at which address; also where a stored answer covers it, or
    /// where it went well the second time.
    pub upstream_error: Option<&'a str>,
    /// Our `code` when we refused.
    pub code: Option<&'static str>,
    /// Body bytes received from the client.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    /// The whole request.
    pub duration: Duration,
    /// Until the service's response header.
    pub upstream: Option<Duration>,
    /// Short hash of the session, in letters and digits; opens nothing.
    pub session: Option<&'a str>,
    /// Whether a bearer for the service was found; absent where none is wanted.
    pub token_found: Option<bool>,
}

impl<'a> AccessLine<'a> {
    /// That of which nothing else is known.
    #[must_use]
    pub fn new(correlation_id: &'a str, method: &'static str, route: &'a str, status: u16) -> Self {
        Self {
            timestamp: SystemClock::timestamp(),
            correlation_id,
            method,
            route,
            service: None,
            status,
            upstream_status: None,
            upstream_error: None,
            code: None,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            upstream: None,
            session: None,
            token_found: None,
        }
    }
}

/// Where access lines go. Clones write to the same place.
#[derive(Debug, Clone)]
pub struct AccessLog {
    sink: Option<LineWriter>,
    json: bool,
}

impl AccessLog {
    /// Lines through `writer`.
    #[must_use]
    pub fn to(writer: LineWriter, json: bool) -> Self {
        Self { sink: Some(writer), json }
    }

    /// No lines at all: for an embedder that logs by itself.
    #[must_use]
    pub fn off() -> Self {
        Self { sink: None, json: true }
    }

    /// Whether anybody reads lines: formatting one can be spared otherwise.
    #[must_use]
    pub fn wanted(&self) -> bool {
        self.sink.is_some()
    }

    /// Hands one line to the writer thread. When its queue is full the line is dropped, not the request.
    pub fn write(&self, line: &AccessLine<'_>) {
        let Some(sink) = &self.sink else { return };
        LINE.with_borrow_mut(|text| {
            text.clear();
            if self.json {
                write_json(text, line);
            } else {
                let _ = writeln!(text, "{}", Pretty(line));
            }
            sink.append(text.as_bytes());
        });
    }
}

/// Of level `INFO` and with the message `request`, so that lines of both kinds read alike.
fn write_json(text: &mut String, line: &AccessLine<'_>) {
    text.push_str("{\"timestamp\":\"");
    text.push_str(line.timestamp.as_str());
    text.push_str("\",\"level\":\"INFO\",\"message\":\"request\",\"correlation_id\":");
    push_plain(text, line.correlation_id);
    text.push_str(",\"method\":");
    push_plain(text, line.method);
    text.push_str(",\"route\":");
    push_text(text, line.route);
    if let Some(service) = line.service {
        text.push_str(",\"service\":");
        push_text(text, service);
    }
    text.push_str(",\"status\":");
    push_number(text, line.status.into());
    if let Some(status) = line.upstream_status {
        text.push_str(",\"upstream_status\":");
        push_number(text, status.into());
    }
    if let Some(cause) = line.upstream_error {
        text.push_str(",\"upstream_error\":");
        push_text(text, cause);
    }
    if let Some(code) = line.code {
        text.push_str(",\"code\":");
        push_text(text, code);
    }
    text.push_str(",\"bytes_in\":");
    push_number(text, line.bytes_in);
    text.push_str(",\"bytes_out\":");
    push_number(text, line.bytes_out);
    text.push_str(",\"duration_ms\":");
    push_millis(text, line.duration);
    if let Some(upstream) = line.upstream {
        text.push_str(",\"upstream_ms\":");
        push_millis(text, upstream);
    }
    if let Some(session) = line.session {
        text.push_str(",\"session\":");
        push_plain(text, session);
    }
    if let Some(found) = line.token_found {
        text.push_str(if found { ",\"token_found\":true" } else { ",\"token_found\":false" });
    }
    text.push_str("}\n");
}

/// A string (RFC 8259 §7). Hardly any has something to escape.
fn push_text(text: &mut String, value: &str) {
    let plain = value.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if plain { push_plain(text, value) } else { text.push_str(&serde_json::Value::from(value).to_string()) }
}

/// A string in which there is nothing to escape.
fn push_plain(text: &mut String, value: &str) {
    text.push('"');
    text.push_str(value);
    text.push('"');
}

fn push_number(text: &mut String, number: u64) {
    text.push_str(itoa::Buffer::new().format(number));
}

/// Milliseconds to the microsecond, as a number with a point: `0.0`, `1.5`, `12.034`.
fn push_millis(text: &mut String, span: Duration) {
    push_number(text, u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    text.push('.');
    let micros = span.subsec_micros() % 1000;
    let mut unit = 100;
    loop {
        text.push(char::from_digit(micros / unit % 10, 10).unwrap_or('0'));
        if micros.is_multiple_of(unit) {
            return;
        }
        unit /= 10;
    }
}

struct Pretty<'a>(&'a AccessLine<'a>);

impl std::fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = self.0;
        write!(f, "{}  {} {:>6} {}", line.timestamp.as_str(), line.status, line.method, line.route)?;
        if let Some(service) = line.service {
            write!(f, " → {service}")?;
        }
        if let Some(status) = line.upstream_status {
            write!(f, " {status}")?;
        }
        write!(f, " {:.1}ms", line.duration.as_secs_f64() * 1000.0)?;
        if let Some(code) = line.code {
            write!(f, " code={code}")?;
        }
        if let Some(found) = line.token_found {
            write!(f, " token_found={found}")?;
        }
        if let Some(cause) = line.upstream_error {
            write!(f, " upstream_error={cause:?}")?;
        }
        write!(f, " correlation_id={}", line.correlation_id)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ROUTE: &str = "a \"route\"\\\n\u{7f}é";

    fn line() -> AccessLine<'static> {
        AccessLine {
            service: Some("orders"),
            upstream_status: Some(503),
            upstream_error: Some("127.0.0.1:9: Connection refused (os error 111)"),
            code: Some("UPSTREAM_ERROR"),
            bytes_in: 0,
            bytes_out: u64::MAX,
            duration: Duration::from_micros(12_034),
            upstream: Some(Duration::from_micros(1_500)),
            session: Some("abc"),
            token_found: Some(false),
            ..AccessLine::new("c-1", "GET", ROUTE, 200)
        }
    }

    #[test]
    fn a_line_reads_back_as_what_was_told() {
        let mut text = String::new();
        let told = line();
        write_json(&mut text, &told);
        assert!(text.ends_with("}\n"));
        let expected = json!({
            "timestamp": told.timestamp.as_str(), "level": "INFO", "message": "request", "correlation_id": "c-1",
            "method": "GET", "route": "a \"route\"\\\n\u{7f}é", "service": "orders", "status": 200,
            "upstream_status": 503,
            "upstream_error": "127.0.0.1:9: Connection refused (os error 111)", "code": "UPSTREAM_ERROR", "bytes_in": 0, "bytes_out": u64::MAX,
            "duration_ms": 12.034, "upstream_ms": 1.5, "session": "abc", "token_found": false,
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }

    #[test]
    fn what_is_absent_is_left_out() {
        let mut text = String::new();
        write_json(&mut text, &AccessLine::new("c-1", "GET", ROUTE, 200));
        let read: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(read.len(), 10);
    }

    #[test]
    fn milliseconds_are_written_as_short_as_they_are() {
        for (micros, written) in [
            (0, "0.0"),
            (1, "0.001"),
            (10, "0.01"),
            (100, "0.1"),
            (999, "0.999"),
            (1_000, "1.0"),
            (1_010, "1.01"),
            (60_000_000, "60000.0"),
        ] {
            let mut text = String::new();
            push_millis(&mut text, Duration::from_micros(micros));
            assert_eq!(text, written);
        }
    }
}
