//! Tokens of our own (`client_credentials`, one for everybody) and tokens exchanged for one session.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;

use super::backoff::BackOffs;
use super::bearer::NoBearer;
use super::context::{BACK_OFF, CACHED, MINTED};
use super::fleet::{Fleet, Source, Wanted};
use super::freshness::{Freshness, freshness};
use super::minted::{bounded, landed};
use super::patience::{Hanging, wait_for};
use super::policy::Need;
use super::verdict::{Keys, misfit, refused};
use crate::oidc::{Ask, GrantError, RelyingParty, TokenResponse};
use crate::resilience::{Clock, SingleFlight, UnixTime};
use crate::session::{AccessToken, Session, SessionKey, Sessions};
use crate::telemetry::Metrics;

/// How long a provider is left alone that failed or refused a token for everybody.
const FOR_ALL: Duration = Duration::from_secs(2);

/// One token for each of these. The issuer and client are the relying party's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SharedKey {
    /// `None`: ours. Else the session it was exchanged for, so that nobody gets another's.
    session: Option<SessionKey>,
    audience: Option<String>,
    scopes: Vec<String>,
    /// Routes may differ in how long they keep it.
    cache_ttl: Option<Duration>,
}

impl SharedKey {
    fn new(session: Option<SessionKey>, need: &Need, cache_ttl: Option<Duration>) -> Self {
        Self { session, audience: need.audience.clone(), scopes: need.scopes.clone(), cache_ttl }
    }

    /// How long a provider that failed or refused is left alone. There are as many exchanged tokens as sessions.
    fn back_off(&self) -> Duration {
        if self.session.is_some() { BACK_OFF } else { FOR_ALL }
    }
}

#[derive(Debug)]
pub(super) struct SharedTokens {
    relying_party: Arc<RelyingParty>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    threshold: Duration,
    kept: Arc<Cache<SharedKey, AccessToken>>,
    flights: SingleFlight<SharedKey, Result<(AccessToken, Source), NoBearer>>,
    fleet: Arc<Fleet>,
    obstacles: Arc<BackOffs<SharedKey, NoBearer>>,
    /// The last flight took long. Who has no token that works waits for one all the same.
    slow: Arc<BackOffs<SharedKey, ()>>,
    /// Known to whoever renews a session's tokens, too.
    pub(super) hanging: Arc<Hanging>,
}

impl SharedTokens {
    pub(super) fn new(
        sessions: Arc<Sessions>,
        relying_party: Arc<RelyingParty>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        threshold: Duration,
    ) -> Self {
        Self {
            fleet: Arc::new(Fleet { sessions, clock: Arc::clone(&clock), threshold }),
            relying_party,
            clock,
            metrics,
            threshold,
            kept: Arc::new(Cache::new(16_384)),
            flights: SingleFlight::default(),
            obstacles: Arc::new(BackOffs::new()),
            slow: Arc::new(BackOffs::new()),
            hanging: Arc::default(),
        }
    }

    /// `client_credentials` for `need`, kept at most `cache_ttl`.
    pub(super) async fn service_token(
        &self,
        need: &Arc<Need>,
        cache_ttl: Option<Duration>,
    ) -> Result<AccessToken, NoBearer> {
        let key = SharedKey::new(None, need, cache_ttl);
        let (party, wanted) = (Arc::clone(&self.relying_party), Arc::clone(need));
        let (fleet, id, clock) = (Arc::clone(&self.fleet), self.fleet_wide(need), Arc::clone(&self.clock));
        self.obtain(key, need, move || async move {
            let mint = async {
                let ask = Ask { audience: wanted.audience.as_deref(), scopes: &wanted.scopes };
                let answer = party.client_credentials(&ask).await;
                accept(answer, &wanted, party.issuer(), clock.now())
            };
            fleet.fetch(&Wanted { id, audience: wanted.audience.clone(), cache_ttl }, mint).await
        })
        .await
    }

    /// What every replica calls that token: of this issuer, client, audience and scope.
    fn fleet_wide(&self, need: &Need) -> String {
        let client = &self.relying_party.config().client_id;
        let mut scopes: Vec<&str> = need.scopes.iter().map(String::as_str).collect();
        scopes.sort_unstable();
        scopes.dedup();
        let scopes = scopes.join(" ");
        let parts = [self.relying_party.issuer(), client, need.audience.as_deref().unwrap_or_default(), &scopes];
        // Each with its length, so that no two have the same name.
        parts.iter().fold(String::new(), |name, part| format!("{name}{}:{part}", part.len()))
    }

