//! What we answer ourselves on the public port: login, callback, logout, session, ForwardAuth and
//! health. Nothing here knows the engine: a request's parts come in, a [`Reply`] goes out.

pub mod admin;
mod backchannel_logout;
mod callback;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod health;
mod login;
mod logout;
pub(crate) mod return_to;
mod session_status;
mod verify;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use http::{HeaderValue, Method, request};
use url::Url;

use crate::legacy::Facade;
use crate::oidc::RelyingParty;
use crate::reply::{ProxyError, Reply};
use crate::resilience::Clock;
use crate::session::{Reading, Session, SessionCookie, Sessions, StoreError};
use crate::telemetry::Metrics;
use crate::token::TokenBroker;

/// One of our own paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `GET /auth/login`
    Login,
    /// `GET /auth/callback`
    Callback,
    /// `GET /auth/session`, `/api/auth/session`
    SessionStatus,
    /// `POST /auth/logout`, `GET` for same-origin navigations
    Logout,
    /// `POST /auth/backchannel-logout`
    BackchannelLogout,
    /// `GET /auth/verify`, `/auth/forward`
    Verify,
    /// `GET /api/v1/proxy/health`
    FacadeHealth,
    /// `GET /health/live`
    Live,
    /// `GET /health/ready`, `/health`, `/auth/health`
    Ready,
}

impl Endpoint {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Login,
        Self::Callback,
        Self::SessionStatus,
        Self::Logout,
        Self::BackchannelLogout,
        Self::Verify,
        Self::FacadeHealth,
        Self::Live,
        Self::Ready,
    ];

    /// Our endpoint at `path`, if it is one of ours.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.paths().contains(&path))
    }

    /// Where it is; `config` keeps routes away from there.
    fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Login => &["/auth/login"],
            Self::Callback => &["/auth/callback"],
            Self::SessionStatus => &["/auth/session", "/api/auth/session"],
            Self::Logout => &["/auth/logout"],
            Self::BackchannelLogout => &["/auth/backchannel-logout"],
            Self::Verify => &["/auth/verify", "/auth/forward"],
            Self::FacadeHealth => &["/api/v1/proxy/health"],
            Self::Live => &["/health/live"],
            Self::Ready => &["/health/ready", "/health", "/auth/health"],
        }
    }

    /// The `endpoint` label of metrics and the `route` of the access log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "auth-login",
            Self::Callback => "auth-callback",
            Self::SessionStatus => "auth-session",
            Self::Logout => "auth-logout",
            Self::BackchannelLogout => "auth-backchannel-logout",
            Self::Verify => "auth-verify",
            Self::FacadeHealth => "legacy-health",
            Self::Live => "health-live",
            Self::Ready => "health-ready",
        }
    }

    /// What it takes, for 405.
    #[must_use]
    pub fn methods(self) -> &'static [Method] {
        const READ: &[Method] = &[Method::GET, Method::HEAD];
        const LOGOUT: &[Method] = &[Method::GET, Method::POST];
        match self {
            // A HEAD changes nothing (RFC 9110 §9.2.1), and these do.
            Self::Login | Self::Callback => &[Method::GET],
            Self::Logout => LOGOUT,
            Self::BackchannelLogout => &[Method::POST],
            // Other proxies send the original method to a ForwardAuth address: any will do.
            Self::Verify => &[],
            _ => READ,
        }
    }

    /// 405 where it does not take this method.
    pub(crate) fn require_method(self, method: &Method) -> Result<(), ProxyError> {
        let methods = self.methods();
        if methods.is_empty() || methods.contains(method) {
            return Ok(());
        }
        Err(ProxyError::MethodNotAllowed { allow: methods.to_vec() })
    }

    /// Bytes of a body that is read before the answer; `None`: bodies mean nothing here.
    #[must_use]
    pub fn body_limit(self) -> Option<u64> {
        // A logout token and its form.
        (self == Self::BackchannelLogout).then_some(64 * 1024)
    }

    /// Whether it says how we are: asked when nothing else may be.
    #[must_use]
    pub fn is_health(self) -> bool {
        matches!(self, Self::Live | Self::Ready)
    }

    /// Whether it matters here who asks: logins under way are bounded for each address.
    #[must_use]
    pub fn is_login(self) -> bool {
        matches!(self, Self::Login | Self::Callback)
    }

    /// Whether the browser's session may act here, so that other sites must be kept out. The provider
    /// calls its endpoint without a browser, and no cookie is looked at there.
    #[must_use]
    pub fn acts_by_session(self) -> bool {
        self != Self::BackchannelLogout
    }
}

/// A request to one of our endpoints.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Method, target and headers as received.
    pub parts: &'a request::Parts,
    /// The whole body where [`Endpoint::body_limit`] asks for it, else empty.
    pub body: &'a [u8],
    /// Who asks, where [`Endpoint::is_login`] wants to know it, and somebody knows.
    pub client: Option<IpAddr>,
    /// For pages and errors.
    pub correlation_id: &'a str,
}

