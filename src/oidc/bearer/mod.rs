//! Callers who bring an access token of their own instead of a cookie: whether their provider stands
//! behind it, and whether it is meant for us (RFC 6750, RFC 9068, RFC 7662).

mod access_token;
mod entry;
mod introspection;
mod remembered;
mod validator;

use std::fmt;

use thiserror::Error;

use crate::resilience::UnixTime;

pub use validator::BearerValidator;

/// Who calls, as a validated access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `issuer` of the entry of `idps.yaml` that vouches for the token.
    pub issuer: String,
    /// `sub`; of an introspected token without one, its `client_id`.
    pub subject: String,
    /// The ARN alias of that entry.
    pub provider: String,
    /// The entry's `audience`, which the token was issued for.
    pub audience: String,
    /// `exp`; an introspected token may not say.
    pub expires_at: Option<UnixTime>,
}

/// Why a token makes nobody a caller. The reasons are for the log and hold no piece of the token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BearerError {
    /// The token is not good here: RFC 6750 §3.1 `invalid_token`.
    #[error("the access token is not valid: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// Its provider could not be asked: nothing is known against the token.
    #[error("the access token could not be checked: {reason}")]
    CannotAsk {
        /// What the provider did, or did not.
        reason: String,
    },
}

impl BearerError {
    fn invalid(reason: impl fmt::Display) -> Self {
        Self::Invalid { reason: format!("{reason}") }
    }

    fn cannot_ask(reason: impl fmt::Display) -> Self {
        Self::CannotAsk { reason: format!("{reason}") }
    }

    /// The value of the `status` label of `bff_token_validation_total`.
    fn label(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::CannotAsk { .. } => "not_checked",
        }
    }
}
