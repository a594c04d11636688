//! What the session cookie carries: a random id that names the session, and a random key without
//! which its record cannot be opened.

use std::fmt;
use std::hash::{Hash, Hasher};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::key::SessionKey;
use crate::crypto::{NoRandom, draw};

const ID: usize = 16;
const KEY: usize = 32;
/// A multiple of three bytes, so that base64url has no spare bits: one token, one spelling.
const TEXT: usize = (ID + KEY) / 3 * 4;

/// 128 random bits of id and 256 random bits of key: the whole of what a browser holds.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CookieToken {
    id: [u8; ID],
    key: [u8; KEY],
}

impl CookieToken {
    /// A token nobody has seen.
    pub fn generate() -> Result<Self, NoRandom> {
        Ok(Self { id: draw()?, key: draw()? })
    }

    /// Reads a cookie's value: exactly 64 characters of base64url (RFC 4648 §5), nothing else.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() != TEXT {
            return None;
        }
        let mut bytes = [0; ID + KEY];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        let (id, key) = bytes.split_at_checked(ID)?;
        let token = (length == bytes.len()).then_some(Self { id: id.try_into().ok()?, key: key.try_into().ok()? });
        bytes.zeroize();
        token
    }

    /// The cookie's value. A secret: it is the login.
    #[must_use]
    pub fn expose(&self) -> String {
        let mut bytes = [0; ID + KEY];
        let (id, key) = bytes.split_at_mut(ID);
        id.copy_from_slice(&self.id);
        key.copy_from_slice(&self.key);
        let text = URL_SAFE_NO_PAD.encode(bytes);
        bytes.zeroize();
        text
    }

    /// Where the store keeps this session.
    #[must_use]
    pub fn session_key(&self) -> SessionKey {
        SessionKey::of_id(&self.id)
    }

    /// The half that opens the record.
    pub(super) fn sealing_key(&self) -> &[u8; KEY] {
        &self.key
    }
}

/// The whole secret, in constant time: knowing an id is not half a login.
impl PartialEq for CookieToken {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && verify_slices_are_equal(&self.key, &other.key).is_ok()
    }
}

impl Eq for CookieToken {}

impl Hash for CookieToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.id);
    }
}

impl fmt::Debug for CookieToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieToken([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_survives_its_spelling_and_no_other_spelling_is_taken() {
        let token = CookieToken::generate().unwrap();
        let text = token.expose();
        assert_eq!(text.len(), TEXT);
        assert_eq!(CookieToken::parse(text.as_bytes()), Some(token.clone()));
        assert_ne!(token, CookieToken::generate().unwrap());
        let tail = |from: usize| text.chars().skip(from).collect::<String>();
        for wrong in [
            format!("{text}="),
            format!("\"{text}\""),
            format!(" {text}"),
            tail(1),
            format!("{}+", tail(1)),
            format!("{}/", tail(1)),
            format!("{}=", tail(1)),
            format!("{}\u{e9}", tail(2)),
            String::new(),
        ] {
            assert_eq!(CookieToken::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_same_id_with_another_key_is_another_token() {
        let token = CookieToken::generate().unwrap();
        let mut thief = token.clone();
        thief.key[31] ^= 1;
        assert_ne!(token, thief);
        assert_eq!(token.session_key(), thief.session_key());
        assert!(!format!("{token:?}").contains(&token.expose()));
    }

    proptest! {
        #[test]
        fn what_parses_is_spelled_the_same(value in proptest::collection::vec(any::<u8>(), 60..68)) {
            if let Some(token) = CookieToken::parse(&value) {
                prop_assert_eq!(token.expose().into_bytes(), value);
            }
        }

        #[test]
        fn every_text_of_the_alphabet_parses(value in "[A-Za-z0-9_-]{64}") {
            prop_assert_eq!(CookieToken::parse(value.as_bytes()).map(|token| token.expose()), Some(value));
        }
    }
}
