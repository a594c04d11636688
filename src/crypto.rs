//! Hashing, drawing and reading of keys, said once: SHA-256 and random bytes, and either as a text.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandom;

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// SHA-256 as 43 characters of base64url: one length and no separators, whatever was hashed.
pub(crate) fn hashed(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(text.as_bytes()))
}

/// Random bytes.
pub(crate) fn draw<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_unspecified| NoRandom)?;
    Ok(bytes)
}

/// 256 random bits as 43 characters of base64url.
pub(crate) fn draw_text() -> Result<String, NoRandom> {
    draw::<32>().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}

/// A key of 32 bytes, in whichever base64 `openssl rand -base64 32` and its kin write. The error: of how many
/// bytes it is instead, if it is base64.
pub(crate) fn read_key(text: &str) -> Result<Zeroizing<[u8; 32]>, Option<usize>> {
    let text = text.trim();
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let letters = if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    let bytes = GeneralPurpose::new(letters, config).decode(text).map(Zeroizing::new).map_err(|_| None)?;
    bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| Some(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_as_text_is_the_challenge_of_rfc_7636_appendix_b() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(hashed(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn draws_differ() {
        let (one, other) = (draw_text().unwrap(), draw_text().unwrap());
        assert!(one != other && one.len() == 43, "{one} {other}");
    }
}
