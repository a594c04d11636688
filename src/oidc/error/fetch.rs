//! One exchange with the provider that brought nothing.

use thiserror::Error;

/// Why a request to the provider brought no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FetchError {
    /// No connection: nothing was sent.
    #[error("cannot be reached ({0})")]
    Unreachable(String),
    /// The connection died after the request went out; the provider may have acted on it.
    #[error("broke the connection off ({0})")]
    Broken(String),
    /// No whole answer in time; the provider may have acted on the request.
    #[error("did not answer in time")]
    TimedOut,
    /// An answer with this status where only 200 is of use.
    #[error("answered with status {0}")]
    Status(u16),
    /// More than a megabyte.
    #[error("answered with too many bytes")]
    TooLarge,
    /// Not what the specification says it must be.
    #[error("answered with something unusable ({0})")]
    Malformed(String),
}

impl FetchError {
    /// The value of the `status` label of `bff_idp_requests_total`.
    pub(in crate::oidc) fn label(&self) -> String {
        match self {
            Self::Unreachable(_) => "unreachable".into(),
            Self::Broken(_) => "broken".into(),
            Self::TimedOut => "timeout".into(),
            Self::Status(status) => status.to_string(),
            Self::TooLarge => "too_large".into(),
            Self::Malformed(_) => "malformed".into(),
        }
    }
}
