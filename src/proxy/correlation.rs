//! The name of one request in everybody's logs: the client's own where it is sane, else a random one.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::headers::{CORRELATION_ID, Digits};

/// `X-Correlation-ID`: 1–128 of `[A-Za-z0-9._-]`. A header value from the start, since that is what it becomes
/// twice; empty before the request is admitted.
#[derive(Debug, Clone)]
pub(super) struct CorrelationId(HeaderValue);

impl CorrelationId {
    /// The client's, or a fresh one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        sane(headers).map_or_else(Self::fresh, |value| Self(value.clone()))
    }

    /// Random enough to find one line among billions.
    pub(super) fn fresh() -> Self {
        let digits: Digits<32> = Digits::of(fastrand::u128(..).to_be_bytes());
        // One allocation for the text and those who share it.
        Self(HeaderValue::from_maybe_shared(Bytes::from_owner(digits)).unwrap_or(Self::default().0))
    }

    /// The same of a head that is no request: whoever sent it looks for the id that it gave.
    pub(super) fn written_in(head: &[u8]) -> Option<Self> {
        let value = head.split(|byte| *byte == b'\n').find_map(|line| {
            let (name, value) = line.split_at_checked("x-correlation-id:".len())?;
            name.eq_ignore_ascii_case(b"x-correlation-id:").then(|| value.trim_ascii())
        })?;
        if is_sane(value) { HeaderValue::from_bytes(value).ok().map(Self) } else { None }
    }

    /// For a header.
    pub(super) fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl Default for CorrelationId {
    fn default() -> Self {
        Self(HeaderValue::from_static(""))
    }
}

impl Deref for CorrelationId {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// One worth keeping, given once.
pub(super) fn sane(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut given = headers.get_all(&CORRELATION_ID).iter();
    let id = given.next().filter(|id| is_sane(id.as_bytes()))?;
    given.next().is_none().then_some(id)
}

fn is_sane(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_ours_has_32_digits_and_they_differ() {
        let (one, other) = (CorrelationId::fresh(), CorrelationId::fresh());
        assert!(one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
        assert_ne!(*one, *other);
    }

    #[test]
    fn correlation_ids_are_kept_only_when_sane() {
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-correlation-id", HeaderValue::from_str(value).unwrap());
            }
            sane(&headers).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(with(&["Ab-1._x"]), Some("Ab-1._x".into()));
        assert_eq!(with(&["a b"]), None);
        assert_eq!(with(&["a", "b"]), None);
        assert_eq!(with(&[&"x".repeat(129)]), None);
        assert_eq!(with(&[""]), None);
    }
}
