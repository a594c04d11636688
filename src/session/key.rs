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

    /// The key written as [`Self::hex`].
    #[must_use]
    pub fn of_hex(hex: &[u8]) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut key = [0; 32];
        if hex.len() != 64 {
            return None;
        }
        for (to, pair) in key.iter_mut().zip(hex.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *to = digit(*high)? * 16 + digit(*low)?;
        }
        Some(Self(key))
    }

    /// Twelve hex digits: enough to follow a session through a log, too few to look one up.
    #[must_use]
    pub fn short(&self) -> String {
        hex(self.0.first_chunk::<6>().unwrap_or(&[0; 6]))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Lower case. By hand: each line of the access log may have one, and a formatter costs several times as much.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    text.extend(halves.filter_map(|half| char::from_digit(half.into(), 16)));
    text
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
        assert_eq!((SessionKey::of_hex(key.hex().as_bytes()), SessionKey::of_hex(b"zz")), (Some(key), None));
    }
}
