//! Which token an upstream gets: `token_policy` of a route, with what `settings.yaml` says about its
//! service filled in.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Settings, TokenMode, TokenPolicyConfig};

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
            let own_audience = written.and_then(|policy| policy.audience.clone());
            let own_scopes = written.and_then(|policy| policy.scopes.clone());
            let apart = own_audience.is_some() || own_scopes.is_some();
            let audience = own_audience.or_else(|| settings.service_audiences.get(service).cloned());
            let scopes = own_scopes.or_else(|| settings.service_scopes.get(service).cloned()).unwrap_or_default();
            let service: Arc<str> = service.into();
            let place = if apart {
                format!("{service} {} {}", audience.as_deref().unwrap_or_default(), scopes.join(" ")).into()
            } else {
                Arc::clone(&service)
            };
            Arc::new(Need { service, place, audience, scopes })
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
