//! The provider's signing keys (RFC 7517): bad ones are skipped, the last good set is kept, and an
//! unknown key asks once for a new set, not once per token.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519};
use aws_lc_rs::signature::{ParsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::Mutex;
use serde::Deserialize;

use super::discovery::Discovery;
use super::error::{FetchError, IdpError, quote};
use super::http::{Endpoint, HttpClient};
use super::kept::Kept;
use crate::resilience::{Clock, SingleFlight, UnixTime};

/// Who brought a token. What anybody may bring must not use up the questions that the provider's own tokens need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Bringer {
    /// The token endpoint, over TLS and at our request.
    Provider,
    /// Whoever calls back-channel logout, and claims to be the provider.
    Herald,
    /// A caller with an access token.
    Caller,
}

impl Bringer {
    /// Tokens signed with unknown keys cause at most one request per this span.
    fn miss_interval(self) -> Duration {
        match self {
            Self::Provider => Duration::from_secs(1),
            Self::Herald | Self::Caller => Duration::from_secs(10),
        }
    }
}

/// No provider has more; each may have to be tried on a token without `kid`.
const MAX_KEYS: usize = 64;

/// What a key can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// One public key.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    pub(super) kid: Option<String>,
    /// RFC 7517 §4.4: where a key names its algorithm, it is for that one only.
    algorithm: Option<Algorithm>,
    key_type: KeyType,
    key: DecodingKey,
}

impl VerifyingKey {
    /// The key type must be the algorithm's, whatever the token says (RFC 8725 §3.1).
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        let wanted = match algorithm {
            Algorithm::ES256 => KeyType::P256,
            Algorithm::ES384 => KeyType::P384,
            Algorithm::EdDSA => KeyType::Ed25519,
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => return false,
            _ => KeyType::Rsa,
        };
        self.key_type == wanted && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Whether this key made `signature` over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &str, algorithm: Algorithm) -> bool {
        self.fits(algorithm) && jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm).unwrap_or(false)
    }
}

/// The signature algorithm of a JOSE name. None for `none` and `HS*`: a provider's signature that
/// we could have made ourselves proves nothing.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "Ed25519" => Some(Algorithm::EdDSA), // RFC 9864 §2.2
        _ => name.parse().ok().filter(|found| !is_symmetric(*found)),
    }
}

/// `HS*`.
pub(super) fn is_symmetric(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

/// One published set.
type Keys = Arc<Vec<VerifyingKey>>;

/// The provider's keys, kept. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Jwks {
    kept: Kept<Vec<VerifyingKey>>,
    misses: SingleFlight<Bringer, Result<Option<Keys>, IdpError>>,
    clock: Arc<dyn Clock>,
    missed_at: Arc<Mutex<HashMap<Bringer, UnixTime>>>,
}

impl Jwks {
    pub(super) fn new(idp: &str, discovery: Discovery, http: HttpClient, clock: Arc<dyn Clock>) -> Self {
        let kept = Kept::new(
            idp,
            "jwks",
            Arc::clone(&clock),
            None,
            |_keys| None,
            move || {
                let (discovery, http) = (discovery.clone(), http.clone());
                Box::pin(async move {
                    let metadata = discovery.get().await?;
                    let url = metadata.jwks.as_ref().ok_or(IdpError::NoEndpoint("jwks_uri"))?;
                    let body = http.get(Endpoint::Jwks, url).await.map_err(IdpError::Keys)?;
                    read_keys(&body).map_err(IdpError::Keys)
                })
            },
        );
        Self { kept, misses: SingleFlight::default(), clock, missed_at: Arc::default() }
    }

    /// The keys in hand, fetched when there are none.
    pub(super) async fn get(&self) -> Result<Keys, IdpError> {
        self.kept.get().await
    }

    /// Whether there are keys in hand.
    pub(super) fn is_held(&self) -> bool {
        self.kept.peek().is_some()
    }

