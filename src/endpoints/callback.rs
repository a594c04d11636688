//! `GET /auth/callback`: completes a flow, once. Whatever goes wrong ends in a page with a way on,
//! never in a loop, and never in a session.

use std::sync::Arc;

use http::StatusCode;

use super::backchannel_logout::{ended_login, ended_person};
use super::login::{KeptFlow, login_url_again, provider_page, store_page, trouble_page};
use super::{Asked, Endpoints};
use crate::config::Secret;
use crate::oidc::{CallbackParams, Login, LoginError};
use crate::reply::{LOGIN, ProxyError, Reply, login_url, message_page, onward_page};
use crate::resilience::UnixTime;
use crate::session::{FlowBinding, Identity, Moment, NewSession, Reading, Session, SessionKey, StoreError, Tokens};
use crate::token::access_token;

/// Marks a browser whose login was restarted once already.
const RESTARTED: &str = "restarted";

impl Endpoints {
    pub(super) async fn callback(&self, asked: Asked<'_>) -> Reply {
        let params = match CallbackParams::parse(asked.query()) {
            Ok(params) => params,
            Err(error) => return refused(&error.to_string(), "/", asked),
        };
        let Some(state) = params.state.as_ref().map(|state| state.expose().to_owned()) else {
            return refused("the answer carries no state", "/", asked);
        };
        let kept = match self.sessions.take_flow(&state).await {
            Ok(Some(bytes)) => serde_json::from_slice::<KeptFlow>(&bytes).ok(),
            Ok(None) => None,
            Err(error) => {
                tracing::error!(%error, correlation_id = asked.correlation_id, "a login cannot be completed");
                return store_page(LOGIN, asked);
            }
        };
        let Some(kept) = kept else { return self.stale(asked).await };
        asked.client.inspect(|client| self.sessions.leave_login(*client));
        let flow_id = FlowBinding::id(&state);
        let reply = match self.cookies.flow_read(&asked.parts.headers, &flow_id) {
            Some(value) if kept.binding.matches(value) => self.complete(asked, kept, &params).await,
            Some(_) => refused("this login was started in another browser", &login_url(&kept.flow.return_to), asked),
            None => self.unbound(asked, kept.flow.return_to, kept.again).await,
        };
        reply.with_cookie(self.cookies.flow_expire(&flow_id).ok())
    }

    /// The flow's cookie was given up for those of younger tabs, or was never here. Nothing of this login is used: it is
    /// spent, and the code with it; a new one belongs to the browser that begins it, if that keeps cookies at all.
    async fn unbound(&self, asked: Asked<'_>, return_to: String, again: bool) -> Reply {
        let (retry, anew) = (login_url(&return_to), login_url_again(&return_to));
        let ways = [return_to.as_str(), &retry, &anew];
        self.once_more(asked, "this browser does not keep the cookie of its login", Some(again), ways).await
    }

    /// Back button, reload, bookmark: the flow is used up or too old.
    async fn stale(&self, asked: Asked<'_>) -> Reply {
        self.once_more(asked, "this login has expired", None, ["/", "/", LOGIN]).await
    }

    /// A login that comes to nothing is begun anew, but not for ever. `again`: whether this was its second try, where the
    /// flow is there to say so; else a cookie does, for all that the browser has. The ways: where a session goes on,
    /// where a person may try again, where it begins anew.
    async fn once_more(&self, asked: Asked<'_>, why: &str, again: Option<bool>, ways: [&str; 3]) -> Reply {
        let [on, retry, anew] = ways;
        match self.session_of(asked.parts, &asked.correlation_id).await {
            Ok(_session) => Reply::redirect(on),
            Err(ProxyError::StoreUnavailable | ProxyError::StoreFull) => store_page(retry, asked),
            Err(_none) if again.unwrap_or_else(|| self.restarted(asked)) => {
                refused(why, retry, asked).with_cookie(self.cookies.flow_expire(RESTARTED).ok())
            }
            Err(_none) => {
                tracing::info!(why, correlation_id = asked.correlation_id, "a stale callback: the login starts again");
                let mark = self.cookies.flow_set(RESTARTED, "1").ok();
                Reply::redirect(anew).with_cookie(mark.filter(|_| again.is_none()))
            }
        }
    }

    fn restarted(&self, asked: Asked<'_>) -> bool {
        self.cookies.flow_read(&asked.parts.headers, RESTARTED).is_some()
    }

