//! `POST /auth/backchannel-logout`: the provider ends sessions without a browser
//! (OpenID Connect Back-Channel Logout 1.0 §2.5 to §2.8).

use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;
use url::form_urlencoded;

use super::{Asked, Endpoints, refused_by_store};
use crate::oidc::{LogoutNotice, LogoutTokenError};
use crate::reply::{ProxyError, Reply};
use crate::resilience::UnixTime;
use crate::session::{FLOW_LIFETIME, Selector, StoreError};

/// The label of `bff_sessions_destroyed_total`.
const REASON: &str = "backchannel_logout";

impl Endpoints {
    pub(super) async fn backchannel_logout(&self, asked: Asked<'_>) -> Result<Reply, ProxyError> {
        let Some(token) = logout_token(asked) else {
            return Ok(refused("a form with exactly one logout_token is needed", asked));
        };
        let notice = match self.relying_party.read_logout_token(&token).await {
            Ok(notice) => notice,
            Err(error @ LogoutTokenError::NotChecked(_)) => {
                return Err(ProxyError::UpstreamAuthFailed(error.to_string()));
            }
            Err(error) => return Ok(refused(&error.to_string(), asked)),
        };
        match self.heed(&notice, asked).await {
            // Nobody of that name here is as good: the provider asks every client of the login.
            Ok(Some(ended)) => {
                tracing::info!(correlation_id = asked.correlation_id, ended, "the provider ended a login");
                Ok(Reply::empty(StatusCode::OK))
            }
            Ok(None) => Ok(refused("the logout token was used before (jti)", asked)),
            Err(error) => {
                tracing::error!(%error, correlation_id = asked.correlation_id, "a back-channel logout cannot be done");
                Err(refused_by_store(&error))
            }
        }
    }

    /// How many sessions ended; `None` when this notice was heeded before.
    async fn heed(&self, notice: &LogoutNotice, asked: Asked<'_>) -> Result<Option<usize>, StoreError> {
        let id = format!("{} {}", notice.issuer, notice.id);
        let claim = match self.sessions.claim(&id).await {
            Ok(None) => return Ok(None),
            Ok(claim) => claim,
            // A store that is full still forgets: better heeded twice than not at all.
            Err(error) if error.full => None,
            Err(error) => return Err(error),
        };
        if let Some(mark) = mark(notice)
            && let Err(error) = self.sessions.mark(&mark, self.no_login_left(notice)).await
        {
            let correlation_id = asked.correlation_id;
            tracing::warn!(%error, correlation_id, "a login that is being completed at this moment may outlive its logout");
        }
        let Some(selector) = selector(notice) else { return Ok(Some(0)) };
        let ended = self.sessions.end_all(&selector, REASON).await;
        if ended.is_err() {
            // What was not done may be asked for again.
            if let Some(claim) = claim {
                let _ = self.sessions.release_claim(claim).await;
            }
        } else if let Err(error) = self.sessions.mark(&id, notice.refused_from).await {
            let correlation_id = asked.correlation_id;
            tracing::error!(%error, correlation_id, "a logout token was heeded, and cannot be noted as used (jti)");
        }
        ended.map(Some)
    }

    /// When no login is under way any more that had begun by now. A provider's tokens may live for a minute.
    fn no_login_left(&self, notice: &LogoutNotice) -> UnixTime {
        notice.refused_from.max(self.clock.now().plus(FLOW_LIFETIME))
    }
}

/// What is told of a login that has ended at the provider: its session may come a moment later.
pub(super) fn ended_login(issuer: &str, sid: &str) -> String {
    format!("ended login {} {issuer} {sid}", issuer.len())
}

/// The same of all of a person's.
pub(super) fn ended_person(issuer: &str, subject: &str) -> String {
    format!("ended person {} {issuer} {subject}", issuer.len())
}

fn mark(notice: &LogoutNotice) -> Option<String> {
    let of_login = notice.idp_session.as_ref().map(|sid| ended_login(&notice.issuer, sid));
    of_login.or_else(|| notice.subject.as_ref().map(|subject| ended_person(&notice.issuer, subject)))
}

/// §2.4: with a `sid` that one login has ended, without one all of the person's.
fn selector(notice: &LogoutNotice) -> Option<Selector> {
    let issuer = notice.issuer.clone();
    let of_login = notice.idp_session.clone().map(|sid| Selector::IdpSession { issuer: issuer.clone(), sid });
    of_login.or_else(|| notice.subject.clone().map(|subject| Selector::Subject { issuer, subject }))
}

fn logout_token(asked: Asked<'_>) -> Option<String> {
    let kind = asked.header(CONTENT_TYPE.as_str())?.split(';').next()?.trim().to_ascii_lowercase();
    if kind != "application/x-www-form-urlencoded" {
        return None;
    }
    let mut tokens = form_urlencoded::parse(asked.body).filter(|(name, _)| name == "logout_token");
    let token = tokens.next()?.1.into_owned();
    tokens.next().is_none().then_some(token)
}

/// §2.8.
fn refused(reason: &str, asked: Asked<'_>) -> Reply {
    tracing::warn!(reason, correlation_id = asked.correlation_id, "a back-channel logout was refused");
    let body = json!({ "error": "invalid_request", "error_description": reason });
    Reply::json(StatusCode::BAD_REQUEST, &body)
}
