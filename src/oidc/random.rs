//! Unguessable texts, and comparing them without telling how far they agree.

use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::IdpError;
use crate::config::Secret;

/// 256 random bits as 43 characters of base64url: fit for `state`, `nonce` and a PKCE verifier
/// (RFC 7636 §4.1 asks for at least 43).
pub(super) fn draw() -> Result<Secret, IdpError> {
    let mut bytes = [0_u8; 32];
    rand::fill(&mut bytes).map_err(|_unspecified| IdpError::NoRandom)?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// PKCE S256 (RFC 7636 §4.2).
pub(super) fn challenge(verifier: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.expose().as_bytes()))
}

/// Equality in a time that depends on the lengths only.
pub(super) fn same(one: &str, other: &str) -> bool {
    constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_the_one_of_rfc_7636_appendix_b() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn draws_differ_and_are_long_enough() {
        let (one, other) = (draw().unwrap(), draw().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 43);
        assert!(same(one.expose(), one.expose()) && !same(one.expose(), other.expose()) && !same("a", "ab"));
    }
}
