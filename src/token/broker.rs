//! Who fetches a bearer. A request asks for the token of its route's policy; what is held and fresh
//! is answered at once, the rest goes through one flight per session (or per shared token) that
//! outlives the client who started it.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::BackOffs;
use super::bearer::{Bearer, NoBearer};
use super::context::{BACK_OFF, CACHED, LOGIN, MINTED, RenewalContext, Target, named};
use super::freshness::Freshness;
use super::patience::wait_for;
use super::policy::{Need, TokenPolicy};
use super::renewal::{Renewal, require_issuer};
use super::shared::SharedTokens;
use crate::config::{AudienceParameter, Secret, Settings};
use crate::oidc::RelyingParty;
use crate::resilience::{Clock, SingleFlight, Unfinished};
use crate::session::{AccessToken, Session, SessionKey, Sessions};
use crate::telemetry::Metrics;

/// What a page waits for its services right after a login.
const MAPPING: Duration = Duration::from_secs(1);
/// A session has one flight at a time, and each round may be lost to another of its tokens: more than anybody needs.
const ROUNDS: usize = 1_000;

/// What a flight brought home. Somebody else's flight may have been for another target.
#[derive(Debug, Clone)]
pub(super) struct Landed {
    target: Target,
    outcome: Result<Arc<Session>, NoBearer>,
}

/// Fetches, keeps and renews tokens. Cheap to share.
#[derive(Debug)]
pub struct TokenBroker {
    context: Arc<RenewalContext>,
    flights: SingleFlight<SessionKey, Landed>,
    /// What is not to be cut off, here and in the brokers before this one.
    unfinished: Unfinished,
    shared: SharedTokens,
    /// Every service with an audience: mapped right after login.
    mapped: Vec<Arc<Need>>,
    /// Sessions whose services are being mapped.
    mapping: SingleFlight<SessionKey, ()>,
}

impl TokenBroker {
    /// A broker for the sessions of one relying party.
    #[must_use]
    pub fn new(
        sessions: Arc<Sessions>,
        relying_party: Arc<RelyingParty>,
        settings: &Settings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mapped = settings
            .service_audiences
            .keys()
            .filter_map(|service| match TokenPolicy::of(service, None, settings) {
                TokenPolicy::Session(need) => Some(need),
                _ => None,
            })
            .collect();
        let (entry, threshold) = (relying_party.config(), settings.token_refresh_threshold);
        let (ours, party) = (Arc::clone(&sessions), Arc::clone(&relying_party));
        let shared = SharedTokens::new(ours, party, Arc::clone(&clock), Arc::clone(&metrics), threshold);
        let context = RenewalContext {
            hanging: Arc::clone(&shared.hanging),
            threshold,
            own_audience: entry.audience.clone(),
            resource_indicators: entry.audience_parameter == AudienceParameter::Resource,
            sessions,
            clock,
            metrics,
            down: BackOffs::new(),
            slow: BackOffs::new(),
            refused: BackOffs::new(),
            cached: settings.service_audiences.keys().map(String::as_str).chain([LOGIN]).map(named).collect(),
            relying_party,
        };
        let (flights, mapping) = (SingleFlight::default(), SingleFlight::default());
        Self { context: Arc::new(context), flights, unfinished: Unfinished::default(), shared, mapped, mapping }
    }

    /// The same in the place of `old`, which requests that began with it go on to use.
    #[must_use]
    pub fn after(mut self, old: &Self) -> Self {
        self.unfinished = old.unfinished.clone();
        self
    }

    /// The bearer that `policy` wants for this session; `Ok(None)` when it wants none.
    pub async fn bearer(&self, session: &Arc<Session>, policy: &TokenPolicy) -> Result<Option<Bearer>, NoBearer> {
        match self.at_hand(session, policy) {
            Some(bearer) => Ok(Some(bearer)),
            // Boxed, so that the future every request carries stays small.
            None => Box::pin(self.fetched(session, policy)).await,
        }
    }