    /// A newer set than `seen` because a key was not in that; `None` when this was asked a moment ago
    /// and the answer still stands. Whoever comes while it is being asked waits for the answer: a
    /// token of a brand-new key must not be refused for being the second one.
    pub(super) async fn refetch(&self, seen: &Keys, bringer: Bringer) -> Result<Option<Keys>, IdpError> {
        if let Some(newer) = self.kept.peek().filter(|held| !Arc::ptr_eq(held, seen)) {
            return Ok(Some(newer));
        }
        let asker = self.clone();
        let answer = self.misses.run(bringer, || async move { asker.ask_again(bringer).await }).await;
        answer.unwrap_or(Err(IdpError::Interrupted))
    }

    async fn ask_again(&self, bringer: Bringer) -> Result<Option<Keys>, IdpError> {
        if self.take_turn(bringer) {
            return self.kept.fetch().await.map(Some);
        }
        self.kept.failure().map_or(Ok(None), Err)
    }

    fn take_turn(&self, bringer: Bringer) -> bool {
        let now = self.clock.now();
        let mut missed_at = self.missed_at.lock();
        let waiting = missed_at.get(&bringer).is_some_and(|at| *at <= now && at.until(now) < bringer.miss_interval());
        if !waiting {
            missed_at.insert(bringer, now);
        }
        !waiting
    }
}

#[derive(Deserialize)]
struct WrittenSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct WrittenKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// RFC 7517 §5: keys that are not understood are ignored.
pub(super) fn read_keys(body: &[u8]) -> Result<Vec<VerifyingKey>, FetchError> {
    let set: WrittenSet = serde_json::from_slice(body)
        .map_err(|error| FetchError::Malformed(quote(&format!("not a key set: {error}"))))?;
    let written = set.keys.len();
    let keys: Vec<_> = set.keys.into_iter().filter_map(read_key).take(MAX_KEYS).collect();
    if keys.len() < written {
        tracing::debug!(written, usable = keys.len(), "keys of the provider skipped");
    }
    if keys.is_empty() {
        return Err(FetchError::Malformed("the key set has no usable signing key".into()));
    }
    Ok(keys)
}

fn read_key(value: serde_json::Value) -> Option<VerifyingKey> {
    let written: WrittenKey = serde_json::from_value(value).ok()?;
    let for_signatures = written.usage.as_deref().is_none_or(|usage| usage == "sig")
        && written.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !for_signatures {
        return None;
    }
    let algorithm = match &written.alg {
        Some(name) => Some(algorithm(name)?),
        None => None,
    };
    let (key_type, key) = match (written.kty.as_str(), written.crv.as_deref()) {
        ("RSA", _) => (KeyType::Rsa, rsa(&number(&written.n?)?, &number(&written.e?)?)?),
        ("EC", Some("P-256")) => (KeyType::P256, on_curve(&written.x?, &written.y?, &ECDSA_P256_SHA256_FIXED)?),
        ("EC", Some("P-384")) => (KeyType::P384, on_curve(&written.x?, &written.y?, &ECDSA_P384_SHA384_FIXED)?),
        ("OKP", Some("Ed25519")) => {
            (KeyType::Ed25519, parsed(DecodingKey::from_ed_components(&written.x?).ok()?, &ED25519)?)
        }
        _ => return None,
    };
    Some(VerifyingKey { kid: written.kid, algorithm, key_type, key })
}

/// Without the zeros in front, which some providers write though RFC 7518 §2 does not: with them nothing verifies.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

/// RFC 7518 §3.3: a modulus has 2048 bits or more. Where a number is even, or the exponent 1 or too long for the library,
/// nothing verifies.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<DecodingKey> {
    let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let exact = odd(modulus) && odd(exponent) && exponent != [1] && exponent.len() <= 5;
    (exact && (2048..=8192).contains(&bits)).then(|| DecodingKey::from_rsa_raw_components(modulus, exponent))
}

fn on_curve(x: &str, y: &str, curve: &'static dyn VerificationAlgorithm) -> Option<DecodingKey> {
    parsed(DecodingKey::from_ec_components(x, y).ok()?, curve)
}

