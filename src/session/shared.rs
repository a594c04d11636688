//! Tokens that belong to no session: one for the whole fleet, sealed with the server's secret alone.

use std::time::Duration;

use super::lease::Lease;
use super::model::AccessToken;
use super::payload;
use super::seal::SealError;
use super::sessions::{Sessions, unsealed};
use super::store::StoreError;
use crate::crypto::hashed;

/// How long a token is shared whose end nobody told.
const UNTOLD: Duration = Duration::from_secs(3_600);

impl Sessions {
    /// The token shared under `id`, whatever its age; `None` also where it was sealed with a secret
    /// that is not ours (any more).
    pub async fn shared_token(&self, id: &str) -> Result<Option<AccessToken>, StoreError> {
        let name = name_of(id);
        let Some(sealed) = self.store.read_note(&name, self.now()?).await? else { return Ok(None) };
        let opened = self.sealer.open_shared(&name, &sealed).ok();
        let token = opened.and_then(|plain| payload::read_token(&plain).ok());
        if token.is_none() {
            tracing::info!("a shared token was sealed with another secret: it is fetched anew");
        }
        Ok(token)
    }

    /// Shares `token` under `id` until it ends.
    pub async fn share_token(&self, id: &str, token: &AccessToken) -> Result<(), StoreError> {
        let (name, now) = (name_of(id), self.now()?);
        let plain = payload::write_token(token).map_err(|_| unsealed(SealError::Encoding))?;
        let sealed = self.sealer.seal_shared(&name, &plain).map_err(unsealed)?;
        self.store.set_note(&name, sealed, token.expires_at.unwrap_or(now.plus(UNTOLD)), now).await
    }

    /// The right to fetch that token for all; `None` while somebody has it. Two who fetch it at once cost a request.
    pub async fn shared_lease(&self, id: &str, span: Duration) -> Result<Option<Lease>, StoreError> {
        self.lease_at_once(&name_of(id), span).await
    }
}

/// What tells shared tokens apart may be long and is the provider's business.
fn name_of(id: &str) -> String {
    format!("token:{}", hashed(id))
}
