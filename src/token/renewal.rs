//! One renewal of one session's token, from lease to compare-and-set. Runs in a task of its own: a
//! rotated refresh token must be stored even if everybody who wanted it has left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bearer::NoBearer;
use super::context::{BACK_OFF, RenewalContext, Target};
use super::freshness::Freshness;
use super::minted::landed;
use super::verdict::{Keys, misfit, refused};
use crate::config::Secret;
use crate::oidc::{Ask, GrantError, RelyingParty, TokenResponse};
use crate::session::{AccessToken, Lease, Session, Tokens, Updated};

/// How often a held lease is asked for again, and how often at the most.
const LEASE_POLL: Duration = Duration::from_millis(100);
const LEASE_POLLS: usize = 150;
/// Whoever waited so long for another process that brought nothing does not wait for the provider as long again: it was
/// not killed, it had no answer. More than a lease, and less than the provider is given: nobody comes as it is asked.
const IN_VAIN: Duration = Duration::from_secs(5);
/// How long a rotated refresh token is tried to be stored before it is given up.
const SAVE_POLL: Duration = Duration::from_millis(50);
const SAVE_TRIES: usize = 600;
/// What is noted for others is rounded up to whole seconds, and read a moment later.
const BACK_OFF_SLACK: Duration = Duration::from_secs(3);
/// How long a token that the provider refused is not asked for again.
const REFUSED: Duration = Duration::from_secs(60);

/// Why a renewal brought nothing.
struct Failed {
    reason: NoBearer,
    /// The provider refused the client and not the token. It is mended there, so nobody tells us, and asking costs no
    /// refresh token: it is asked again as soon as one that is down.
    of_client: bool,
}

impl From<NoBearer> for Failed {
    fn from(reason: NoBearer) -> Self {
        Self { reason, of_client: false }
    }
}

/// One session's token that is due.
pub(super) struct Renewal<'a> {
    context: &'a RenewalContext,
    session: &'a Session,
    target: &'a Target,
    /// Of its lease, and of the note beside it.
    name: String,
}

impl<'a> Renewal<'a> {
    pub(super) fn new(context: &'a RenewalContext, session: &'a Session, target: &'a Target) -> Self {
        Self { context, session, target, name: format!("refresh:{}", session.key.hex()) }
    }

    /// The session with a working token for `target`.
    pub(super) async fn run(&self) -> Result<Arc<Session>, NoBearer> {
        let begun = Instant::now();
        for _poll in 0..LEASE_POLLS {
            if let Some(lease) = self.context.sessions.lease(&self.name, Lease::SPAN).await? {
                let outcome = lease.hold(async {
                    // What it brought may be another of the session's tokens: then the provider answers.
                    if begun.elapsed() > IN_VAIN && self.reread(self.session).await?.version == self.session.version {
                        return Err(too_long());
                    }
                    self.in_turn().await
                });
                let outcome = outcome.await;
                lease.give_back().await;
                return outcome;
            }
            // Another process is at it: its result will be ours.
            tokio::time::sleep(LEASE_POLL).await;
            let current = self.reread(self.session).await?;
            if self.works(&current) {
                return Ok(current);
            }
        }
        Err(too_long())
    }

    /// Another replica may have failed a moment ago: then the provider is left alone here, too.
    async fn in_turn(&self) -> Result<Arc<Session>, NoBearer> {
        let (context, session) = (self.context, self.session);
        let backing_off = context.sessions.backing_off(&self.name).await?;
        // Nobody asks for longer: the clock was put back meanwhile.
        if let Some(left) = backing_off.filter(|left| *left <= BACK_OFF + BACK_OFF_SLACK) {
            let reason = "the provider just failed this session, and is left alone for a moment".to_owned();
            context.down.hold(session.key, reason.clone(), left);
            return Err(NoBearer::ProviderDown(reason));
        }
        let asked = Instant::now();
        let outcome = self.alone().await;
        // From when it was asked: one that let us wait for so long was left alone meanwhile.
        let pause = BACK_OFF.saturating_sub(asked.elapsed());
        self.note(&outcome, pause + jitter(session));
        let outcome = outcome.map_err(|failed| failed.reason);
        if matches!(outcome, Err(NoBearer::ProviderDown(_)))
            && !pause.is_zero()
            && let Err(error) = context.sessions.back_off(&self.name, pause).await
        {
            tracing::debug!(%error, "other replicas do not know that the provider fails");
        }
        outcome
    }

