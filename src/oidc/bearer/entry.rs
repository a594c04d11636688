//! The entries of `idps.yaml` that can vouch for somebody else's token: those with an `audience`.
//! What they share, they share: keys by issuer and endpoints, also with whoever logs users in, and introspection by
//! endpoint and client.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use url::Url;

use super::introspection::Introspector;
use crate::config::IdpConfig;
use crate::oidc::discovery::Discovery;
use crate::oidc::error::SetupError;
use crate::oidc::http::HttpClient;
use crate::oidc::jwks::Jwks;
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
    pub(super) jwks: Jwks,
    source: Source,
    discovery: Discovery,
    /// Where `introspection_url` is written. One that discovery names is not asked: nobody said that
    /// strangers' tokens may be shown there.
    pub(super) introspector: Option<Arc<Introspector>>,
}

/// Where an entry's keys come from; entries of one source share them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    issuer: String,
    endpoints: [Option<Url>; 6],
}

impl Source {
    fn of(idp: &IdpConfig) -> Self {
        Self {
            issuer: idp.issuer.clone(),
            endpoints: [
                idp.authorization_url.clone(),
                idp.token_url.clone(),
                idp.jwks_url.clone(),
                idp.introspection_url.clone(),
                idp.revocation_url.clone(),
                idp.end_session_url.clone(),
            ],
        }
    }
}

/// What these entries keep of the provider that `idp` names.
pub(super) fn kept_of(entries: &[Entry], idp: &IdpConfig) -> Option<(Discovery, Jwks)> {
    let wanted = Source::of(idp);
    let found = entries.iter().find(|entry| entry.source == wanted)?;
    Some((found.discovery.clone(), found.jwks.clone()))
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
    let known = before.iter().map(|entry| (entry.source.clone(), entry.discovery.clone(), entry.jwks.clone()));
    // Tokens of unknown keys cost a provider one request, whoever sends them and to whom.
    let own = (Source::of(&party.idp), party.discovery.clone(), party.jwks.clone());
    let mut sources: Vec<(Source, Discovery, Jwks)> = std::iter::once(own).chain(known).collect();
    let mut introspectors: Vec<(&IdpConfig, Arc<Introspector>)> = Vec::new();
    let mut entries = Vec::new();
    for idp in idps {
        let Some(audience) = &idp.audience else { continue };
        let failed = |error| (idp.name.clone(), error);
        let (source, discovery, jwks) = source(idp, &mut sources, clock, metrics).map_err(failed)?;
        let asked_already = introspectors.iter().find(|(first, _)| ask_alike(first, idp));
        let introspector = match (&idp.introspection_url, asked_already) {
            (None, _) => None,
            (Some(_), Some((_, shared))) => Some(Arc::clone(shared)),
            (Some(url), None) => {
                let built =
                    Introspector::new(idp, url, discovery.clone(), Arc::clone(clock), metrics).map_err(failed)?;
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
            jwks,
            source,
            discovery,
            introspector,
        });
    }
    Ok(entries)
}

fn source(
    idp: &IdpConfig,
    sources: &mut Vec<(Source, Discovery, Jwks)>,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<(Source, Discovery, Jwks), SetupError> {
    let wanted = Source::of(idp);
    if let Some(known) = sources.iter().find(|(source, _, _)| *source == wanted) {
        return Ok(known.clone());
    }
    let http = HttpClient::new(is_local(idp), Arc::clone(metrics))?;
    let discovery = Discovery::new(idp, http.clone(), Arc::clone(clock))?;
    let jwks = Jwks::new(&idp.name, discovery.clone(), http, Arc::clone(clock));
    sources.push((wanted.clone(), discovery.clone(), jwks.clone()));
    Ok((wanted, discovery, jwks))
}

/// The same question of the same authority by the same client.
fn ask_alike(one: &IdpConfig, other: &IdpConfig) -> bool {
    one.issuer == other.issuer
        && one.introspection_url == other.introspection_url
        && one.client_id == other.client_id
        && one.client_secret == other.client_secret
        && one.token_auth_method == other.token_auth_method
        && one.key_id == other.key_id
}
