//! Which token an upstream gets: `token_policy` of a route, with what `settings.yaml` says about its
//! service filled in, and what `auth` makes of it.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{AuthMode, RouteConfig, Settings, TokenMode, TokenPolicyConfig};

/// One service's token: for whom it must be, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Need {
    /// Exact `target_service`.
    pub service: Arc<str>,
    /// Where a session keeps it: a route that wants another audience or scope than its service's others has its own.
    pub place: Arc<str>,
    /// What `aud` must contain. `None`: nobody configured one, so there is no token.
    pub audience: Option<String>,
    /// Asked for with it.
    pub scopes: Vec<String>,
    /// The route says the audience itself.
    pub own_audience: bool,
    /// The route says the scopes itself.
    pub own_scopes: bool,
}

impl Need {
    /// Where its audience is written.
    pub(super) fn audience_key(&self) -> String {
        self.key(self.own_audience, "audience", "service_audiences")
    }

    /// Where its scopes are written.
    pub(super) fn scopes_key(&self) -> String {
        self.key(self.own_scopes, "scopes", "service_scopes")
    }

    fn key(&self, own: bool, word: &str, map: &str) -> String {
        let service = &self.service;
        if own {
            format!("`{word}` in the `token_policy` of a route to `{service}`")
        } else {
            format!("`{map}.{service}` in settings.yaml")
        }
    }
}

/// `token_policy` as built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenPolicy {
    /// No `mode` written: the session's own token for the service.
    Session(Arc<Need>),
    /// The login access token as it is.
    SessionPassthrough {
        /// For messages and metrics.
        service: Arc<str>,
    },
    /// A token of our own, shared by everybody.
    ServiceToken {
        /// What to ask for.
        need: Arc<Need>,
        /// Upper bound on how long it is kept.
        cache_ttl: Option<Duration>,
    },
    /// RFC 8693 with the session's access token as subject.
    OnBehalfOf {
        /// What to ask for.
        need: Arc<Need>,
        /// Upper bound on how long it is kept.
        cache_ttl: Option<Duration>,
    },
    /// No `Authorization` header.
    None,
}

impl TokenPolicy {
    /// What it asks for, where that is a token of a service's own.
    pub(super) fn need(&self) -> Option<&Arc<Need>> {
        match self {
            Self::Session(need) | Self::ServiceToken { need, .. } | Self::OnBehalfOf { need, .. } => Some(need),
            Self::SessionPassthrough { .. } | Self::None => None,
        }
    }

    /// The policy of a route to `service`.
    #[must_use]
    pub fn of(service: &str, written: Option<&TokenPolicyConfig>, settings: &Settings) -> Self {
        let need = || {
            let audience_here = written.and_then(|policy| policy.audience.clone());
            let scopes_here = written.and_then(|policy| policy.scopes.clone());
            let (own_audience, own_scopes) = (audience_here.is_some(), scopes_here.is_some());
            let audience = audience_here.or_else(|| settings.service_audiences.get(service).cloned());
            let scopes = scopes_here.or_else(|| settings.service_scopes.get(service).cloned()).unwrap_or_default();
            let service: Arc<str> = service.into();
            let place = if own_audience || own_scopes {
                format!("{service} {} {}", audience.as_deref().unwrap_or_default(), scopes.join(" ")).into()
            } else {
                Arc::clone(&service)
            };
            Arc::new(Need { service, place, audience, scopes, own_audience, own_scopes })
        };
        let cache_ttl = written.and_then(|policy| policy.cache_ttl);
        match written.and_then(|policy| policy.mode) {
            None => Self::Session(need()),
            Some(TokenMode::SessionPassthrough) => Self::SessionPassthrough { service: service.into() },
            Some(TokenMode::ServiceToken) => Self::ServiceToken { need: need(), cache_ttl },
            Some(TokenMode::OnBehalfOf) => Self::OnBehalfOf { need: need(), cache_ttl },
            Some(TokenMode::None) => Self::None,
        }
    }
}

/// What goes upstream in `Authorization` on a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteToken {
    /// The route knows no identity: what the client sent, if anything.
    AsSent,
    /// The caller's own, which was validated.
    Callers,
    /// What the policy says.
    By(TokenPolicy),
    /// The policy is about a session, and the route asks for none. The check refuses it.
    Impossible,
}

impl RouteToken {
    /// What `route` says of it, and the settings of its service.
    #[must_use]
    pub fn of(route: &RouteConfig, settings: &Settings) -> Self {
        let policy = TokenPolicy::of(&route.target_service, route.token_policy.as_ref(), settings);
        match (policy, route.auth) {
            (policy, AuthMode::Session)
            | (policy @ (TokenPolicy::None | TokenPolicy::ServiceToken { .. }), AuthMode::Bearer | AuthMode::None) => {
                Self::By(policy)
            }
            (TokenPolicy::Session(_), AuthMode::None) => Self::AsSent,
            (TokenPolicy::Session(_) | TokenPolicy::SessionPassthrough { .. }, AuthMode::Bearer) => Self::Callers,
            (TokenPolicy::SessionPassthrough { .. }, AuthMode::None) | (TokenPolicy::OnBehalfOf { .. }, _) => {
                Self::Impossible
            }
        }
    }

    /// Whether the client's `Authorization` travels on.
    #[must_use]
    pub fn is_the_clients(&self) -> bool {
        matches!(self, Self::AsSent | Self::Callers)
    }

    /// What is asked for, where that is a token of the service's own.
    #[must_use]
    pub fn need(&self) -> Option<&Arc<Need>> {
        match self {
            Self::By(policy) => policy.need(),
            Self::AsSent | Self::Callers | Self::Impossible => None,
        }
    }
}
