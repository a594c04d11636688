//! What is written in `conf/` and `routes/`, after defaults and `${VAR}`: plain data, no behaviour.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;
use url::Url;

use super::secret::Secret;

/// Everything that was written, checked, with its defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// `conf/settings.yaml`.
    pub settings: Settings,
    /// `conf/idps.yaml`, in the order written.
    pub idps: Vec<IdpConfig>,
    /// `services:` of every file in `routes/`, by name.
    pub services: BTreeMap<String, ServiceConfig>,
    /// `routes:` of every file in `routes/`; files in the order of their names.
    pub routes: Vec<RouteConfig>,
    /// `conf/legacy_services.yaml`; empty when the file is absent.
    pub legacy: LegacyConfig,
    /// The folder of `settings.yaml`, for messages that name a file.
    pub conf_dir: PathBuf,
    /// The folder of the route files, for messages that name a file.
    pub routes_dir: PathBuf,
}

/// `conf/settings.yaml`.
#[derive(Debug, Clone)]
pub struct Settings {
    pub server: ServerConfig,
    pub auth: AuthConfig,
    pub session: SessionConfig,
    /// A token with less than this left is renewed before it is used.
    pub token_refresh_threshold: Duration,
    /// `target_service` → the audience its tokens must carry.
    pub service_audiences: BTreeMap<String, String>,
    /// `target_service` → the scopes asked for with its audience.
    pub service_scopes: BTreeMap<String, Vec<String>>,
    /// Origins (`https://app.example.com`) that may call with credentials.
    pub cors_allow_origins: Vec<String>,
    pub csrf_mode: CsrfMode,
    /// Sent to the legacy service `empowerid` only.
    pub empowerid_api_key: Option<Secret>,
    pub log: LogConfig,
}

/// `server:`.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub listen: Vec<SocketAddr>,
    /// `/metrics`, `/status`, health in detail. Never a public port.
    pub admin_listen: SocketAddr,
    /// The origin the browser sees, without a path.
    pub public_url: Url,
    pub tls: Option<TlsConfig>,
    /// Peers whose `X-Forwarded-*`/`Forwarded` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long in-flight requests may take after SIGTERM.
    pub shutdown_grace: Duration,
    /// Worker threads; default: one per core.
    pub threads: usize,
    /// An idle client connection, and a request header that does not arrive, end after this (default 60 s).
    pub idle_timeout: Duration,
    /// A client that neither sends nor takes a byte of a body for this long is cut off (default 60 s).
    pub body_timeout: Duration,
}

/// `server.tls`: PEM files.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// `auth:`.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Name of the entry of `idps.yaml` that users log in with.
    pub idp: String,
    /// Always contains `openid`.
    pub oauth_scopes: Vec<String>,
    /// Hosts (`app.example.com` or `app.example.com:8443`) allowed in `return_to` beyond our own origin.
    pub allowed_redirect_hosts: Vec<String>,
}

/// `session:`.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    pub store: StoreConfig,
    /// Each 32 bytes; the first encrypts, all decrypt. Empty: made once beside the SQLite file.
    pub secrets: Vec<Secret>,
    /// As written; empty means the default name for `public_url`.
    pub cookie_name: String,
    pub cookie_aliases: Vec<String>,
    pub same_site: SameSite,
    /// Sliding.
    pub lifetime: Duration,
    /// Absolute.
    pub max_lifetime: Duration,
}

/// `session.store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// `memory:`
    Memory,
    /// `sqlite:PATH`
    Sqlite(PathBuf),
}

/// `session.same_site`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    Lax,
    Strict,
}

/// `csrf.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CsrfMode {
    /// `Sec-Fetch-Site` and `Origin` decide.
    FetchMetadata,
    /// Those, and `X-CSRF-Token` on unsafe methods.
    Token,
}

/// `log:`.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Pretty,
}

