//! What a service gets in `Authorization`, as far as the configuration tells.

use std::fmt;

use crate::config::{AuthMode, Config, TokenMode};
use crate::routing::Route;

/// Whose token goes upstream on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearer<'a> {
    /// The route knows no identity: the header stays as the client sent it.
    AsSent,
    /// The caller's own, after it was validated.
    Callers,
    /// No header at all.
    Nothing,
    /// The login access token, as it is.
    Login,
    /// The session's own token for this service.
    Own(Target<'a>),
    /// `client_credentials`, shared by all users.
    Service(Target<'a>),
    /// Token exchange (RFC 8693).
    Exchanged(Target<'a>),
    /// The policy wants a session or a caller's token and the route asks for neither.
    Impossible,
}

/// What a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// `None`: nothing is mapped, and nothing will be fetched.
    pub audience: Option<&'a str>,
    /// Empty: the provider's default.
    pub scopes: &'a [String],
}

impl<'a> Bearer<'a> {
    /// Reads the route's policy and the maps of `settings.yaml`.
    pub fn of(route: &'a Route, config: &'a Config) -> Self {
        let policy = route.token_policy.as_ref();
        let service: &str = &route.target_service;
        let mapped = || config.settings.service_audiences.get(service);
        let mapped_scopes = || config.settings.service_scopes.get(service);
        let target = || Target {
            audience: policy.and_then(|policy| policy.audience.as_ref()).or_else(mapped).map(String::as_str),
            scopes: policy.and_then(|policy| policy.scopes.as_ref()).or_else(mapped_scopes).map_or(&[], Vec::as_slice),
        };
        match (policy.and_then(|policy| policy.mode), route.auth) {
            (Some(TokenMode::None), _) => Self::Nothing,
            (Some(TokenMode::ServiceToken), _) => Self::Service(target()),
            (Some(TokenMode::SessionPassthrough | TokenMode::OnBehalfOf), AuthMode::None) => Self::Impossible,
            (Some(TokenMode::OnBehalfOf), _) => Self::Exchanged(target()),
            (None, AuthMode::None) => Self::AsSent,
            (None | Some(TokenMode::SessionPassthrough), AuthMode::Bearer) => Self::Callers,
            (Some(TokenMode::SessionPassthrough), AuthMode::Session) => Self::Login,
            (None, AuthMode::Session) => Self::Own(target()),
        }
    }

    /// Nobody will ever get through: 401 `no_token_available`.
    pub fn is_hopeless(&self) -> bool {
        match self {
            Self::Own(target) | Self::Service(target) | Self::Exchanged(target) => target.audience.is_none(),
            Self::Impossible => true,
            Self::AsSent | Self::Callers | Self::Nothing | Self::Login => false,
        }
    }
}

impl fmt::Display for Bearer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsSent => f.write_str("as the client sent it"),
            Self::Callers => f.write_str("the caller's token"),
            Self::Nothing => f.write_str("none"),
            Self::Login => f.write_str("session_passthrough"),
            Self::Own(target) => write!(f, "own token, {target}"),
            Self::Service(target) => write!(f, "service_token, {target}"),
            Self::Exchanged(target) => write!(f, "on_behalf_of, {target}"),
            Self::Impossible => f.write_str("IMPOSSIBLE without auth"),
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.audience {
            Some(audience) => write!(f, "aud {audience}"),
            None => f.write_str("NO AUDIENCE MAPPED"),
        }
    }
}
