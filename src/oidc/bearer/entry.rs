//! The entries of `idps.yaml` that can vouch for somebody else's token: those with an `audience`.
//! What they share, they share: keys by issuer and endpoints, also with whoever logs users in, and introspection by
//! endpoint and client.

use std::sync::Arc;

use jsonwebtoken::Algorithm;

use super::introspection::Introspector;
use crate::config::IdpConfig;
use crate::oidc::error::SetupError;
use crate::oidc::http::HttpClient;
use crate::oidc::known::Known;
use crate::oidc::relying_party::{RelyingParty, is_local};
use crate::resilience::Clock;
use crate::telemetry::Metrics;

/// One entry, alive.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) issuer: String,
    pub(super) provider: String,
    pub(super) audience: String,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) known: Known,
    /// Where `introspection_url` is written. One that discovery names is not asked: nobody said that
    /// strangers' tokens may be shown there.
    pub(super) introspector: Option<Arc<Introspector>>,
}

/// What these entries know of the provider that `idp` names.
pub(super) fn known_of(entries: &[Entry], idp: &IdpConfig) -> Option<Known> {
    entries.iter().map(|entry| &entry.known).find(|known| known.is_of(idp)).cloned()
}

/// Builds the entries; the error names the one that cannot work. Asks nobody. `before`: entries of another
/// configuration, whose keys are good for the same issuer and endpoints, as those of `party` are.
pub(super) fn build(
    idps: &[IdpConfig],
    party: &RelyingParty,
    before: &[Entry],
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Entry>, (String, SetupError)> {
    // Tokens of unknown keys cost a provider one request, whoever sends them and to whom.
    let mut known: Vec<Known> =
        std::iter::once(&party.known).chain(before.iter().map(|entry| &entry.known)).cloned().collect();
    let mut introspectors: Vec<(&IdpConfig, Arc<Introspector>)> = Vec::new();
    let mut entries = Vec::new();
    for idp in idps {
        let Some(audience) = &idp.audience else { continue };
        let failed = |error| (idp.name.clone(), error);
        let known = shared(idp, &mut known, clock, metrics).map_err(failed)?;
        let asked_already = introspectors.iter().find(|(first, _)| ask_alike(first, idp));
        let introspector = match (&idp.endpoints.introspection, asked_already) {
            (None, _) => None,
            (Some(_), Some((_, shared))) => Some(Arc::clone(shared)),
            (Some(url), None) => {
                let built =
                    Introspector::new(idp, url, known.discovery.clone(), Arc::clone(clock), metrics).map_err(failed)?;
                let built = Arc::new(built);
                introspectors.push((idp, Arc::clone(&built)));
                Some(built)
            }
        };
        entries.push(Entry {
            issuer: idp.issuer.clone(),
            provider: idp.provider.clone(),
            audience: audience.clone(),
            algorithms: idp.algorithms.clone(),
            known,
            introspector,
        });
    }
    Ok(entries)
}

fn shared(
    idp: &IdpConfig,
    known: &mut Vec<Known>,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<Known, SetupError> {
    if let Some(found) = known.iter().find(|known| known.is_of(idp)) {
        return Ok(found.clone());
    }
    let http = HttpClient::new(is_local(idp), Arc::clone(metrics))?;
    let new = Known::new(idp, http, Arc::clone(clock))?;
    known.push(new.clone());
    Ok(new)
}

/// The same question of the same authority by the same client.
fn ask_alike(one: &IdpConfig, other: &IdpConfig) -> bool {
    one.issuer == other.issuer
        && one.endpoints.introspection == other.endpoints.introspection
        && one.client_id == other.client_id
        && one.client_secret == other.client_secret
        && one.token_auth_method == other.token_auth_method
        && one.key_id == other.key_id
}
