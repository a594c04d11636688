//! The way of a token: its form, what is remembered of it, then its signature or its provider's word.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::IntCounter;

use super::access_token::{check, check_introspected, choose};
use super::entry::{self, Entry};
use super::introspection::Introspector;
use super::remembered::{Fingerprint, Remembered, fingerprint};
use super::{BearerError, Caller};
use crate::config::{IdpConfig, Secret};
use crate::oidc::claims::Claims;
use crate::oidc::error::SetupError;
use crate::oidc::jwks::Bringer;
use crate::oidc::jwt::{self, Compact};
use crate::oidc::known::Known;
use crate::oidc::relying_party::RelyingParty;
use crate::oidc::signature::{self, SignatureError};
use crate::resilience::{Clock, SingleFlight};
use crate::telemetry::Metrics;

/// Bytes; longer ones are not even looked at.
const MAX_TOKEN: usize = 16 * 1024;
/// A signature is checked again after this: a key may have been withdrawn.
const SIGNATURE_HOLDS: Duration = Duration::from_secs(300);
/// A token may be revoked at any time; this is how long we may not notice.
const ACTIVE_HOLDS: Duration = Duration::from_secs(30);
/// A token that is not active may have been asked about too early.
const INACTIVE_HOLDS: Duration = Duration::from_secs(2);
/// Tokens remembered as good. Refused ones have a table of their own, so that a flood of them does
/// not drive these out.
const GOOD: usize = 16_384;
const REFUSED: usize = 4_096;

type Verdict = Result<Arc<Caller>, BearerError>;

/// Validates callers' access tokens against every entry of `idps.yaml` that has an `audience`.
/// Shared as `Arc<BearerValidator>`.
#[derive(Debug)]
pub struct BearerValidator {
    court: Arc<Court>,
    flights: SingleFlight<Fingerprint, Verdict>,
    metrics: Arc<Metrics>,
    /// The counter of tokens found good, found at its first use.
    valid: OnceLock<IntCounter>,
}

/// What a flight needs too.
#[derive(Debug)]
struct Court {
    entries: Vec<Entry>,
    /// Those of the entries, each once, in their order.
    introspectors: Vec<Arc<Introspector>>,
    good: Remembered<Arc<Caller>>,
    refused: Remembered<BearerError>,
    clock: Arc<dyn Clock>,
}

