//! What a request is given for its service, or why it is given nothing.

use http::HeaderValue;

use crate::session::{AccessToken, StoreError};

/// `Authorization: Bearer …`, ready to be set. `Debug` hides it.
#[derive(Debug, Clone)]
pub struct Bearer(pub HeaderValue);

impl Bearer {
    pub(super) fn of(token: &AccessToken) -> Result<Self, NoBearer> {
        let unfit = || NoBearer::NotAvailable("the provider's access token does not fit into a header".to_owned());
        token.bearer().map(Self).ok_or_else(unfit)
    }
}

/// Why there is no bearer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoBearer {
    /// Configuration or the provider's word: trying again does not help. Says what to change.
    #[error("{0}")]
    NotAvailable(String),
    /// The same, but a new login helps.
    #[error("{0}")]
    LoginNeeded(String),
    /// The provider could not be asked.
    #[error("{0}")]
    ProviderDown(String),
    /// The provider ended the grant, or somebody logged out meanwhile.
    #[error("the session has ended")]
    SessionEnded,
    /// The session store could not be asked, so nothing may be renewed.
    #[error("{0}")]
    StoreDown(String),
    /// The session store has no room for what is to be renewed.
    #[error("{0}")]
    StoreFull(String),
}

impl From<StoreError> for NoBearer {
    fn from(error: StoreError) -> Self {
        if error.full { Self::StoreFull(error.to_string()) } else { Self::StoreDown(error.to_string()) }
    }
}

impl NoBearer {
    /// As counted by `bff_token_lookups_total`.
    pub(super) fn result(&self) -> &'static str {
        if matches!(self, Self::NotAvailable(_) | Self::LoginNeeded(_)) { "none" } else { "error" }
    }
}