/// A key that the library takes: another point, or one of another length, verifies nothing.
fn parsed(key: DecodingKey, algorithm: &'static dyn VerificationAlgorithm) -> Option<DecodingKey> {
    ParsedPublicKey::new(algorithm, key.try_get_as_bytes().ok()?).ok().map(|_parsed| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn bad_keys_are_skipped_among_good_ones() {
        let body = format!(
            r#"{{"keys":[{GOOD},7,{{"kty":"oct","k":"AAAA"}},{{"kty":"RSA","n":"!","e":"AQAB"}},{{"kty":"EC","crv":"P-256"}},
            {{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}},{{"kty":"RSA","alg":"HS256","n":"AQAB","e":"AQAB"}}]}}"#
        );
        let keys = read_keys(body.as_bytes()).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(keys[0].fits(Algorithm::EdDSA) && !keys[0].fits(Algorithm::RS256));
    }

    #[test]
    fn many_bad_keys_in_front_hide_no_good_one() {
        let body = format!(r#"{{"keys":[{}{GOOD}]}}"#, r#"{"kty":"oct","k":"AAAA"},"#.repeat(MAX_KEYS));
        assert_eq!(read_keys(body.as_bytes()).unwrap().len(), 1);
        let body = format!(r#"{{"keys":[{}{GOOD}]}}"#, format!("{GOOD},").repeat(MAX_KEYS));
        assert_eq!(read_keys(body.as_bytes()).unwrap().len(), MAX_KEYS);
    }

    #[test]
    fn short_rsa_keys_are_skipped() {
        let modulus = |bits: usize| {
            let mut bytes = vec![0xFF; bits / 8];
            bytes[0] = 0x80;
            bytes
        };
        for (bits, strong) in [(512, false), (1024, false), (2040, false), (2048, true), (4096, true), (16384, false)] {
            assert_eq!(rsa(&modulus(bits), &[1, 0, 1]).is_some(), strong, "{bits}");
        }
        let padded = number(&URL_SAFE_NO_PAD.encode([&[0; 128][..], &[0xFF; 128][..]].concat())).unwrap();
        assert!(rsa(&padded, &[1, 0, 1]).is_none(), "zeros in front are no strength");
        assert!(rsa(&[], &[1, 0, 1]).is_none() && number("!").is_none());
    }

    /// A set of nothing else replaces no good one.
    #[test]
    fn keys_that_verify_nothing_are_skipped() {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let odd = text(&[0xFF; 256]);
        let even = text(&[&[0xFF; 255][..], &[0xFE]].concat());
        let rsa = |n: &str, e: &[u8]| format!(r#"{{"kty":"RSA","n":"{n}","e":"{}"}}"#, text(e));
        let point =
            |length: usize| format!(r#"{{"kty":"EC","crv":"P-256","x":"{0}","y":"{0}"}}"#, text(&vec![1; length]));
        let short = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, text(&[1; 31]));
        for (what, key) in [
            ("an even modulus", rsa(&even, &[1, 0, 1])),
            ("an exponent of 1", rsa(&odd, &[1])),
            ("an even exponent", rsa(&odd, &[1, 0, 0])),
            ("no exponent", rsa(&odd, &[])),
            ("an exponent of zeros", rsa(&odd, &[0, 0])),
            ("a long exponent", rsa(&odd, &[1; 256])),
            ("a point beside the curve", point(32)),
            ("a short point", point(31)),
            ("a short key", short),
        ] {
            assert!(read_keys(format!(r#"{{"keys":[{key}]}}"#).as_bytes()).is_err(), "{what}");
        }
        assert!(read_keys(format!(r#"{{"keys":[{}]}}"#, rsa(&odd, &[0, 1, 0, 1])).as_bytes()).is_ok());
    }

    #[test]
    fn a_set_without_a_usable_key_does_not_replace_one_with() {
        assert!(matches!(read_keys(br#"{"keys":[]}"#), Err(FetchError::Malformed(_))));
        assert!(matches!(read_keys(b"<html>"), Err(FetchError::Malformed(_))));
    }

    #[test]
    fn symmetric_and_absent_algorithms_do_not_exist_for_us() {
        for name in ["none", "None", "HS256", "HS384", "HS512", "", "rs256"] {
            assert_eq!(algorithm(name), None, "{name}");
        }
        assert_eq!(algorithm("Ed25519"), Some(Algorithm::EdDSA));
        assert_eq!(algorithm("PS256"), Some(Algorithm::PS256));
    }
}
