//! One line a request, formatted once and handed to the writer thread. Never a query, a cookie, a
//! token or a path: the route says what was asked.

use std::io::Write;

use serde::Serialize;

use super::line_writer::LineWriter;

/// What is told of one request. Absent fields are left out.
#[derive(Debug, Serialize)]
pub struct AccessLine<'a> {
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// Always `INFO`, so that lines of both kinds read alike.
    pub level: &'static str,
    /// Always `request`.
    pub message: &'static str,
    /// `X-Correlation-ID`.
    pub correlation_id: &'a str,
    /// HTTP method.
    pub method: &'a str,
    /// Route id, or the name of our own endpoint.
    pub route: &'a str,
    /// `target_service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<&'a str>,
    /// What the client got; 0 when it left first.
    pub status: u16,
    /// What the service said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    /// Our `code` when we refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Body bytes received from the client.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    /// Milliseconds, whole request.
    pub duration_ms: f64,
    /// Milliseconds until the service's response header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<f64>,
    /// Short hash of the session; opens nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<&'a str>,
    /// Whether a bearer for the service was found; absent where none is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_found: Option<bool>,
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
        let mut text = Vec::with_capacity(512);
        if self.json {
            if serde_json::to_writer(&mut text, line).is_err() {
                return;
            }
            text.push(b'\n');
        } else {
            let _ = writeln!(text, "{}", Pretty(line));
        }
        let _ = sink.clone().write_all(&text);
    }
}

struct Pretty<'a>(&'a AccessLine<'a>);

impl std::fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = self.0;
        write!(f, "{}  {} {:>6} {}", line.timestamp, line.status, line.method, line.route)?;
        if let Some(service) = line.service {
            write!(f, " → {service}")?;
        }
        if let Some(status) = line.upstream_status {
            write!(f, " {status}")?;
        }
        write!(f, " {:.1}ms", line.duration_ms)?;
        if let Some(code) = line.code {
            write!(f, " code={code}")?;
        }
        if let Some(found) = line.token_found {
            write!(f, " token_found={found}")?;
        }
        write!(f, " correlation_id={}", line.correlation_id)
    }
}
