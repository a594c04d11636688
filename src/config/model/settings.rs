//! `conf/settings.yaml` as written, with its defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::CertifiedPair;
use super::redis::RedisConfig;
use crate::config::Secret;

/// `conf/settings.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `server:`.
    pub server: ServerConfig,
    /// `auth:`.
    pub auth: AuthConfig,
    /// `session:`.
    pub session: SessionConfig,
    /// A token with less than this left is renewed before it is used.
    pub token_refresh_threshold: Duration,
    /// `target_service` → the audience its tokens must carry.
    pub service_audiences: BTreeMap<String, String>,
    /// `target_service` → the scopes asked for with its audience.
    pub service_scopes: BTreeMap<String, Vec<String>>,
    /// Origins (`https://app.example.com`) that may call with credentials.
    pub cors_allow_origins: Vec<String>,
    /// `csrf.mode`, default `fetch_metadata`.
    pub csrf_mode: CsrfMode,
    /// Sent to the legacy service `empowerid` only.
    pub empowerid_api_key: Option<Secret>,
    /// `log:`.
    pub log: LogConfig,
}

/// `server:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Public addresses, at least one; default `127.0.0.1:8080`.
    pub listen: Vec<SocketAddr>,
    /// `/metrics`, `/status`, health in detail. Never a public port.
    pub admin_listen: SocketAddr,
    /// The origin the browser sees, without a path.
    pub public_url: Url,
    /// Certificate of the public addresses; absent: plain HTTP/1.1 and h2c.
    pub tls: Option<CertifiedPair>,
    /// Peers whose `X-Forwarded-*`/`Forwarded` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// From SIGTERM to the end: what is in flight may take as long.
    pub shutdown_grace: Duration,
    /// The first part of it, in which the listeners stay open although readiness has ended; default 5 s, but at most
    /// half of the grace.
    pub drain_delay: Duration,
    /// Where a process that takes over receives the listening sockets.
    pub upgrade_sock: PathBuf,
    /// Worker threads; default: one per core.
    pub threads: usize,
    /// A client connection without a request ends after this (default 60 s).
    pub idle_timeout: Duration,
    /// A request header must be whole this long after its first byte (default 10 s).
    pub header_timeout: Duration,
    /// The longest pause within a body, either way, and what `min_body_rate` is averaged over (default 60 s).
    pub body_timeout: Duration,
    /// Bytes a second that a client must send or take of a body; 0: only `body_timeout` counts (default 240).
    pub min_body_rate: u64,
    /// Client connections at once; absent: three quarters of the files the process may open, less 64,
    /// and no more than memory holds at 128 KiB each.
    pub max_connections: Option<usize>,
    /// Bytes this process may take; absent: what the machine has, or its control group allows.
    pub max_memory: Option<u64>,
    /// A `WebSocket` on which neither end says anything for this long is closed (default 1 h). `None`: never.
    pub websocket_idle_timeout: Option<Duration>,
}

/// `auth:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Name of the entry of `idps.yaml` that users log in with.
    pub idp: String,
    /// Always contains `openid`.
    pub oauth_scopes: Vec<String>,
    /// Hosts (`app.example.com` or `app.example.com:8443`) allowed in `return_to` beyond our own origin, as the `url`
    /// crate writes them.
    pub allowed_redirect_hosts: Vec<String>,
}

/// `session:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// Where sessions live; default `sqlite:data/sessions.db`.
    pub store: StoreConfig,
    /// Each 32 bytes in padded standard base64, however written; the first encrypts, all decrypt. Empty: made once
    /// beside the SQLite file.
    pub secrets: Vec<Secret>,
    /// As written; empty means the default name for `public_url`.
    pub cookie_name: String,
    /// Names that are read and never set.
    pub cookie_aliases: Vec<String>,
    /// `SameSite` of the session cookie; default `lax`.
    pub same_site: SameSite,
    /// Sliding.
    pub lifetime: Duration,
    /// Absolute.
    pub max_lifetime: Duration,
    /// How long sessions known here go on after a shared store was last reached; default 30 s.
    pub grace: Duration,
    /// Sessions one person may have, the oldest end; default 0: any number.
    pub max_per_user: usize,
    /// Logins begun and not finished in one process, a tenth of them of one address; default 100 000, 0: any number.
    pub max_flows: usize,
}

impl Default for SessionConfig {
    /// As documented.
    fn default() -> Self {
        Self {
            store: StoreConfig::Sqlite(PathBuf::from("data/sessions.db")),
            secrets: Vec::new(),
            cookie_name: String::new(),
            cookie_aliases: Vec::new(),
            same_site: SameSite::Lax,
            lifetime: Duration::from_secs(3600),
            max_lifetime: Duration::from_secs(12 * 3600),
            grace: Duration::from_secs(30),
            max_per_user: 0,
            max_flows: 100_000,
        }
    }
}

/// `session.store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// `memory:`
    Memory,
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `redis://…` and its kin, with `session.redis`.
    Redis(Box<RedisConfig>),
}

/// `session.same_site`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// `lax`
    Lax,
    /// `strict`
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Default `json`.
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `json`: one object a line.
    Json,
    /// `pretty`: for people.
    Pretty,
}
