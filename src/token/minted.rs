//! A provider's answer as the access token that a session keeps.

use std::time::Duration;

use crate::oidc::TokenResponse;
use crate::resilience::UnixTime;
use crate::session::{AccessToken, Ready};

/// How long a token is used that was over when it came. Renewed, as others are, when a third is left: that is after the
/// five seconds for which a provider is left alone that did not help.
const OVER_ON_ARRIVAL: Duration = Duration::from_secs(8);

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

/// `token` as it is kept where a route says for how long at most (`cache_ttl`).
pub(super) fn bounded(mut token: AccessToken, cache_ttl: Option<Duration>) -> AccessToken {
    if let Some(ttl) = cache_ttl {
        let bound = token.issued_at.plus(ttl);
        token.expires_at = Some(token.expires_at.map_or(bound, |end| end.min(bound)));
    }
    token
}

/// The same for a token that was asked for because the one before it is over, landed at `now`. If it is over, too, asking
/// again would only bring the next of its kind: the provider has just issued it, so the services shall judge it.
pub(super) fn landed(response: &TokenResponse, service: &str, now: UnixTime) -> AccessToken {
    let token = access_token(response);
    match token.expires_at {
        Some(end) if end <= now => {
            tracing::warn!(
                service,
                over_for_seconds = end.until(now).as_secs(),
                "a token was over when it came, and is used all the same: compare the clock here with the provider's, \
                 and its answer time with the life it gives to tokens"
            );
            AccessToken { issued_at: now, expires_at: Some(now.plus(OVER_ON_ARRIVAL)), ..token }
        }
        _ => token,
    }
}
