//! One request, described: what a service received, header by header, and what its token says.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::Service;

const PREVIEW: usize = 256;

/// The request as JSON: `service`, `answer`, `method`, `path`, `query`, `headers`, `body`, `token`.
pub async fn describe(service: &Service, request: Request) -> Value {
    let (parts, body) = request.into_parts();
    let (bytes, preview) = read(body).await;
    json!({
        "service": service.name,
        "answer": service.count(),
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "headers": headers(&parts.headers),
        "body": { "bytes": bytes, "preview": String::from_utf8_lossy(&preview) },
        "token": token(service, &parts.headers),
    })
}

/// Reads a body to its end without keeping it: its size, and its first bytes.
pub async fn read(body: Body) -> (u64, Vec<u8>) {
    let mut stream = body.into_data_stream();
    let (mut size, mut preview) = (0_u64, Vec::new());
    // A client that breaks off simply ends the count.
    while let Some(Ok(chunk)) = stream.next().await {
        size = size.saturating_add(chunk.len() as u64);
        let room = PREVIEW.saturating_sub(preview.len());
        preview.extend(chunk.iter().take(room));
    }
    (size, preview)
}

/// Names and values in order, repeated ones repeated.
fn headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |name: &header::HeaderName, value: &header::HeaderValue| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        // The whole point is that no token reaches the page: not even through an echo.
        if name == header::AUTHORIZATION { shorten(&value) } else { value }
    };
    headers.iter().map(|(name, value)| (name.to_string(), text(name, value))).collect()
}

fn shorten(credentials: &str) -> String {
    let start: String = credentials.chars().take(18).collect();
    format!("{start}… ({} characters, shortened by the service)", credentials.chars().count())
}

/// The bearer token taken apart; `null` when there is none.
fn token(service: &Service, headers: &HeaderMap) -> Value {
    let Some(token) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
    else {
        return Value::Null;
    };
    let mut halves = token.split('.').map(part);
    let (header, claims) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let audience = claims.get("aud").cloned().unwrap_or_default();
    json!({
        "header": header,
        "claims": claims,
        "signature_is_good": service.keys.open(token).is_some(),
        "expected_audience": service.audience,
        "audience_fits": contains(&audience, &service.audience),
    })
}

fn part(encoded: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(encoded).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// `aud` is a string or a list of strings (RFC 7519 §4.1.3).
fn contains(audience: &Value, wanted: &str) -> bool {
    match audience {
        Value::String(one) => one == wanted,
        Value::Array(many) => many.iter().any(|one| one == wanted),
        _ => false,
    }
}
