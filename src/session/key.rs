//! The name of a session in the store.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest::{SHA256, digest};

/// SHA-256 of the cookie's random id, in hex where a store wants text. Not a secret: it opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey(pub [u8; 32]);

impl SessionKey {
    /// The key of the session whose cookie carries `id`.
    #[must_use]
    pub fn of_id(id: &[u8]) -> Self {
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(digest(&SHA256, id).as_ref()) {
            *to = *from;
        }
        Self(key)
    }

    /// Twelve hex digits: enough to follow a session through a log, too few to look one up.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.iter().take(6).fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
