//! Whether a JWT was signed by the provider: its `alg` must be allowed, its key published, the
//! signature right (RFC 8725 §3.1, §3.2). For every kind of token of this provider.

use jsonwebtoken::Algorithm;
use thiserror::Error;

use super::error::{IdTokenError, IdpError, quote};
use super::jwks::{Bringer, Jwks, VerifyingKey, algorithm};
use super::jwt::Compact;

/// Why a signature proves nothing. Carries no piece of the token but the name of its algorithm.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum SignatureError {
    #[error("it is signed with an algorithm that its entry of idps.yaml does not allow")]
    Algorithm(String),
    #[error("it is signed with a key the provider does not publish")]
    UnknownKey,
    #[error("its signature is wrong")]
    Wrong,
    /// The keys cannot be had: nothing is known against the token.
    #[error(transparent)]
    NotChecked(#[from] IdpError),
}

impl From<SignatureError> for IdTokenError {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::Algorithm(name) => Self::Algorithm(name),
            SignatureError::UnknownKey => Self::UnknownKey,
            SignatureError::Wrong => Self::Signature,
            SignatureError::NotChecked(error) => Self::NotChecked(error),
        }
    }
}

/// What one set of keys says of one signature.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Valid,
    /// The key it names did not make it.
    Wrong,
    /// No key of the set made it; a newer set may know better.
    Unknown,
}

/// Checks the signature and returns the algorithm it was made with. Asks once for new keys when
/// none of those in hand fits, unless they came this moment.
pub(super) async fn verify(
    token: &Compact<'_>,
    allowed: &[Algorithm],
    jwks: &Jwks,
    bringer: Bringer,
) -> Result<Algorithm, SignatureError> {
    let name = &token.header.alg;
    let found = algorithm(name).filter(|found| allowed.contains(found));
    let Some(algorithm) = found else { return Err(SignatureError::Algorithm(quote(name))) };
    let in_hand = jwks.is_held();
    let keys = jwks.get().await?;
    let mut verdict = judge(token, algorithm, &keys);
    if verdict == Verdict::Unknown
        && in_hand
        && let Some(newer) = jwks.refetch(&keys, bringer).await?
    {
        verdict = judge(token, algorithm, &newer);
    }
    match verdict {
        Verdict::Valid => Ok(algorithm),
        Verdict::Wrong => Err(SignatureError::Wrong),
        Verdict::Unknown => Err(SignatureError::UnknownKey),
    }
}

/// With a `kid` the keys of that name decide; without one, or when no key has that name, those that
/// could have been meant are tried.
fn judge(token: &Compact<'_>, algorithm: Algorithm, keys: &[VerifyingKey]) -> Verdict {
    let made_by = |key: &VerifyingKey| key.verifies(token.message.as_bytes(), token.signature, algorithm);
    let fitting = || keys.iter().filter(|key| key.fits(algorithm));
    let Some(kid) = &token.header.kid else {
        return if fitting().any(made_by) { Verdict::Valid } else { Verdict::Unknown };
    };
    let named = || fitting().filter(|key| key.kid.as_ref() == Some(kid));
    if named().next().is_some() {
        return if named().any(made_by) { Verdict::Valid } else { Verdict::Wrong };
    }
    if fitting().filter(|key| key.kid.is_none()).any(made_by) { Verdict::Valid } else { Verdict::Unknown }
}
