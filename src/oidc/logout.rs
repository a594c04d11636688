//! Leaving: the refresh token is revoked (RFC 7009) and the browser is sent to the provider's
//! logout page (OpenID Connect RP-Initiated Logout 1.0). Logging out at the provider does not by
//! itself end an `offline_access` refresh token, hence both.

use std::time::Duration;

use tokio::time::timeout;
use url::Url;

use super::error::GrantError;
use super::relying_party::RelyingParty;
use crate::config::Secret;

/// How long somebody who leaves waits for a provider that nobody here has had an answer of yet.
const PATIENCE: Duration = Duration::from_secs(1);

impl RelyingParty {
    /// Asks the provider to forget a refresh token, if it can.
    pub async fn revoke(&self, refresh_token: &Secret) -> Result<(), GrantError> {
        self.tokens.revoke(refresh_token).await
    }

    /// Where to send the browser so that the provider logs out too, and brings it back to
    /// `post_logout`. `None` when the provider has no such page, or is not known and does not answer. It may not be known
    /// though it is well: nobody has needed it since it was away when this process began.
    pub async fn end_session_url(&self, id_token_hint: &Secret, post_logout: &Url) -> Option<Url> {
        let discovery = &self.known.discovery;
        let known = match discovery.peek() {
            Some(known) => known,
            None => timeout(PATIENCE, discovery.get()).await.ok()?.ok()?,
        };
        let mut url = known.end_session.clone()?;
        let mut query = url.query_pairs_mut();
        query
            .append_pair("id_token_hint", id_token_hint.expose())
            .append_pair("client_id", &self.idp.client_id)
            .append_pair("post_logout_redirect_uri", post_logout.as_str());
        drop(query);
        Some(url)
    }
}
