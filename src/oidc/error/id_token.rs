//! Who logged in, and why we do not believe it.

use thiserror::Error;

use super::IdpError;

/// Why an ID token is not believed (OpenID Connect Core §3.1.3.7).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdTokenError {
    /// The token response has none.
    #[error("there is no id_token")]
    Absent,
    /// Not a signed JWT of JSON objects.
    #[error("the id_token cannot be read ({0})")]
    Malformed(&'static str),
    /// `alg` is not on the list of `idps.yaml`.
    #[error("the id_token is signed with {0}, which algorithms in idps.yaml does not allow")]
    Algorithm(String),
    /// No key of the provider fits.
    #[error("the id_token is signed with a key the provider does not publish")]
    UnknownKey,
    /// The named key did not make this signature.
    #[error("the signature of the id_token is wrong")]
    Signature,
    /// A claim that must be there is not, or has the wrong type.
    #[error("the id_token has no usable claim {0}")]
    Claim(&'static str),
    /// `iss` is another.
    #[error("the id_token is of another issuer: {0}")]
    Issuer(String),
    /// `aud` lacks our client id.
    #[error("the id_token is for somebody else: aud {0}")]
    Audience(String),
    /// `aud` has audiences beside our client id that nobody trusts.
    #[error(
        "the id_token is for {0}, too, which nobody here trusts: what is yours belongs into `trusted_audiences` of the entry in \
         idps.yaml"
    )]
    Strangers(String),
    /// `azp` is not us.
    #[error("the id_token was issued to another client (azp)")]
    AuthorizedParty,
    /// `exp` has passed.
    #[error("the id_token has expired; are the clocks in step?")]
    Expired,
    /// `iat` or `nbf` lies ahead.
    #[error("the id_token is from the future; are the clocks in step?")]
    NotYet,
    /// Not the nonce of this login.
    #[error("the nonce of the id_token is not the one of this login")]
    Nonce,
    /// The access token beside it is another one.
    #[error("at_hash does not fit the access token")]
    AccessTokenHash,
    /// It could not be checked.
    #[error("the id_token could not be checked: {0}")]
    NotChecked(#[from] IdpError),
}

impl IdTokenError {
    /// Whether nothing is wrong with the token as far as we know.
    pub fn is_provider_down(&self) -> bool {
        matches!(self, Self::NotChecked(_))
    }
}