impl BearerValidator {
    /// Asks nobody yet: keys are fetched when the first token needs them. The error names the entry
    /// that cannot work whatever its provider does. Keys are shared with `party`, and with `before`, the one of another
    /// configuration, where an issuer and its endpoints are the same.
    pub fn new(
        idps: &[IdpConfig],
        party: &RelyingParty,
        before: Option<&Self>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, (String, SetupError)> {
        let before = before.map_or(&[][..], |before| &before.court.entries);
        let entries = entry::build(idps, party, before, &clock, &metrics)?;
        let mut introspectors: Vec<Arc<Introspector>> = Vec::new();
        for one in entries.iter().filter_map(|entry| entry.introspector.as_ref()) {
            if !introspectors.iter().any(|known| Arc::ptr_eq(known, one)) {
                introspectors.push(Arc::clone(one));
            }
        }
        let (good, refused) = (Remembered::new(GOOD), Remembered::new(REFUSED));
        let court = Arc::new(Court { entries, introspectors, good, refused, clock });
        Ok(Self { court, flights: SingleFlight::default(), metrics, valid: OnceLock::new() })
    }

    /// What is known of the provider that `idp` names.
    pub(in crate::oidc) fn known_of(&self, idp: &IdpConfig) -> Option<Known> {
        entry::known_of(&self.court.entries, idp)
    }

    /// Who calls with this token: the credentials of `Authorization: Bearer`, without the scheme.
    pub async fn validate(&self, token: &str) -> Result<Arc<Caller>, BearerError> {
        let key = (token.len() <= MAX_TOKEN).then(|| fingerprint(token));
        // The same bytes were found good a little ago, their form included.
        if let Some(caller) = key.and_then(|key| self.court.good.get(&key, self.court.clock.now())) {
            self.valid.get_or_init(|| self.verdicts("valid")).inc();
            return Ok(caller);
        }
        // Boxed, so that the future every request carries stays small.
        let verdict = match key {
            Some(key) => Box::pin(self.judge(token, key)).await,
            None => Err(BearerError::invalid("it is longer than 16 KiB")),
        };
        self.verdicts(verdict.as_ref().map_or_else(BearerError::label, |_caller| "valid")).inc();
        verdict
    }

    fn verdicts(&self, status: &str) -> IntCounter {
        self.metrics.token_validation.with_label_values(&["access_token", status])
    }

    async fn judge(&self, token: &str, key: Fingerprint) -> Verdict {
        check_form(token).map_err(BearerError::invalid)?;
        let court = &self.court;
        let now = court.clock.now();
        if !jwt::is_meant(token) {
            return self.introspect(token, key, &court.introspectors).await;
        }
        let compact = Compact::parse(token).map_err(BearerError::invalid)?;
        let entry = choose(&compact.claims, &court.entries).map_err(BearerError::invalid)?;
        // Before the signature: what is refused anyway shall not make us ask for keys.
        let caller = check(&compact, entry, now).map_err(BearerError::invalid)?;
        match (
            signature::verify(&compact, &entry.algorithms, &entry.known.jwks, Bringer::Caller).await,
            &entry.introspector,
        ) {
            (Ok(_algorithm), _) => Ok(court.remember(key, caller, SIGNATURE_HOLDS)),
            // No keys are published, or they cannot be had: the provider's word is as good.
            (Err(SignatureError::NotChecked(_)), Some(introspector)) => {
                self.introspect(token, key, std::slice::from_ref(introspector)).await
            }
            (Err(SignatureError::NotChecked(error)), None) => Err(BearerError::cannot_ask(error)),
            (Err(error), _) => Err(BearerError::invalid(error)),
        }
    }

    /// One question per token, however many ask with it.
    async fn introspect(&self, token: &str, key: Fingerprint, whom: &[Arc<Introspector>]) -> Verdict {
        if whom.is_empty() {
            return Err(BearerError::invalid(
                "it is no signed JWT, and no entry of idps.yaml has an introspection_url",
            ));
        }
        if let Some(refusal) = self.court.refused.get(&key, self.court.clock.now()) {
            return Err(refusal);
        }
        let (court, token, whom) = (Arc::clone(&self.court), Secret::new(token), whom.to_vec());
        let verdict = self.flights.run(key, || async move { court.ask(&token, key, &whom).await }).await;
        verdict.unwrap_or_else(|| Err(BearerError::cannot_ask("the question was interrupted in this process")))
    }
}

impl Court {
    /// Asks one after the other until one knows the token. Nobody's "no" counts while another could
    /// not be asked.
    async fn ask(&self, token: &Secret, key: Fingerprint, whom: &[Arc<Introspector>]) -> Verdict {
        let mut unanswered = None;
        let mut refusal = BearerError::invalid("it is not active");
        for introspector in whom {
            match introspector.ask(token).await {
                Ok(None) => {}
                Ok(Some(claims)) => match self.check_introspected(&claims, introspector) {
                    Ok(caller) => return Ok(self.remember(key, caller, ACTIVE_HOLDS)),
                    Err(reason) => refusal = BearerError::invalid(reason),
                },
                Err(error) => unanswered = Some(error),
            }
        }
        if let Some(error) = unanswered {
            return Err(error);
        }
        let now = self.clock.now();
        self.refused.put(key, refusal.clone(), now.plus(INACTIVE_HOLDS), now);
        Err(refusal)
    }

    /// The first entry of this introspector that the answer fits.
    fn check_introspected(&self, claims: &Claims, introspector: &Arc<Introspector>) -> Result<Caller, &'static str> {
        let asked = |entry: &&Entry| entry.introspector.as_ref().is_some_and(|own| Arc::ptr_eq(own, introspector));
        let now = self.clock.now();
        let mut verdict = Err("it is for another audience");
        for entry in self.entries.iter().filter(asked) {
            verdict = check_introspected(claims, entry, now);
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }

    fn remember(&self, key: Fingerprint, caller: Caller, span: Duration) -> Arc<Caller> {
        let now = self.clock.now();
        let until = caller.expires_at.map_or(now.plus(span), |end| end.min(now.plus(span)));
        let caller = Arc::new(caller);
        self.good.put(key, Arc::clone(&caller), until, now);
        caller
    }
}

/// RFC 6750 §2.1: `b64token`.
fn check_form(token: &str) -> Result<(), &'static str> {
    let body = token.trim_end_matches('=');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if body.is_empty() || !body.bytes().all(fits) {
        return Err("it contains bytes that no token may");
    }
    Ok(())
}
