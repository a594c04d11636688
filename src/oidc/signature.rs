//! Whether a JWT was signed by the provider: its `alg` must be allowed, its key published, the
//! signature right (RFC 8725 §3.1, §3.2). For every kind of token of this provider.

use jsonwebtoken::Algorithm;

use super::error::{IdTokenError, quote};
use super::jwks::{Jwks, VerifyingKey, algorithm};
use super::jwt::Compact;

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
/// none of those in hand fits.
pub(super) async fn verify(token: &Compact<'_>, allowed: &[String], jwks: &Jwks) -> Result<Algorithm, IdTokenError> {
    let name = &token.header.alg;
    let found = algorithm(name).filter(|_| allowed.iter().any(|one| one == name));
    let Some(algorithm) = found else { return Err(IdTokenError::Algorithm(quote(name))) };
    let mut verdict = judge(token, algorithm, &jwks.get().await?);
    if verdict == Verdict::Unknown
        && let Some(newer) = jwks.refetch().await?
    {
        verdict = judge(token, algorithm, &newer);
    }
    match verdict {
        Verdict::Valid => Ok(algorithm),
        Verdict::Wrong => Err(IdTokenError::Signature),
        Verdict::Unknown => Err(IdTokenError::UnknownKey),
    }
}

/// With a `kid` the keys of that name decide; without one, or when no key has that name, those that
/// could have been meant are tried.
fn judge(token: &Compact<'_>, algorithm: Algorithm, keys: &[VerifyingKey]) -> Verdict {
    let made_by = |key: &VerifyingKey| key.verifies(token.message, token.signature, algorithm);
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
