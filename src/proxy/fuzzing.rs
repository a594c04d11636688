//! What clients and proxies in front say of a request, for `tests/fuzz`.
#![allow(clippy::missing_panics_doc, reason = "a panic is a finding")]

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::correlation::sane;
use super::forwarded::told;
use super::trace::{TRACEPARENT, traceparent};

/// Header lines; the first byte of each says which header it is.
pub fn forwarded(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(16) {
        let Some((kind, value)) = line.split_first() else { continue };
        let name = match kind % 5 {
            0 => FORWARDED,
            1 => HeaderName::from_static("x-forwarded-for"),
            2 => HeaderName::from_static("x-forwarded-proto"),
            3 => HeaderName::from_static("x-forwarded-host"),
            _ => HeaderName::from_static("x-correlation-id"),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let said = told(&headers);
    for text in [said.chain, said.proto, said.host].into_iter().flatten() {
        assert!(HeaderValue::try_from(text.as_str()).is_ok(), "it can be told on: {text:?}");
    }
    if let Some(id) = sane(&headers) {
        assert!(id.len() <= 128 && id.to_str().is_ok());
    }
    let lines = headers.get_all(FORWARDED).iter().map(|line| (TRACEPARENT.clone(), line.clone()));
    let next = traceparent(Some(&lines.collect()));
    assert_eq!(next.map(|(value, _new)| value.len()), Some(55));
}