    /// The token that the session holds, if it is fresh: then nobody is asked, and no token is copied.
    fn at_hand(&self, session: &Session, policy: &TokenPolicy) -> Option<Bearer> {
        let context = &self.context;
        let (held, label) = match policy {
            TokenPolicy::Session(need) => (context.held_for(session, need)?, &*need.service),
            TokenPolicy::SessionPassthrough { .. } => (context.aged(&session.tokens.login), LOGIN),
            _ => return None,
        };
        let bearer = held.0.bearer().filter(|_| held.1 == Freshness::Fresh)?;
        match context.cached.get(label) {
            Some(counter) => counter.get_or_init(|| context.lookups(label, CACHED)).inc(),
            None => context.lookups(label, CACHED).inc(),
        }
        Some(Bearer(bearer))
    }

    async fn fetched(&self, session: &Arc<Session>, policy: &TokenPolicy) -> Result<Option<Bearer>, NoBearer> {
        self.require_audience(policy)?;
        let token = match policy {
            TokenPolicy::None => return Ok(None),
            TokenPolicy::Session(need) => self.own_token(session, Target::Service(Arc::clone(need))).await?,
            TokenPolicy::SessionPassthrough { .. } => self.own_token(session, Target::Login).await?,
            TokenPolicy::ServiceToken { need, cache_ttl } => self.shared.service_token(need, *cache_ttl).await?,
            TokenPolicy::OnBehalfOf { need, cache_ttl } => {
                require_issuer(session, &self.context.relying_party)?;
                let subject = self.own_token(session, Target::Login).await?;
                self.shared.on_behalf_of(session, &subject, need, *cache_ttl).await?
            }
        };
        Bearer::of(&token).map(Some)
    }

    /// The bearer of a policy that asks for nobody's session; `Ok(None)` where it needs one.
    pub async fn service_bearer(&self, policy: &TokenPolicy) -> Result<Option<Bearer>, NoBearer> {
        let TokenPolicy::ServiceToken { need, cache_ttl } = policy else { return Ok(None) };
        self.require_audience(policy)?;
        let token = self.shared.service_token(need, *cache_ttl).await?;
        Bearer::of(&token).map(Some)
    }

    /// Fetches the token of every mapped service, one after the other, in the background.
    pub fn map_in_background(self: &Arc<Self>, session: Arc<Session>) {
        let broker = Arc::clone(self);
        self.mapping.start(session.key, || async move {
            for need in &broker.mapped {
                match broker.own_token(&session, Target::Service(Arc::clone(need))).await {
                    Err(NoBearer::NotAvailable(reason)) => {
                        tracing::warn!(service = %need.service, reason, token_found = false, "NO_TOKEN_AVAILABLE");
                    }
                    // Nothing is wrong with the configuration: the first request asks again.
                    Err(reason) => tracing::warn!(service = %need.service, %reason, "a service is not mapped yet"),
                    Ok(_) => tracing::debug!(service = %need.service, token_found = true, "a service is mapped"),
                }
            }
        });
    }

    /// A page asks for its services as soon as the login is over: waits until they are mapped, but not for long.
    pub async fn wait_until_mapped(&self, session: &SessionKey) {
        let _ = tokio::time::timeout(MAPPING, self.mapping.ended(session)).await;
    }

    /// Gives a refresh token back to the provider that nobody will use any more, in the background.
    pub fn revoke_in_background(&self, refresh_token: Secret) {
        let (party, begun) = (Arc::clone(&self.context.relying_party), self.unfinished.begin());
        tokio::spawn(async move {
            if let Err(error) = party.revoke(&refresh_token).await {
                tracing::warn!(%error, "a refresh token could not be revoked");
            }
            drop(begun);
        });
    }

