//! What the provider publishes about itself.

use thiserror::Error;

use super::FetchError;

/// The provider's own description (discovery, keys) cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdpError {
    /// The discovery document cannot be fetched or read.
    #[error("discovery of {issuer}: the provider {cause}")]
    Discovery {
        /// As written in `idps.yaml`.
        issuer: String,
        /// What went wrong.
        cause: FetchError,
    },
    /// The document belongs to somebody else (OpenID Connect Discovery §4.3).
    #[error("the discovery document of {wanted} names the issuer {found}; both must be equal to the letter")]
    WrongIssuer {
        /// As written in `idps.yaml`.
        wanted: String,
        /// As found in the document.
        found: String,
    },
    /// An endpoint that is neither https nor on loopback.
    #[error("discovery names the {endpoint} {url}, which is not https")]
    Insecure {
        /// The key of the document.
        endpoint: &'static str,
        /// Its value.
        url: String,
    },
    /// Neither the document nor `idps.yaml` names it.
    #[error("neither discovery nor idps.yaml names the {0}")]
    NoEndpoint(&'static str),
    /// The authorization endpoint cannot be asked.
    #[error("the authorization endpoint: the provider {0}")]
    Authorization(FetchError),
    /// The key set cannot be fetched or read.
    #[error("signing keys: the provider {0}")]
    Keys(FetchError),
    /// The operating system gave no random bytes.
    #[error("no random bytes to be had")]
    NoRandom,
    /// The task that asked is gone (shutdown).
    #[error("the request was interrupted in this process")]
    Interrupted,
}

impl IdpError {
    /// It answers, and is not what `issuer` says: time mends nothing.
    pub fn is_about_issuer(&self) -> bool {
        match self {
            Self::WrongIssuer { .. } => true,
            Self::Discovery { cause, .. } => {
                matches!(cause, FetchError::Malformed(_) | FetchError::Status(300..=407 | 409..=428 | 430..=499))
            }
            _ => false,
        }
    }
}
