//! `GET /auth/login`: starts a flow. The flow lives on our side, under its `state`; the browser is
//! bound to it by a cookie of the flow's own, so that two tabs can log in at once.

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::{Asked, Endpoints, return_to};
use crate::oidc::{Flow, LoginAsk};
use crate::reply::{ProxyError, Reply, login_url, message_page};
use crate::session::{Crowded, FLOW_LIFETIME, FlowBinding, Moment, Reading};

/// More logins at once than a person has tabs for: older ones are given up.
const LIVE_FLOWS: usize = 5;

/// Says in the query that this is the second try of a login.
const AGAIN: &str = "again";

/// A flow as kept between the two requests of a login.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptFlow {
    pub(super) flow: Flow,
    /// What the flow's cookie must carry.
    pub(super) binding: FlowBinding,
    /// It is the second try of a login. Kept here: the browser may keep no cookies.
    #[serde(default)]
    pub(super) again: bool,
    /// The session that the browser's cookie named then, alive or not: its key, in hex.
    #[serde(default)]
    pub(super) had: Option<String>,
    /// When it began. `None` in a flow of before this was kept.
    #[serde(default)]
    pub(super) begun: Option<Moment>,
}

impl Endpoints {
    pub(super) async fn login(&self, asked: Asked<'_>) -> Result<Reply, ProxyError> {
        if asked.is_ahead() {
            // At a provider of the same site that knows the person it would be completed, and end the session there is.
            return Err(ProxyError::CsrfFailed(
                "a login begins with a click, and is not fetched ahead of it".to_owned(),
            ));
        }
        let said = |name: &str| form_urlencoded::parse(asked.query().as_bytes()).find(|(key, _)| key == name);
        let wanted = said("return_to").map(|(_, value)| value.into_owned()).unwrap_or_default();
        let return_to = return_to::safe(&wanted, &self.public_url, &self.allowed_redirect_hosts);
        if self.was_just_logged_in(asked).await {
            return Ok(Reply::redirect(&return_to));
        }
        Ok(self.begin(asked, return_to, said(AGAIN).is_some()).await)
    }

    /// Whether a script of ours, and no person, wants a login where there has just been one. It was told 401 for a request
    /// that was under way when another tab's login replaced its session. A new one would end that tab's, which would be told
    /// 401 as well: tabs that lose their session together would go on like that for ever.
    async fn was_just_logged_in(&self, asked: Asked<'_>) -> bool {
        let by_script = asked.header("sec-fetch-site") == Some("same-origin")
            && asked.header("sec-fetch-mode") == Some("navigate")
            && asked.header("sec-fetch-user").is_none();
        by_script
            && self
                .session_of(asked.parts, &asked.correlation_id)
                .await
                .is_ok_and(|session| self.sessions.is_new(&session))
    }

    /// Sends the browser to the provider; a page if that cannot be. `again`: in the place of a login that came to nothing.
    pub(super) async fn begin(&self, asked: Asked<'_>, return_to: String, again: bool) -> Reply {
        let retry = login_url(&return_to);
        if let Some(client) = asked.client
            && let Err(crowded) = self.sessions.enter_login(client)
        {
            return crowded_page(crowded, &retry, asked);
        }
        self.begin_flow(asked, return_to, again, &retry).await.unwrap_or_else(|failed| {
            asked.client.inspect(|client| self.sessions.leave_login(*client));
            failed
        })
    }

    /// `Err`: no flow was begun, and this page says why.
    async fn begin_flow(&self, asked: Asked<'_>, return_to: String, again: bool, retry: &str) -> Result<Reply, Reply> {
        let ask = LoginAsk { audiences: self.audiences.clone(), scopes: self.service_scopes.clone(), return_to };
        // The login of a flow that only begins has not ended: what is marked in this very moment is another of that name.
        let begun = Some(self.sessions.moment().next_after());
        let (url, flow) =
            self.relying_party.begin_login(ask).await.map_err(|error| provider_page(&error, retry, asked))?;
        let state = flow.state.expose().to_owned();
        let paused = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, correlation_id = asked.correlation_id, "a login cannot be started");
            store_page(retry, asked)
        };
        let (cookie_value, binding) = FlowBinding::generate().map_err(|error| paused(&error))?;
        let had = self.named_session(asked);
        let kept = serde_json::to_vec(&KeptFlow { flow, binding, again, had, begun }).unwrap_or_default();
        self.sessions.put_flow(&state, &kept, FLOW_LIFETIME).await.map_err(|error| paused(&error))?;
        let flow_id = FlowBinding::id(&state);
        let mut reply = Reply::redirect(url.as_str()).with_cookie(self.cookies.flow_set(&flow_id, &cookie_value).ok());
        let live = self.cookies.flow_ids(&asked.parts.headers);
        for stale in live.iter().take((live.len() + 1).saturating_sub(LIVE_FLOWS)) {
            reply = reply.with_cookie(self.cookies.flow_expire(stale).ok());
        }
        Ok(reply)
    }

    /// The key of the session that the browser's cookie names, in hex.
    fn named_session(&self, asked: Asked<'_>) -> Option<String> {
        match self.cookies.read(&asked.parts.headers) {
            Reading::One(token) => Some(token.session_key().hex()),
            Reading::None | Reading::Malformed | Reading::Duplicate => None,
        }
    }
}

/// [`login_url`] after a login that came to nothing, for a browser that may keep no cookies to say so.
pub(super) fn login_url_again(return_to: &str) -> String {
    format!("{}&{AGAIN}=1", login_url(return_to))
}

pub(super) fn provider_page(error: &dyn std::fmt::Display, retry: &str, asked: Asked<'_>) -> Reply {
    tracing::error!(%error, correlation_id = asked.correlation_id, "the identity provider cannot be used");
    let text = "You cannot be logged in right now. Nothing is lost; try again in a moment.";
    try_again(StatusCode::BAD_GATEWAY, "5", "The login service does not answer", text, retry, asked)
}

/// The provider says itself that it cannot go on.
pub(super) fn trouble_page(status: StatusCode, error: &dyn std::fmt::Display, retry: &str, asked: Asked<'_>) -> Reply {
    tracing::error!(%error, correlation_id = asked.correlation_id, "the identity provider is in trouble");
    let text = "It could not complete this login, and you have not been refused; try again in a moment.";
    try_again(status, "5", "The login service is in trouble", text, retry, asked)
}

/// In so many `seconds`.
fn try_again(
    status: StatusCode,
    seconds: &'static str,
    title: &str,
    text: &str,
    retry: &str,
    asked: Asked<'_>,
) -> Reply {
    message_page(status, title, text, retry, asked.correlation_id).with(RETRY_AFTER, HeaderValue::from_static(seconds))
}

/// A flood of logins must not fill the store with flows.
fn crowded_page(crowded: Crowded, retry: &str, asked: Asked<'_>) -> Reply {
    tracing::warn!(reason = %crowded, correlation_id = asked.correlation_id, "a login is not begun");
    let status = match crowded {
        Crowded::Address => StatusCode::TOO_MANY_REQUESTS,
        Crowded::All => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text =
        "Many logins have been begun and not finished. If you were logged in, you still are; try again in a minute.";
    try_again(status, "60", "Too many logins at once", text, retry, asked)
}

pub(super) fn store_page(retry: &str, asked: Asked<'_>) -> Reply {
    let text = "Sessions cannot be stored right now. If you were logged in, you still are; try again in a moment.";
    try_again(StatusCode::SERVICE_UNAVAILABLE, "1", "Logins are paused", text, retry, asked)
}
