//! What goes on beside requests: watching and sweeping the session store, watching memory, and the first look at the
//! identity provider.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use super::memory;
use crate::oidc::RelyingParty;
use crate::proxy::Bff;

/// Runs until the server stops. An embedder adds it as a background service.
#[derive(Debug)]
pub struct Housekeeping(Bff);

impl Bff {
    /// The background work that belongs to this plugin.
    #[must_use]
    pub fn housekeeping(&self) -> Housekeeping {
        Housekeeping(self.clone())
    }
}

#[async_trait]
impl BackgroundService for Housekeeping {
    async fn start(&self, _shutdown: ShutdownWatch) {
        // Sessions outlive a reload.
        let sessions = Arc::clone(&self.0.gateway().endpoints.sessions);
        warm(&self.0.gateway().endpoints.relying_party);
        let bff = self.0.clone();
        tokio::spawn(async move {
            let mut look = tokio::time::interval(memory::EVERY);
            loop {
                look.tick().await;
                memory::look(&bff.gateway());
            }
        });
        // Also while the process drains: what is in flight is to hear of a logout, too.
        sessions.keep_house().await;
    }
}

/// A first look at the identity provider, beside everything else. Needs a tokio runtime.
pub(super) fn warm(party: &Arc<RelyingParty>) {
    let party = Arc::clone(party);
    tokio::spawn(async move {
        match party.warm().await {
            Ok(true) => tracing::info!(issuer = party.issuer(), "the identity provider answers"),
            Ok(false) => tracing::info!(
                issuer = party.issuer(),
                "discovery fails; the endpoints and keys that are known are enough for logins"
            ),
            Err(error) if error.is_about_issuer() => tracing::error!(
                %error,
                "the identity provider cannot be used: change idps[{}].issuer in idps.yaml; live sessions go on, nobody \
                 can log in",
                party.name()
            ),
            Err(error) => tracing::error!(
                %error,
                "the identity provider does not answer; live sessions go on, logins wait until it does"
            ),
        }
    });
}