    async fn complete(&self, asked: Asked<'_>, kept: KeptFlow, params: &CallbackParams) -> Reply {
        let KeptFlow { flow, again, had, begun, .. } = kept;
        let brought = self.sessions.moment();
        let (return_to, since) = (flow.return_to.clone(), flow.created_at);
        let retry = login_url(&return_to);
        let wanted = flow.audiences.clone();
        let login = match self.relying_party.finish_login(flow, params).await {
            Ok(login) => login,
            Err(error) if !again && self.goes_if_begun_anew(&error, &wanted).await => {
                return self.begin(asked, return_to, true).await;
            }
            Err(error) => return login_failed(&error, &retry, asked),
        };
        let previous = self.cookies.read(&asked.parts.headers);
        if self.came_meanwhile(&previous, since, had.as_deref(), &login).await {
            tracing::info!(
                correlation_id = asked.correlation_id,
                "another tab has logged in meanwhile: its session is kept"
            );
            return self.go_on(asked, &return_to).with_cookie(self.cookies.flow_expire(RESTARTED).ok());
        }
        // A strict cookie does not come along with the provider's redirect: then nobody knows.
        let alone = matches!(previous, Reading::None) && !self.cookies.is_strict();
        let orphan = login.tokens.refresh_token.clone().filter(|_| alone);
        let (cookie, session) = match self.sessions.create(new_session(login)).await {
            Ok(created) => created,
            Err(error) => return self.not_stored(&error, orphan, &retry, asked),
        };
        match self.ended_meanwhile(&session, begun, brought).await {
            Ok(false) => {}
            Ok(true) => {
                self.end_unseen(&session, "backchannel_logout", asked).await;
                return refused("the provider has ended this login meanwhile", &retry, asked);
            }
            Err(error) => {
                self.end_unseen(&session, "unconfirmed", asked).await;
                return self.not_stored(&error, orphan, &retry, asked);
            }
        }
        self.end_previous(previous, had.as_deref(), asked).await;
        self.end_oldest(&session, asked).await;
        self.greet(asked, session);
        self.go_on(asked, &return_to)
            .with_cookie(Some(self.cookies.set(&cookie)))
            .with_cookie(self.cookies.flow_expire(RESTARTED).ok())
    }

    /// Whether the browser got its session while this login was under way, by another tab's login of the same person at
    /// the same provider's session. A new one would end it, and its tab would be told 401, and log in once more, which ends
    /// the next tab's: tabs that lose their session together would go on like that for ever.
    async fn came_meanwhile(&self, previous: &Reading, since: UnixTime, had: Option<&str>, login: &Login) -> bool {
        let Reading::One(token) = previous else { return false };
        if had == Some(token.session_key().hex().as_str()) {
            return false;
        }
        let Ok(Some(session)) = self.sessions.find(token).await else { return false };
        // A strict cookie may have been here without being sent, where another site led to the login.
        if session.created_at < since {
            return false;
        }
        let who = &session.identity;
        who.issuer == login.issuer && who.subject == login.subject && session.idp_session == login.idp_session
    }

    /// The provider refused an audience, which is left out from now on; or idps.yaml names another one meanwhile.
    async fn goes_if_begun_anew(&self, error: &LoginError, wanted: &[String]) -> bool {
        match error {
            LoginError::Denied { error, .. } if error == "invalid_target" => {
                self.relying_party.sort_out_audiences(wanted).await
            }
            error => *error == LoginError::WrongProvider,
        }
    }

    /// A redirect; but the provider's site began this navigation, so that a browser would follow it
    /// without a strict cookie (RFC 6265bis §5.2), to be sent to the login again. A page of ours begins anew.
    fn go_on(&self, asked: Asked<'_>, target: &str) -> Reply {
        if self.cookies.is_strict() && asked.header("sec-fetch-site") == Some("cross-site") {
            onward_page(target)
        } else {
            Reply::redirect(target)
        }
    }

    fn greet(&self, asked: Asked<'_>, session: Arc<Session>) {
        tracing::info!(
            correlation_id = asked.correlation_id,
            session = %session.log_id(),
            provider = %session.identity.provider,
            refresh_token = session.tokens.refresh_token.is_some(),
            "login completed"
        );
        self.broker.map_in_background(session);
    }

    /// The browser gets a new session at every login: the one it had must not live on unseen. Its refresh token is not
    /// revoked: providers revoke the whole grant with it (RFC 7009 §2.1), which the logins of one browser may share. `had`:
    /// what it had as the login began; a strict cookie does not come along with the provider's redirect.
    async fn end_previous(&self, previous: Reading, had: Option<&str>, asked: Asked<'_>) {
        let old = match previous {
            Reading::One(token) => self.sessions.find(&token).await.map(|found| found.map(|old| old.key)),
            Reading::None => Ok(had.and_then(|key| SessionKey::of_hex(key.as_bytes()))),
            Reading::Malformed | Reading::Duplicate => return,
        };
        let ended = match old {
            Ok(Some(old)) => self.sessions.replace(&old).await.map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            let correlation_id = asked.correlation_id;
            tracing::warn!(%error, correlation_id, "the browser's earlier session could not be ended");
        }
    }

