//! A provider's answer as the access token that a session keeps.

use crate::oidc::TokenResponse;
use crate::session::{AccessToken, Ready};

/// What is kept of `response` beside its refresh and ID tokens.
#[must_use]
pub fn access_token(response: &TokenResponse) -> AccessToken {
    AccessToken {
        secret: response.access_token.clone(),
        audience: response.audience.clone(),
        scopes: response.scopes.clone(),
        issued_at: response.issued_at,
        expires_at: response.expires_at,
        ready: Ready::default(),
    }
}
