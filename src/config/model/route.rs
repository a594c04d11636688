//! `routes/*.yaml` as written, with their defaults.

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use url::Url;

use super::{CertifiedPair, Place};

/// One entry of `services:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// `http` or `https`; may carry a path, which prefixes every upstream path.
    pub base_url: Url,
    /// First byte, and (unless the route streams) between bytes and the whole answer.
    pub timeout: Duration,
    /// TCP and TLS together; default 5 s.
    pub connect_timeout: Duration,
    /// `tls:`; all empty: the system's authorities, the name from `base_url`.
    pub tls: ServiceTlsConfig,
    /// Where its name is written.
    pub written_at: Place,
}

/// `services.*.tls`: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceTlsConfig {
    /// Authorities believed instead of the system's.
    pub ca: Option<PathBuf>,
    /// `client_cert` and `client_key`: shown to the service.
    pub client: Option<CertifiedPair>,
    /// Name sent as SNI and verified, where it is not the host of `base_url`.
    pub server_name: Option<String>,
}

/// One entry of `routes:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    /// Unique over all files; the `endpoint` label of the metrics.
    pub id: String,
    /// Exact, trailing `/*`, bare `*`, `{name}` for one segment.
    pub path: String,
    /// A key of `services`.
    pub target_service: String,
    /// Absent and not `preserve_path`: the request's path as it is.
    pub upstream_path: Option<String>,
    /// Says in so many words that the path travels as it is.
    pub preserve_path: bool,
    /// Empty: every method.
    pub methods: Vec<Method>,
    /// Who may call; default `session`.
    pub auth: AuthMode,
    /// No total timeout; never buffered.
    pub streaming: bool,
    /// Lets WebSocket upgrades through; refused elsewhere.
    pub websocket: bool,
    /// Bytes a request body may have; absent: no bound of ours.
    pub max_body_size: Option<u64>,
    /// Which bearer the upstream gets; absent: the session's token for this service.
    pub token_policy: Option<TokenPolicyConfig>,
    /// How many requests of one client pass; absent: any number.
    pub rate_limit: Option<RateLimitConfig>,
    /// Where the route begins in its file.
    pub written_at: Place,
}

/// `auth` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// `session`: our cookie.
    Session,
    /// `bearer`: an access token validated here.
    Bearer,
    /// `none`: anyone.
    None,
}

/// `token_policy` of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPolicyConfig {
    /// `mode:`; absent: the session's own token.
    pub mode: Option<TokenMode>,
    /// Default: `service_audiences[target_service]`.
    pub audience: Option<String>,
    /// Default: `service_scopes[target_service]`.
    pub scopes: Option<Vec<String>>,
    /// Upper bound on how long a shared token is kept.
    pub cache_ttl: Option<Duration>,
}

/// `rate_limit` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitConfig {
    /// At least 1.
    pub requests: u32,
    /// At least a millisecond.
    pub period: Duration,
    /// What may come at once; absent or 0: all of `requests`, and no more in any `period`.
    pub burst: Option<u32>,
    /// Who is counted; default `ip`.
    pub key: RateLimitKey,
}

/// `rate_limit.key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitKey {
    /// `ip`: the client's address, before anything else is asked.
    Ip,
    /// `session`: one login of one browser.
    Session,
    /// `identity`: a person, whatever they come with.
    Identity,
}

/// `token_policy.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenMode {
    /// `session_passthrough`: the login access token, as it is.
    SessionPassthrough,
    /// `service_token`: `client_credentials`, shared.
    ServiceToken,
    /// `on_behalf_of`: token exchange (RFC 8693).
    OnBehalfOf,
    /// `none`: no `Authorization` header.
    None,
}