    /// RFC 8693: `subject`, the session's access token, exchanged for one that fits `need`.
    pub(super) async fn on_behalf_of(
        &self,
        session: &Session,
        subject: &AccessToken,
        need: &Arc<Need>,
        cache_ttl: Option<Duration>,
    ) -> Result<AccessToken, NoBearer> {
        let key = SharedKey::new(Some(session.key), need, cache_ttl);
        let (party, wanted, subject) = (Arc::clone(&self.relying_party), Arc::clone(need), subject.secret.clone());
        let clock = Arc::clone(&self.clock);
        self.obtain(key, need, move || async move {
            let ask = Ask { audience: wanted.audience.as_deref(), scopes: &wanted.scopes };
            let answer = party.exchange(&subject, &ask).await;
            let token = accept(answer, &wanted, party.issuer(), clock.now())?;
            Ok((bounded(token, cache_ttl), Source::Provider))
        })
        .await
    }

    async fn obtain<F, W>(&self, key: SharedKey, need: &Arc<Need>, fetch: W) -> Result<AccessToken, NoBearer>
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<(AccessToken, Source), NoBearer>> + Send + 'static,
    {
        let count = |result: &str| self.metrics.token_lookups.with_label_values(&[&*need.service, result]).inc();
        let kept = self.kept.get(&key).map(|token| (self.age(&token), token));
        let still_works = match kept {
            Some((Freshness::Fresh, token)) => {
                count(CACHED);
                return Ok(token);
            }
            Some((Freshness::Due, token)) => Some(token),
            _ => None,
        };
        if let Some(obstacle) = self.obstacles.reason(&key) {
            count(if still_works.is_some() { CACHED } else { obstacle.result() });
            return still_works.ok_or(obstacle);
        }
        let patience = still_works.as_ref().map(|_| self.hanging.patience(self.slow.knew_one(&key)));
        let works = || still_works.as_ref().is_some_and(|token| self.age(token) != Freshness::Over);
        let Some((landed, ours)) = wait_for(self.fly(key.clone(), fetch), patience, works).await else {
            self.slow.hold(key.clone(), (), key.back_off());
            self.hanging.outlasted(patience.unwrap_or_default());
            count(CACHED);
            return still_works.ok_or_else(interrupted);
        };
        let still_works = works().then_some(still_works).flatten();
        let landed = landed.unwrap_or_else(|| Err(interrupted()));
        count(match &landed {
            Ok((_, Source::Provider)) if ours => MINTED,
            Ok(_) => CACHED,
            Err(_) if still_works.is_some() => CACHED,
            Err(reason) => reason.result(),
        });
        landed.map(|(token, _source)| token).or_else(|reason| still_works.ok_or(reason))
    }

    /// What the flight brought, and whether it was begun for this.
    async fn fly<F, W>(&self, key: SharedKey, fetch: W) -> (Option<Result<(AccessToken, Source), NoBearer>>, bool)
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<(AccessToken, Source), NoBearer>> + Send + 'static,
    {
        let (kept, obstacles, slow) = (Arc::clone(&self.kept), Arc::clone(&self.obstacles), Arc::clone(&self.slow));
        let hanging = Arc::clone(&self.hanging);
        let flight_key = key.clone();
        let mut ours = false;
        let landed = self.flights.run(key, || {
            ours = true;
            async move {
                let outcome = fetch().await;
                match &outcome {
                    Ok((token, source)) => {
                        slow.lift(&flight_key);
                        // What lay in the store tells nothing of the provider.
                        if *source == Source::Provider {
                            hanging.landed();
                        }
                        kept.insert(flight_key, token.clone());
                    }
                    Err(reason) => {
                        let back_off = flight_key.back_off();
                        obstacles.hold(flight_key, reason.clone(), back_off);
                    }
                }
                outcome
            }
        });
        let landed = landed.await;
        (landed, ours)
    }

    fn age(&self, token: &AccessToken) -> Freshness {
        freshness(token, self.clock.now(), self.threshold)
    }
}

fn interrupted() -> NoBearer {
    NoBearer::ProviderDown("the token request was interrupted".to_owned())
}

/// Compares what came with what was wanted before anybody uses it.
fn accept(
    answer: Result<TokenResponse, GrantError>,
    need: &Need,
    issuer: &str,
    now: UnixTime,
) -> Result<AccessToken, NoBearer> {
    let response = answer.map_err(|error| refused(&error, issuer, Some(need), Keys::Route))?;
    let token = landed(&response, &need.service, now);
    misfit(Some(need), &token, Keys::Route).map_or(Ok(token), Err)
}
