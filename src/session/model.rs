//! What a login is to us: the person, their tokens, and how long it lasts. Immutable; every change
//! makes a new version.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::cookie_token::CookieToken;
use super::key::SessionKey;
use super::ready::{Ready, bearer};
use super::slide::Slide;
use crate::config::Secret;
use crate::resilience::UnixTime;

/// One login, opened. Shared as `Arc<Session>`; never changed in place.
#[derive(Debug, Clone)]
pub struct Session {
    /// The store's key: a hash of the cookie's id.
    pub key: SessionKey,
    /// Grows by one with every save; the store refuses a save on an older one.
    pub version: u64,
    /// Who logged in.
    pub identity: Identity,
    /// `sid` of the ID token (OpenID Connect Session Management); what back-channel logout names.
    pub idp_session: Option<String>,
    /// The time of login here.
    pub created_at: UnixTime,
    /// `auth_time` of the ID token, or the time of login.
    pub authenticated_at: UnixTime,
    /// Absolute: never moved.
    pub ends_at: UnixTime,
    /// What the provider gave for it.
    pub tokens: Tokens,
    /// Kept so that the session can be sealed again without the browser's cookie at hand.
    pub(super) token: CookieToken,
    /// The sliding end, shared by all versions in this process.
    pub(super) slide: Arc<Slide>,
    /// [`Identity::arn`] as it is sent.
    pub(super) arn: Ready,
}

/// A login that has just happened: what a session is made from.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Who logged in.
    pub identity: Identity,
    /// `sid` of the ID token.
    pub idp_session: Option<String>,
    /// `auth_time` of the ID token, or the time of login.
    pub authenticated_at: UnixTime,
    /// What the provider gave for it.
    pub tokens: Tokens,
}

impl Session {
    /// The first version of a login, not yet in any store. `expires_at` is the sliding end, `ends_at` the absolute one.
    #[must_use]
    pub fn begin(token: CookieToken, new: NewSession, now: UnixTime, expires_at: UnixTime, ends_at: UnixTime) -> Self {
        Self {
            key: token.session_key(),
            version: 1,
            identity: new.identity,
            idp_session: new.idp_session,
            created_at: now,
            authenticated_at: new.authenticated_at,
            ends_at,
            tokens: new.tokens,
            token,
            slide: Arc::new(Slide::stored(expires_at.min(ends_at))),
            arn: Ready::default(),
        }
    }

    /// The next version, with other tokens; the sliding end stays shared.
    #[must_use]
    pub(super) fn next(&self, tokens: Tokens) -> Self {
        Self { version: self.version.saturating_add(1), tokens, ..self.clone() }
    }

    /// When this session ends if nobody uses it again, as known in this process.
    #[must_use]
    pub fn expires_at(&self) -> UnixTime {
        self.slide.end()
    }

    /// What a log line and `X-Session-ID` may say of it.
    #[must_use]
    pub fn log_id(&self) -> String {
        self.key.short()
    }

    /// About what it takes in memory (`benches/README.md`). A service's token is there twice: as it came, and as it is sent.
    pub(super) fn bytes(&self) -> u64 {
        let Tokens { id_token, refresh_token, login, services, .. } = &self.tokens;
        let length = |secret: &Secret| secret.expose().len();
        let refresh_token = refresh_token.as_ref().map_or(0, length);
        let services: usize = services.values().map(|token| 2 * length(&token.secret)).sum();
        let tokens = length(id_token) + refresh_token + 2 * length(&login.secret) + services;
        4096 + u64::try_from(tokens).unwrap_or(u64::MAX / 2)
    }

    /// `X-Original-User`: who this is, to services and audits.
    #[must_use]
    pub fn original_user(&self) -> Option<HeaderValue> {
        self.arn.get(|| HeaderValue::try_from(self.identity.arn()).ok())
    }
}

/// Who logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `iss` of the ID token.
    pub issuer: String,
    /// `sub` of the ID token. The identity upstreams see; never a service token's `sub`.
    pub subject: String,
    /// The ARN alias of the `idps.yaml` entry.
    pub provider: String,
    /// Claims shown by `/auth/session` (`name`, `email`, …), after `claims_mapping`.
    pub claims: BTreeMap<String, serde_json::Value>,
}

/// What the provider gave us for this login. Sealed at rest.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Kept as the `id_token_hint` of the logout.
    pub id_token: Secret,
    /// `None`: the provider gave none; the session cannot get other tokens.
    pub refresh_token: Option<Secret>,
    /// The access token of the login itself.
    pub login: AccessToken,
    /// By exact `target_service`. Boxed: a map has room for eleven, and most sessions hold one or two.
    pub services: BTreeMap<String, Box<AccessToken>>,
    /// The audiences asked for at login: asking for another one may cost the refresh token.
    pub granted_audiences: Vec<String>,
}

/// An access token with what we know of it without asking anybody.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The token itself.
    pub secret: Secret,
    /// `aud` of a JWT (RFC 9068 §2.2). Empty: opaque, or it says nothing.
    pub audience: Vec<String>,
    /// Space-separated `scope` of the token response, split. Empty: not told.
    pub scopes: Vec<String>,
    /// `iat` of a JWT, or when it came.
    pub issued_at: UnixTime,
    /// `None`: the provider did not say.
    pub expires_at: Option<UnixTime>,
    /// What [`Self::bearer`] made.
    pub ready: Ready,
}

impl AccessToken {
    /// The value of `Authorization`; `None` if the token does not fit into a header.
    #[must_use]
    pub fn bearer(&self) -> Option<HeaderValue> {
        self.ready.get(|| bearer(self.secret.expose()))
    }
}

#[cfg(test)]
impl NewSession {
    /// A login of `subject` at `https://idp.example` with the provider's session `sid-1`.
    pub(crate) fn sample(subject: &str) -> Self {
        let login = AccessToken {
            secret: Secret::new("login-token"),
            audience: vec!["https://bff.example".to_owned()],
            scopes: vec!["openid".to_owned()],
            issued_at: UnixTime(1_000),
            expires_at: Some(UnixTime(1_600)),
            ready: Ready::default(),
        };
        let analytics = AccessToken { secret: Secret::new("analytics-token"), expires_at: None, ..login.clone() };
        Self {
            identity: Identity {
                issuer: "https://idp.example".to_owned(),
                subject: subject.to_owned(),
                provider: "main".to_owned(),
                claims: BTreeMap::from([("name".to_owned(), serde_json::json!("Ada \u{1f9ee}"))]),
            },
            idp_session: Some("sid-1".to_owned()),
            authenticated_at: UnixTime(990),
            tokens: Tokens {
                id_token: Secret::new("id-token"),
                refresh_token: Some(Secret::new("refresh-token")),
                login,
                services: BTreeMap::from([("analytics_service".to_owned(), Box::new(analytics))]),
                granted_audiences: vec!["https://analytics.example".to_owned()],
            },
        }
    }
}