    /// One person has only so many sessions: the oldest give way.
    async fn end_oldest(&self, newest: &Session, asked: Asked<'_>) {
        let correlation_id = asked.correlation_id;
        match self.sessions.end_oldest(newest).await {
            Ok(0) => {}
            Ok(ended) => {
                let session = newest.log_id();
                tracing::info!(ended, session, correlation_id, "older sessions gave way");
            }
            Err(error) => tracing::warn!(%error, correlation_id, "this person's older sessions could not be counted"),
        }
    }

    /// The provider may have ended the login while it was completed here: its word found no session then. One login may
    /// have ended at any time since it `begun`, for a code outlives it; a person whose logins have ended may have come back
    /// until the code was `brought`.
    async fn ended_meanwhile(
        &self,
        session: &Session,
        begun: Option<Moment>,
        brought: Moment,
    ) -> Result<bool, StoreError> {
        let (issuer, person) = (&session.identity.issuer, &session.identity.subject);
        let of_login = session.idp_session.as_ref().map(|sid| (ended_login(issuer, sid), begun.unwrap_or(brought)));
        for (mark, since) in of_login.into_iter().chain([(ended_person(issuer, person), brought)]) {
            if self.sessions.marked_since(&mark, since).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends a session whose cookie no browser will get.
    async fn end_unseen(&self, session: &Session, reason: &'static str, asked: Asked<'_>) {
        if let Err(error) = self.sessions.end(session, reason).await {
            tracing::error!(%error, correlation_id = asked.correlation_id, "a session could not be ended");
        }
    }

    /// What the provider gave and nobody can keep is given back, unless the browser may have a session of the same grant.
    fn not_stored(&self, error: &StoreError, orphan: Option<Secret>, retry: &str, asked: Asked<'_>) -> Reply {
        tracing::error!(%error, correlation_id = asked.correlation_id, "a login succeeded but cannot be stored");
        if let Some(orphan) = orphan {
            self.broker.revoke_in_background(orphan);
        }
        store_page(retry, asked)
    }
}

fn new_session(login: Login) -> NewSession {
    let token = access_token(&login.tokens);
    NewSession {
        identity: Identity {
            issuer: login.issuer,
            subject: login.subject,
            provider: login.provider,
            claims: login.claims,
        },
        idp_session: login.idp_session,
        authenticated_at: login.authenticated_at,
        tokens: Tokens {
            id_token: login.id_token,
            refresh_token: login.tokens.refresh_token,
            login: token,
            services: std::collections::BTreeMap::new(),
            granted_audiences: login.audiences,
        },
    }
}

fn login_failed(error: &LoginError, retry: &str, asked: Asked<'_>) -> Reply {
    if error.is_provider_down() {
        return provider_page(error, retry, asked);
    }
    let LoginError::Denied { error: code, description } = error else {
        return refused(&with_hint(error), retry, asked);
    };
    if let Some(status) = trouble(code) {
        return trouble_page(status, error, retry, asked);
    }
    tracing::warn!(%error, correlation_id = asked.correlation_id, "the provider refused a login");
    let text = format!("The login service refused: {} ({code})", description.as_deref().unwrap_or("no reason given"));
    message_page(StatusCode::FORBIDDEN, "You were not logged in", &text, retry, asked.correlation_id)
}

/// What is wrong, and what to look at where it is about our client.
fn with_hint(error: &LoginError) -> String {
    match error {
        LoginError::Token(grant) => grant.about_client().map(|hint| format!("{error}; {hint}")),
        _ => None,
    }
    .unwrap_or_else(|| error.to_string())
}

/// RFC 6749 §4.1.2.1: the codes that stand for a 500 and a 503, which a redirect cannot be.
fn trouble(code: &str) -> Option<StatusCode> {
    match code {
        "server_error" => Some(StatusCode::BAD_GATEWAY),
        "temporarily_unavailable" => Some(StatusCode::SERVICE_UNAVAILABLE),
        _ => None,
    }
}

fn refused(reason: &str, retry: &str, asked: Asked<'_>) -> Reply {
    tracing::warn!(reason, correlation_id = asked.correlation_id, "a login was rejected");
    message_page(
        StatusCode::BAD_REQUEST,
        "This login cannot be completed",
        "The answer of the login service did not fit. You have not been logged in.",
        retry,
        asked.correlation_id,
    )
}
