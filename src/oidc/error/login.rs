//! From the callback to a session.

use thiserror::Error;

use super::{GrantError, IdTokenError, IdpError, quote};

/// Why a callback did not become a login. No session follows from any of these.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginError {
    /// The provider's own answer, as it wrote it: whoever shows it must escape it.
    #[error("the provider refused the login: {}: {}", quote(.error), quote(.description.as_deref().unwrap_or_default()))]
    Denied {
        /// The OAuth error code, raw.
        error: String,
        /// `error_description`, raw.
        description: Option<String>,
    },
    /// The flow was begun with another `idps.yaml` entry, or another issuer in it.
    #[error("the login was begun with another provider")]
    WrongProvider,
    /// `state` is missing or not the flow's.
    #[error("state does not fit the login that was begun")]
    State,
    /// `iss` is missing though announced (RFC 9207 §2.4).
    #[error("the answer does not name its issuer, though the provider announces that it does")]
    IssuerMissing,
    /// `iss` is another (RFC 9207 §2.4).
    #[error("the answer is of another issuer: {}", quote(.0))]
    Issuer(String),
    /// Neither a code nor an error.
    #[error("the answer carries no code")]
    NoCode,
    /// The code could not be turned into tokens.
    #[error("the code could not be redeemed: {0}")]
    Token(#[from] GrantError),
    /// The ID token is not believed.
    #[error(transparent)]
    IdToken(#[from] IdTokenError),
    /// The provider's description cannot be had.
    #[error(transparent)]
    Idp(#[from] IdpError),
}

impl LoginError {
    /// The provider could not be asked: trying again later may help.
    pub fn is_provider_down(&self) -> bool {
        match self {
            Self::Token(error) => error.is_provider_down(),
            Self::IdToken(error) => error.is_provider_down(),
            Self::Idp(_) => true,
            _ => false,
        }
    }
}
