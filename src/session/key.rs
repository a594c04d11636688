//! The name of a session in the store.

use std::fmt;

use crate::crypto::sha256;

/// SHA-256 of the cookie's random id, in hex where a store wants text. Not a secret: it opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey(pub [u8; 32]);

impl SessionKey {
    /// The key of the session whose cookie carries `id`.
    #[must_use]
    pub fn of_id(id: &[u8]) -> Self {
        Self(sha256(id))
    }

    /// All 64 hex digits, lower case.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Twelve hex digits: enough to follow a session through a log, too few to look one up.
    #[must_use]
    pub fn short(&self) -> String {
        let head = self.0.iter().take(6).fold(0_u64, |head, byte| (head << 8) | u64::from(*byte));
        format!("{head:012x}")
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_hash_of_the_id() {
        // `printf abc | sha256sum`
        let key = SessionKey::of_id(b"abc");
        assert_eq!(key.short(), "ba7816bf8f01");
        assert_eq!(format!("{key:?}"), "ba7816bf");
        assert_eq!(SessionKey([0; 32]).short(), "000000000000");
    }
}