    /// Renewals and revocations under way. What a renewal brings may be a session's only refresh token, whoever still waits
    /// for it.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished.count()
    }

    /// The services for which this session holds a working token now.
    #[must_use]
    pub fn mapped_services(&self, session: &Session) -> Vec<&str> {
        let works = |need: &&Arc<Need>| {
            let target = Target::Service(Arc::clone(need));
            self.context.held(session, &target).is_some_and(|(_, freshness)| freshness != Freshness::Over)
        };
        self.mapped.iter().filter(works).map(|need| &*need.service).collect()
    }

    /// A token for nobody in particular is sent to nobody, whatever the mode.
    fn require_audience(&self, policy: &TokenPolicy) -> Result<(), NoBearer> {
        let Some(need) = policy.need().filter(|need| need.audience.is_none()) else { return Ok(()) };
        self.context.lookups(&need.service, "none").inc();
        Err(NoBearer::NotAvailable(format!(
            "no audience is configured for service `{0}`: add `service_audiences.{0}` to settings.yaml, or say in the \
             `token_policy` of its route which `audience` it wants, or that it wants none (`mode: none`)",
            need.service
        )))
    }

    /// One of the session's own tokens, renewed or fetched when due. Each look-up counts once.
    async fn own_token(&self, session: &Arc<Session>, target: Target) -> Result<AccessToken, NoBearer> {
        let found = self.look_up(session, &target).await;
        let found = found.map_err(|reason| self.context.or_login(reason, session, &target));
        let result = match &found {
            Ok((_, result)) => result,
            Err(reason) => reason.result(),
        };
        self.context.count_lookup(&target, result);
        found.map(|(token, _result)| token)
    }

    /// With the token: whether it was there (`cached`) or this look-up fetched it (`minted`).
    async fn look_up(&self, session: &Arc<Session>, target: &Target) -> Result<(AccessToken, &'static str), NoBearer> {
        let mut current = Arc::clone(session);
        for _round in 0..ROUNDS {
            let context = &self.context;
            let still_works = match context.held(&current, target) {
                Some((token, Freshness::Fresh)) => return Ok((token.clone(), CACHED)),
                Some((token, Freshness::Due)) => Some((token.clone(), CACHED)),
                _ => None,
            };
            if let Some(known) = context.known_obstacle(&current.key, target) {
                return still_works.ok_or(known);
            }
            let patience = still_works.as_ref().map(|_| context.patience(&current.key));
            let works = || still_works.as_ref().is_some_and(|(token, _)| context.aged(token).1 != Freshness::Over);
            let Some((landed, ours)) = wait_for(self.fly(&current, target), patience, works).await else {
                context.slow.hold(current.key, (), BACK_OFF);
                context.hanging.outlasted(patience.unwrap_or_default());
                return still_works.ok_or_else(interrupted);
            };
            let still_works = works().then_some(still_works).flatten();
            let Some(landed) = landed else { return still_works.ok_or_else(interrupted) };
            match landed.outcome {
                Ok(renewed) => match context.held(&renewed, target) {
                    // As young as it gets, even where it is due again already.
                    Some((token, _)) if landed.target == *target => {
                        return Ok((token.clone(), if ours { MINTED } else { CACHED }));
                    }
                    _ => current = renewed,
                },
                Err(NoBearer::SessionEnded) => return Err(NoBearer::SessionEnded),
                Err(reason) if landed.target == *target => return still_works.ok_or(reason),
                Err(_of_another_service) => {}
            }
        }
        Err(NoBearer::ProviderDown("the token could not be renewed".to_owned()))
    }

    /// What the session's flight brought, and whether it was begun for this.
    async fn fly(&self, session: &Arc<Session>, target: &Target) -> (Option<Landed>, bool) {
        let (context, session, wanted) = (Arc::clone(&self.context), Arc::clone(session), target.clone());
        let mut ours = false;
        let landed = self.flights.run(session.key, || {
            ours = true;
            let begun = self.unfinished.begin();
            async move {
                let outcome = Renewal::new(&context, &session, &wanted).run().await;
                drop(begun);
                Landed { target: wanted, outcome }
            }
        });
        let landed = landed.await;
        (landed, ours)
    }
}

fn interrupted() -> NoBearer {
    NoBearer::ProviderDown("the renewal was interrupted".to_owned())
}
