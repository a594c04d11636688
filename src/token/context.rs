//! What the flights of a broker share: which of a session's tokens serves whom, how fresh it is, and what is known of the
//! provider that would renew it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::IntCounter;

use super::backoff::BackOffs;
use super::bearer::NoBearer;
use super::freshness::{Freshness, freshness};
use super::patience::Hanging;
use super::policy::Need;
use crate::oidc::RelyingParty;
use crate::resilience::Clock;
use crate::session::{AccessToken, Session, SessionKey, Sessions};
use crate::telemetry::Metrics;

/// How long a session leaves a provider alone that just failed it.
pub(super) const BACK_OFF: Duration = Duration::from_secs(5);
/// How long a login's token must have been good for another login to be worth it.
const WORKED: Duration = Duration::from_secs(5);

/// Results of a look-up: the token was there, or it was fetched for it.
pub(super) const CACHED: &str = "cached";
pub(super) const MINTED: &str = "minted";

/// What the login's own token is called where services are named.
pub(super) const LOGIN: &str = "login";

/// Which of a session's tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Service(Arc<Need>),
    Login,
}

impl Target {
    /// What a service needs; the login's own token is for whom the provider issued it.
    pub(super) fn need(&self) -> Option<&Need> {
        match self {
            Self::Service(need) => Some(need),
            Self::Login => None,
        }
    }

    pub(super) fn label(&self) -> &str {
        match self {
            Self::Service(need) => &need.service,
            Self::Login => LOGIN,
        }
    }
}

/// Everything a flight needs; shared by all of them.
#[derive(Debug)]
pub(super) struct RenewalContext {
    pub(super) sessions: Arc<Sessions>,
    pub(super) relying_party: Arc<RelyingParty>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) threshold: Duration,
    /// The own audience of the login entry: what the login token is renewed for.
    pub(super) own_audience: Option<String>,
    pub(super) resource_indicators: bool,
    pub(super) down: BackOffs<SessionKey, String>,
    /// The last flight took long. Who has no token that works waits for one all the same.
    pub(super) slow: BackOffs<SessionKey, ()>,
    pub(super) hanging: Arc<Hanging>,
    pub(super) refused: BackOffs<(SessionKey, Target), String>,
    /// The counter of every service's usual look-up, found at its first use.
    pub(super) cached: HashMap<String, OnceLock<IntCounter>>,
}

impl RenewalContext {
    /// What the session holds for `target`, and how fresh it is.
    pub(super) fn held<'a>(&self, session: &'a Session, target: &Target) -> Option<(&'a AccessToken, Freshness)> {
        match target {
            Target::Login => Some(self.aged(&session.tokens.login)),
            Target::Service(need) => self.held_for(session, need),
        }
    }

    pub(super) fn held_for<'a>(&self, session: &'a Session, need: &Need) -> Option<(&'a AccessToken, Freshness)> {
        let tokens = &session.tokens;
        let audience = need.audience.as_ref()?;
        let minted = tokens.services.get(&*need.place).filter(|token| token.audience.contains(audience));
        let minted = minted.map(|token| self.aged(token));
        if minted.is_some_and(|(_, freshness)| freshness == Freshness::Fresh) {
            return minted;
        }
        let fits = tokens.login.audience.contains(audience)
            && need.scopes.iter().all(|scope| tokens.login.scopes.contains(scope));
        let login = fits.then(|| self.aged(&tokens.login));
        match (minted, login) {
            (Some(_), Some(login)) if login.1 == Freshness::Fresh => Some(login),
            (minted, login) => minted.or(login),
        }
    }

    /// For whom the login token is renewed: the entry's own audience, unless it was left out of this login or is written
    /// since. A provider that rotates would spend the refresh token on a resource that was not granted.
    pub(super) fn login_audience<'a>(&'a self, session: &'a Session) -> Option<&'a str> {
        let own = self.own_audience.as_ref();
        if !self.resource_indicators {
            return own.map(String::as_str);
        }
        let tokens = &session.tokens;
        let granted = |audience: &&String| tokens.granted_audiences.contains(audience);
        own.filter(granted).or_else(|| tokens.login.audience.iter().find(granted)).map(String::as_str)
    }

    pub(super) fn aged<'a>(&self, token: &'a AccessToken) -> (&'a AccessToken, Freshness) {
        (token, freshness(token, self.clock.now(), self.threshold))
    }

    /// Nobody whose token works waits for a provider that failed or took long the last time.
    pub(super) fn patience(&self, key: &SessionKey) -> Duration {
        self.hanging.patience(self.down.knew_one(key) || self.slow.knew_one(key))
    }

    pub(super) fn known_obstacle(&self, key: &SessionKey, target: &Target) -> Option<NoBearer> {
        if let Some(reason) = self.refused.reason(&(*key, target.clone())) {
            return Some(NoBearer::NotAvailable(reason));
        }
        self.down.reason(key).map(NoBearer::ProviderDown)
    }

    /// A session without a refresh token has what its login gave it. Once that is over, a new login gives it again; but
    /// none that was over nearly as it came: the login would be begun for ever.
    pub(super) fn or_login(&self, reason: NoBearer, session: &Session, target: &Target) -> NoBearer {
        let worked = |token: &AccessToken| token.expires_at.is_some_and(|end| end >= session.created_at.plus(WORKED));
        match (reason, self.held(session, target)) {
            (NoBearer::NotAvailable(reason), Some((token, Freshness::Over)))
                if session.tokens.refresh_token.is_none() && worked(token) =>
            {
                NoBearer::LoginNeeded(reason)
            }
            (reason, _) => reason,
        }
    }

    pub(super) fn count_lookup(&self, target: &Target, result: &str) {
        self.lookups(target.label(), result).inc();
    }

    pub(super) fn lookups(&self, label: &str, result: &str) -> IntCounter {
        self.metrics.token_lookups.with_label_values(&[label, result])
    }
}

pub(super) fn named(label: &str) -> (String, OnceLock<IntCounter>) {
    (label.to_owned(), OnceLock::new())
}