impl Asked<'_> {
    pub(crate) fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the browser asks before anybody has clicked; older ones have words of their own for it.
    fn is_ahead(&self) -> bool {
        let ahead = |name| self.header(name).is_some_and(|purpose| purpose.contains("prefetch"));
        ["sec-purpose", "purpose", "x-moz"].into_iter().any(ahead)
    }
}

/// A store's error as the client is told it; the log has the rest.
fn refused_by_store(error: &StoreError) -> ProxyError {
    if error.full { ProxyError::StoreFull } else { ProxyError::StoreUnavailable }
}

/// The runtime objects our endpoints work with. Shared as `Arc<Endpoints>`.
#[derive(Debug)]
pub struct Endpoints {
    /// Logins held.
    pub sessions: Arc<Sessions>,
    /// The provider users log in with.
    pub relying_party: Arc<RelyingParty>,
    /// Tokens for services.
    pub broker: Arc<TokenBroker>,
    /// Names and attributes of our cookies.
    pub cookies: Arc<SessionCookie>,
    /// The old services, for their health.
    pub facade: Arc<Facade>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// `server.public_url`.
    pub public_url: Url,
    /// `auth.allowed_redirect_hosts`.
    pub allowed_redirect_hosts: Vec<String>,
    /// Every audience asked for at login.
    pub audiences: Vec<String>,
    /// Scopes that go with those audiences.
    pub service_scopes: Vec<String>,
    /// `csrf.mode: token`: `/auth/session` hands one out, and unsafe requests are asked for it.
    pub csrf_token: bool,
    /// Set once the process has been told to stop: readiness ends at once.
    pub draining: Arc<AtomicBool>,
}

impl Endpoints {
    /// Answers one of our own paths.
    pub async fn answer(&self, endpoint: Endpoint, asked: Asked<'_>) -> Result<Reply, ProxyError> {
        // The pipeline has asked already; who embeds us may call this without it.
        endpoint.require_method(&asked.parts.method)?;
        match endpoint {
            Endpoint::Login => self.login(asked).await,
            Endpoint::Callback => Ok(self.callback(asked).await),
            Endpoint::SessionStatus => self.session_status(asked).await,
            Endpoint::Logout => self.logout(asked).await,
            Endpoint::BackchannelLogout => self.backchannel_logout(asked).await,
            Endpoint::Verify => {
                let started = Instant::now();
                let answer = self.verify(asked).await;
                let status = match &answer {
                    Ok(_) => "ok",
                    Err(ProxyError::NotAuthenticated | ProxyError::BadRequest(_)) => "refused",
                    Err(_) => "error",
                };
                self.metrics.verify_duration.with_label_values(&[status]).observe(started.elapsed().as_secs_f64());
                answer
            }
            Endpoint::FacadeHealth => Ok(self.facade_health()),
            Endpoint::Live => Ok(health::live()),
            Endpoint::Ready => Ok(self.ready().await),
        }
    }

    /// The live session of a request. The same answer for every caller: the pipeline, our endpoints.
    pub async fn session_of(
        &self,
        parts: &request::Parts,
        correlation_id: &(dyn fmt::Display + Sync),
    ) -> Result<Arc<Session>, ProxyError> {
        match self.cookies.read(&parts.headers) {
            Reading::One(token) => match self.sessions.find(&token).await {
                Ok(Some(session)) => Ok(session),
                Ok(None) => Err(ProxyError::NotAuthenticated),
                Err(error) => {
                    tracing::error!(%error, %correlation_id, "a session cannot be looked up");
                    Err(refused_by_store(&error))
                }
            },
            Reading::None | Reading::Malformed => Err(ProxyError::NotAuthenticated),
            Reading::Duplicate => Err(ProxyError::BadRequest("the session cookie is there more than once".to_owned())),
        }
    }

    /// `csrf.mode: token`: an unsafe request of a session proves that a page of ours made it; to a service as to us.
    pub(crate) fn require_csrf_token(&self, parts: &request::Parts, session: &Session) -> Result<(), ProxyError> {
        let given = || parts.headers.get("x-csrf-token").map_or(&b""[..], HeaderValue::as_bytes);
        if !self.csrf_token || parts.method.is_safe() || self.sessions.csrf_matches(session, given()) {
            return Ok(());
        }
        self.metrics.csrf_violations.with_label_values(&["token"]).inc();
        Err(ProxyError::CsrfFailed("X-CSRF-Token is missing or wrong; /auth/session hands it out".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_route_can_be_where_an_endpoint_is() {
        for path in Endpoint::ALL.into_iter().flat_map(Endpoint::paths) {
            assert!(crate::config::is_own(path), "{path}");
        }
    }
}
