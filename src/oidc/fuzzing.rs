//! Tokens, key sets and answers of a provider for `tests/fuzz`.
#![allow(clippy::missing_panics_doc, reason = "a panic is a finding")]

use std::sync::LazyLock;

use jsonwebtoken::Algorithm;

use super::callback::CallbackParams;
use super::grant::Ask;
use super::jwks::{VerifyingKey, algorithm, read_keys};
use super::jwt::{self, Compact};
use super::token_response;
use crate::resilience::UnixTime;

/// The Ed25519 key of RFC 8037, appendix A.2, and the P-256 key of RFC 7515, appendix A.3.
const KEYS: &[u8] = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

/// A compact token: taken apart, peeked into, checked against keys.
pub fn token(data: &[u8]) {
    static HELD: LazyLock<Vec<VerifyingKey>> = LazyLock::new(|| read_keys(KEYS).unwrap_or_default());
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = jwt::is_meant(text);
    let _ = jwt::peek(text);
    let Ok(compact) = Compact::parse(text) else { return };
    assert!(jwt::is_meant(text), "what can be taken apart was meant");
    assert_eq!(format!("{}.{}", compact.message, compact.signature), text);
    let symmetric = [Some(Algorithm::HS256), Some(Algorithm::HS384), Some(Algorithm::HS512)];
    assert!(!symmetric.contains(&algorithm(&compact.header.alg)));
    for claim in ["iss", "sub", "aud", "nonce"] {
        let _ = (compact.claims.text(claim), compact.claims.time(claim));
    }
    let _ = (compact.claims.audience(), compact.claims.scopes());
    if let Some(algorithm) = algorithm(&compact.header.alg) {
        let _ = HELD.iter().any(|key| key.verifies(compact.message.as_bytes(), compact.signature, algorithm));
    }
}

/// A key set.
pub fn keys(data: &[u8]) {
    for key in read_keys(data).unwrap_or_default() {
        assert!(!key.fits(Algorithm::HS256));
        assert!(!key.verifies(b"message", "AAAA", Algorithm::ES256), "nobody signed this");
    }
}

/// A token response, and a callback's query.
pub fn answer(data: &[u8]) {
    if let Ok(tokens) = token_response::read(data, &Ask::default(), UnixTime(1_700_000_000)) {
        assert!(tokens.access_token.expose().bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let _ = token_response::refresh_token_of(data);
    if let Ok(query) = std::str::from_utf8(data) {
        let _ = CallbackParams::parse(query);
    }
}
