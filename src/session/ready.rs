//! A header value that is made once, when it is first sent, and then shared by all requests.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

/// A value derived from what stands beside it, which never changes. A clone begins anew. `Debug` hides it.
#[derive(Default)]
pub struct Ready(OnceLock<Option<HeaderValue>>);

impl Ready {
    /// The value, made by `make` at the first call; `None` if it cannot be one.
    pub(super) fn get(&self, make: impl FnOnce() -> Option<HeaderValue>) -> Option<HeaderValue> {
        self.0.get_or_init(make).clone()
    }
}

impl Clone for Ready {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ready")
    }
}

/// `Bearer` and the token (RFC 6750 §2.1). Overwritten when the last copy is gone, as the token itself is.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    let text = Zeroizing::new(["Bearer ", token].concat().into_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_becomes_a_header_once_and_one_that_cannot_does_not() {
        let ready = Ready::default();
        let value = ready.get(|| bearer("abc")).unwrap();
        assert_eq!((value.as_bytes(), value.is_sensitive()), (&b"Bearer abc"[..], true));
        assert_eq!(ready.get(|| unreachable!("it is made once")), Some(value));
        assert_eq!(Ready::default().get(|| bearer("a\nb")), None);
        assert_eq!(format!("{ready:?}"), "Ready");
    }
}