    async fn alone(&self) -> Result<Arc<Session>, Failed> {
        let mut current = self.reread(self.session).await?;
        if self.works(&current) {
            return Ok(current);
        }
        // A second try only if somebody else rotated the refresh token between our read and our request.
        for _try in 0..2 {
            let refresh_token = self.refresh_token(&current)?.clone();
            let answer = self.ask_provider(&current, &refresh_token).await;
            match answer {
                Ok(response) => return Ok(self.store(current, response).await?),
                // A single service that is refused leaves the others be; a login whose own token is, is over.
                Err(error @ GrantError::InvalidGrant { of_service, .. })
                    if !of_service || self.target.need().is_none() =>
                {
                    let latest = self.reread(&current).await?;
                    if latest.tokens.refresh_token.as_ref().is_some_and(|token| *token != refresh_token) {
                        current = latest;
                        continue;
                    }
                    return Err(self.end(&latest, "invalid_grant", &error).await.into());
                }
                Err(error @ GrantError::IdentityChanged) => {
                    return Err(self.end(&current, "identity_changed", &error).await.into());
                }
                Err(error) => {
                    let reason = self.refused(&current, &error);
                    self.salvage(current, &error).await?;
                    return Err(Failed { reason, of_client: error.about_client().is_some() });
                }
            }
        }
        Err(NoBearer::ProviderDown("the refresh token kept changing".to_owned()).into())
    }

    /// The refresh token, if asking for `target` with it can succeed: a provider that rotates spends it
    /// even when it then refuses the audience (`invalid_target`), so what is known to fail is not asked.
    fn refresh_token<'s>(&self, session: &'s Session) -> Result<&'s Secret, NoBearer> {
        let context = self.context;
        require_issuer(session, &context.relying_party)?;
        if let Target::Service(need) = self.target
            && context.resource_indicators
            && let Some(audience) = &need.audience
            && !session.tokens.granted_audiences.contains(audience)
        {
            let written = need.audience_key();
            if context.relying_party.refuses_audience(audience) {
                return Err(NoBearer::NotAvailable(format!(
                    "the provider refuses audience {audience} (invalid_target): allow it for client {} at the provider, \
                     or correct {written}, then log in again",
                    context.relying_party.config().client_id
                )));
            }
            return Err(NoBearer::NotAvailable(format!(
                "audience {audience} was not granted when this session logged in; if {written} is new, log in again; else \
                 the provider must allow it for this client"
            )));
        }
        session.tokens.refresh_token.as_ref().ok_or_else(|| {
            NoBearer::NotAvailable(
                "the provider issued no refresh token: `auth.oauth_scopes` in settings.yaml needs offline_access, \
                 and the provider must allow the refresh_token grant for this client"
                    .to_owned(),
            )
        })
    }

    async fn ask_provider(&self, session: &Session, refresh_token: &Secret) -> Result<TokenResponse, GrantError> {
        let context = self.context;
        let ask = match self.target {
            Target::Service(need) => Ask { audience: need.audience.as_deref(), scopes: &need.scopes },
            Target::Login => Ask { audience: context.login_audience(session), scopes: &[] },
        };
        let who = (session.identity.issuer.as_str(), session.identity.subject.as_str());
        let answer = context.relying_party.refresh(refresh_token, &ask, who).await;
        let status = if answer.is_ok() { "success" } else { "error" };
        context.metrics.token_refresh.with_label_values(&[self.target.label(), status]).inc();
        answer
    }

    fn refused(&self, session: &Session, error: &GrantError) -> NoBearer {
        let need = self.target.need();
        let audience = need.and_then(|need| need.audience.as_ref());
        let granted = audience.is_some_and(|one| session.tokens.granted_audiences.contains(one));
        let keys = if granted { Keys::Granted } else { Keys::Session };
        refused(error, self.context.relying_party.issuer(), need, keys)
    }

    /// Writes what the provider gave. Whatever happens, the rotated refresh token is not dropped while
    /// there is a session to keep it.
    async fn store(&self, current: Arc<Session>, response: TokenResponse) -> Result<Arc<Session>, NoBearer> {
        let target = self.target;
        let token = landed(&response, target.label(), self.context.clock.now());
        let unfit = misfit(target.need(), &token, Keys::Session);
        let change = |old: &Tokens| renewed(old, target, unfit.is_none().then(|| token.clone()), &response);
        let saved = self.save(current, response.refresh_token.as_ref(), change).await?;
        unfit.map_or(Ok(saved), Err)
    }

    /// What can be kept of an answer that brought no token to use: the rotated refresh token, for the next try.
    async fn salvage(&self, current: Arc<Session>, error: &GrantError) -> Result<(), NoBearer> {
        let session = current.log_id();
        if let Some(rotated) = error.rotated() {
            tracing::warn!(session, %error, "an unusable answer brought a new refresh token, which is kept");
            let change = |old: &Tokens| Tokens { refresh_token: Some(rotated.clone()), ..old.clone() };
            self.save(current, Some(rotated), change).await?;
        } else if error.answer_lost() {
            tracing::warn!(session, %error, "the answer to a refresh is lost: where refresh tokens rotate, a login may follow");
        }
        Ok(())
    }

    /// Compare-and-set until the change is in the store. A refresh token that finds no session is given back.
    async fn save(
        &self,
        mut current: Arc<Session>,
        rotated: Option<&Secret>,
        change: impl Fn(&Tokens) -> Tokens + Send + Sync,
    ) -> Result<Arc<Session>, NoBearer> {
        let context = self.context;
        for _try in 0..SAVE_TRIES {
            match context.sessions.update(&current, change(&current.tokens)).await {
                Ok(Updated::Saved(saved)) => return Ok(saved),
                Ok(Updated::Conflict(latest)) => current = latest,
                Ok(Updated::Gone) => {
                    // The grant of a session that was replaced may be its successor's.
                    let replaced = context.sessions.was_replaced(&current).await.unwrap_or(true);
                    if let Some(orphan) = rotated.filter(|_| !replaced) {
                        let _ = context.relying_party.revoke(orphan).await;
                    }
                    return Err(NoBearer::SessionEnded);
                }
                Err(error) => {
                    tracing::error!(%error, "a renewed token cannot be stored; trying again");
                    tokio::time::sleep(SAVE_POLL).await;
                }
            }
        }
        tracing::error!(session = %current.log_id(), "a renewed token was not stored; this user must log in again");
        Err(NoBearer::StoreDown("the renewed token could not be stored".to_owned()))
    }

    /// Remembers what need not be tried again at once, and before `pause` is over where the provider is down.
    fn note(&self, outcome: &Result<Arc<Session>, Failed>, pause: Duration) {
        let (context, session) = (self.context, self.session);
        let Err(failed) = outcome else {
            context.down.lift(&session.key);
            context.slow.lift(&session.key);
            context.hanging.landed();
            return;
        };
        match &failed.reason {
            NoBearer::NotAvailable(reason) => {
                let span = if failed.of_client { pause } else { REFUSED };
                context.refused.hold((session.key, self.target.clone()), reason.clone(), span);
            }
            NoBearer::ProviderDown(reason) => context.down.hold(session.key, reason.clone(), pause),
            _ => {}
        }
    }

    fn works(&self, session: &Session) -> bool {
        self.context.held(session, self.target).is_some_and(|(_, freshness)| freshness == Freshness::Fresh)
    }

    async fn reread(&self, session: &Session) -> Result<Arc<Session>, NoBearer> {
        self.context.sessions.reread(session).await?.ok_or(NoBearer::SessionEnded)
    }

    async fn end(&self, session: &Session, reason: &'static str, error: &GrantError) -> NoBearer {
        let (id, service) = (session.log_id(), self.target.label());
        tracing::warn!(session = %id, service, reason, %error, "the provider ended this session");
        self.context.sessions.end(session, reason).await.map_or_else(NoBearer::from, |_| NoBearer::SessionEnded)
    }
}

