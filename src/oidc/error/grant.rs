//! The token endpoint: what it refused, and what it never said.

use thiserror::Error;

use super::{FetchError, IdpError, said};
use crate::config::Secret;

/// Why a token request brought no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GrantError {
    /// The code or refresh token is spent, revoked or expired (RFC 6749 §5.2).
    #[error("{}", said("invalid_grant", .description))]
    InvalidGrant {
        /// The provider's words; may be empty.
        description: String,
        /// Said of the service that was asked for: the grant goes on for others.
        of_service: bool,
    },
    /// Any other OAuth error: `invalid_target`, `invalid_scope`, `unauthorized_client`, `invalid_client` …
    #[error("{}", said(.error, .description))]
    Refused {
        /// The OAuth error code.
        error: String,
        /// The provider's words; may be empty.
        description: String,
        /// Our secret went out encoded.
        encoded: bool,
    },
    /// No connection: the request was not sent.
    #[error("the token endpoint cannot be reached ({reason})")]
    Unreachable {
        /// What the network said.
        reason: String,
    },
    /// The connection died after the request was sent.
    #[error("the token endpoint broke the connection off ({reason})")]
    Broken {
        /// What the network said.
        reason: String,
    },
    /// No whole answer in time.
    #[error("the token endpoint did not answer in time")]
    TimedOut,
    /// 5xx, 408, 429, or a 4xx that does not speak OAuth.
    #[error("the token endpoint answered with status {status}")]
    Failed {
        /// The HTTP status.
        status: u16,
    },
    /// An answer nobody can use: HTML, no access token, another token type.
    #[error("the token endpoint answered with something unusable ({reason})")]
    Malformed {
        /// What is wrong with it.
        reason: String,
        /// The new refresh token that came along: the old one is spent, so this one must not be lost.
        rotated: Option<Secret>,
    },
    /// A refresh brought an ID token of somebody else (OpenID Connect Core §12.2).
    #[error("the refreshed id_token is of another person or issuer")]
    IdentityChanged,
    /// Discovery, keys or randomness failed before or after the request.
    #[error(transparent)]
    Idp(#[from] IdpError),
}

impl GrantError {
    /// The provider could not be asked or did not make sense: never a reason to end a session.
    pub fn is_provider_down(&self) -> bool {
        match self {
            Self::InvalidGrant { .. } | Self::Refused { .. } | Self::IdentityChanged => false,
            Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::TimedOut
            | Self::Failed { .. }
            | Self::Malformed { .. }
            | Self::Idp(_) => true,
        }
    }

    /// The provider may have acted on the request and its successor did not arrive: a rotating refresh
    /// token may be spent.
    pub fn answer_lost(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::TimedOut | Self::Failed { .. } | Self::IdentityChanged => true,
            Self::Malformed { rotated, .. } => rotated.is_none(),
            _ => false,
        }
    }

    /// What to look at, where the refusal is about us and not about what we asked for (RFC 6749 §5.2).
    pub fn about_client(&self) -> Option<&'static str> {
        let Self::Refused { error, encoded, .. } = self else { return None };
        match (error.as_str(), encoded) {
            ("invalid_client", false) => {
                Some("check `client_id`, `client_secret` and `token_auth_method` in idps.yaml")
            }
            ("invalid_client", true) => Some(
                "check `client_id`, `client_secret` and `token_auth_method` in idps.yaml: the secret goes out form-encoded \
                 (RFC 6749 §2.3.1), which some providers do not undo; with `client_secret_post` they need not",
            ),
            // Glewlwyd says so of a wrong secret, too.
            ("unauthorized_client", true) => Some(
                "the provider must allow this grant to the client (`client_id` in idps.yaml), and undo the form-encoding of \
                 its secret (RFC 6749 §2.3.1): with `token_auth_method: client_secret_post` it need not",
            ),
            ("unauthorized_client" | "unsupported_grant_type", _) => {
                Some("the provider must allow this grant to the client (`client_id` in idps.yaml)")
            }
            _ => None,
        }
    }

    /// The new refresh token of an answer that is of no use otherwise.
    pub fn rotated(&self) -> Option<&Secret> {
        match self {
            Self::Malformed { rotated, .. } => rotated.as_ref(),
            _ => None,
        }
    }

    /// The value of the `status` label of `bff_token_exchange_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::InvalidGrant { of_service: false, .. } => "invalid_grant",
            Self::InvalidGrant { .. } | Self::Refused { .. } => "refused",
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Idp(_) => "unreachable",
            Self::TimedOut => "timeout",
            Self::Failed { .. } => "failed",
            Self::Malformed { .. } => "malformed",
            Self::IdentityChanged => "identity_changed",
        }
    }
}

impl From<FetchError> for GrantError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Unreachable(reason) => Self::Unreachable { reason },
            FetchError::Broken(reason) => Self::Broken { reason },
            FetchError::TimedOut => Self::TimedOut,
            FetchError::Status(status) => Self::Failed { status },
            FetchError::TooLarge => Self::Malformed { reason: "too many bytes".into(), rotated: None },
            FetchError::Malformed(reason) => Self::Malformed { reason, rotated: None },
        }
    }
}
