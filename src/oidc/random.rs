//! Unguessable texts, and comparing them without telling how far they agree.

use aws_lc_rs::constant_time;

use super::error::IdpError;
use crate::config::Secret;
use crate::crypto::{NoRandom, draw_text, hashed};

/// 256 random bits as 43 characters of base64url: fit for `state`, `nonce` and a PKCE verifier
/// (RFC 7636 §4.1 asks for at least 43).
pub(super) fn draw() -> Result<Secret, IdpError> {
    draw_text().map(Secret::new).map_err(|NoRandom| IdpError::NoRandom)
}

/// PKCE S256 (RFC 7636 §4.2).
pub(super) fn challenge(verifier: &Secret) -> String {
    hashed(verifier.expose())
}

/// Equality in a time that depends on the lengths only.
pub(super) fn same(one: &str, other: &str) -> bool {
    constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_equal_to_the_letter_is_not_the_same() {
        assert!(same("a", "a") && !same("a", "b") && !same("a", "ab"));
    }
}