fn too_long() -> NoBearer {
    NoBearer::ProviderDown("another process has been renewing this session for too long".to_owned())
}

/// What one issuer gave is never shown to another: idps.yaml or `auth.idp` may have changed since the login.
pub(super) fn require_issuer(session: &Session, party: &RelyingParty) -> Result<(), NoBearer> {
    let (issuer, named) = (session.identity.issuer.as_str(), party.issuer());
    if issuer == named {
        return Ok(());
    }
    Err(NoBearer::NotAvailable(format!(
        "this session is of issuer {issuer}, and users log in at {named} now (entry `{}` of idps.yaml): log in again",
        party.name()
    )))
}

fn renewed(old: &Tokens, target: &Target, token: Option<AccessToken>, response: &TokenResponse) -> Tokens {
    let mut tokens = old.clone();
    match (target, token) {
        (Target::Service(need), Some(token)) => {
            tokens.services.insert(need.place.to_string(), Box::new(token));
        }
        (Target::Login, Some(token)) => tokens.login = token,
        (_, None) => {}
    }
    // No new one: the old one stays valid (RFC 6749 §6).
    if let Some(refresh_token) = &response.refresh_token {
        tokens.refresh_token = Some(refresh_token.clone());
    }
    if let Some(id_token) = &response.id_token {
        tokens.id_token = id_token.clone();
    }
    tokens
}

/// Spreads the sessions that wait for the same provider over three quarters of a second.
fn jitter(session: &Session) -> Duration {
    let byte = session.key.0.first().copied().unwrap_or_default();
    Duration::from_millis(u64::from(byte) * 3)
}