/// One entry of `conf/idps.yaml`.
#[derive(Debug, Clone)]
pub struct IdpConfig {
    pub name: String,
    /// The alias in `auth:account:{provider}:{sub}`; falls back to `name`.
    pub provider: String,
    pub issuer: String,
    /// What a token for ourselves must carry, and what the login access token is asked for.
    pub audience: Option<String>,
    pub client_id: String,
    /// The shared secret; with `private_key_jwt` the PEM of the private key.
    pub client_secret: Option<Secret>,
    pub token_auth_method: ClientAuthMethod,
    /// `kid` of the client assertion, where the provider holds several keys of ours.
    pub key_id: Option<String>,
    /// Overrides `auth.oauth_scopes` for logins with this entry.
    pub scopes: Option<Vec<String>>,
    pub authorization_url: Option<Url>,
    pub token_url: Option<Url>,
    pub jwks_url: Option<Url>,
    pub introspection_url: Option<Url>,
    pub revocation_url: Option<Url>,
    pub end_session_url: Option<Url>,
    /// JWS algorithms accepted from this issuer, e.g. `RS256`.
    pub algorithms: Vec<String>,
    pub audience_parameter: AudienceParameter,
    /// Our claim name (`sub`, `name`, `email`, …) → the provider's.
    pub claims_mapping: BTreeMap<String, String>,
}

/// `token_auth_method`, named as in OpenID Connect Core §9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuthMethod {
    ClientSecretBasic,
    ClientSecretPost,
    PrivateKeyJwt,
    /// A public client.
    None,
}

/// How this provider is told for whom a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudienceParameter {
    /// `resource=` (RFC 8707).
    Resource,
    /// `audience=`.
    Audience,
    /// Scopes say it all.
    None,
}

/// One entry of `services:`.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// `http` or `https`; may carry a path, which prefixes every upstream path.
    pub base_url: Url,
    /// First byte, between bytes, and (unless the route streams) the whole answer.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub tls: ServiceTlsConfig,
}

/// `services.*.tls`: PEM files.
#[derive(Debug, Clone, Default)]
pub struct ServiceTlsConfig {
    pub ca: Option<PathBuf>,
    pub client_cert: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    pub server_name: Option<String>,
}

/// One entry of `routes:`.
#[derive(Debug, Clone)]
pub struct RouteConfig {
    pub id: String,
    pub path: String,
    pub target_service: String,
    /// Absent and not `preserve_path`: the request's path as it is.
    pub upstream_path: Option<String>,
    pub preserve_path: bool,
    /// Empty: every method.
    pub methods: Vec<Method>,
    pub auth: AuthMode,
    /// No total timeout; never buffered.
    pub streaming: bool,
    pub token_policy: Option<TokenPolicyConfig>,
    pub written_at: Place,
}

/// `auth` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    Session,
    Bearer,
    None,
}

/// `token_policy` of a route.
#[derive(Debug, Clone)]
pub struct TokenPolicyConfig {
    pub mode: TokenMode,
    /// Default: `service_audiences[target_service]`.
    pub audience: Option<String>,
    /// Default: `service_scopes[target_service]`.
    pub scopes: Option<Vec<String>>,
    /// Upper bound on how long a shared token is kept.
    pub cache_ttl: Option<Duration>,
}

/// `token_policy.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenMode {
    SessionPassthrough,
    ServiceToken,
    OnBehalfOf,
    None,
}

/// `conf/legacy_services.yaml`.
#[derive(Debug, Clone)]
pub struct LegacyConfig {
    pub services: BTreeMap<String, LegacyServiceConfig>,
    pub breaker_threshold: u32,
    pub breaker_reset_time: Duration,
    pub cache_enabled: bool,
    pub cache_default_ttl: Duration,
    pub cache_max_entries: usize,
    pub cache_max_bytes: u64,
    pub max_body_size: u64,
}

/// One service behind the façade.
#[derive(Debug, Clone)]
pub struct LegacyServiceConfig {
    pub base_url: Url,
    pub timeout: Duration,
}

/// Where something was written. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: PathBuf,
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}
