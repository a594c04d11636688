//! What is known of one provider: its description and its keys. Entries of `idps.yaml` that name one issuer
//! and the same endpoints share them.

use std::sync::Arc;

use super::discovery::Discovery;
use super::error::SetupError;
use super::http::HttpClient;
use super::jwks::Jwks;
use crate::config::{IdpConfig, IdpEndpoints};
use crate::resilience::Clock;

/// Clones share what is kept.
#[derive(Debug, Clone)]
pub(super) struct Known {
    issuer: String,
    written: IdpEndpoints,
    pub(super) discovery: Discovery,
    pub(super) jwks: Jwks,
}

impl Known {
    /// Asks nobody.
    pub(super) fn new(idp: &IdpConfig, http: HttpClient, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let discovery = Discovery::new(idp, http.clone(), Arc::clone(&clock))?;
        let jwks = Jwks::new(&idp.name, discovery.clone(), http, clock);
        Ok(Self { issuer: idp.issuer.clone(), written: idp.endpoints.clone(), discovery, jwks })
    }

    /// Whether `idp` names the same.
    pub(super) fn is_of(&self, idp: &IdpConfig) -> bool {
        self.issuer == idp.issuer && self.written == idp.endpoints
    }
}
