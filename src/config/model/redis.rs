//! `session.store: redis…` with `session.redis` as written, with its defaults.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::CertifiedPair;
use crate::config::Secret;

/// A Redis that keeps sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// Which servers there are.
    pub servers: RedisServers,
    /// `rediss…`; absent: plain TCP.
    pub tls: Option<RedisTlsConfig>,
    /// From the URL or `session.redis`; absent: the user `default`.
    pub username: Option<String>,
    /// From the URL or `session.redis`.
    pub password: Option<Secret>,
    /// Default 0; a cluster has no other.
    pub database: i64,
    /// Default `bff:`.
    pub key_prefix: String,
    /// How long a write that matters waits for a replica, where there is one; zero: not at all. Default 100 ms.
    pub replica_wait: Duration,
    /// What the sentinels themselves ask for.
    pub sentinel_username: Option<String>,
    /// What the sentinels themselves ask for.
    pub sentinel_password: Option<Secret>,
}

/// Which servers there are, as in the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisServers {
    /// `redis://host:port/database`
    One(RedisAddress),
    /// `redis+sentinel://host:port,host:port/master/database`
    Sentinel {
        /// The sentinels; any may answer.
        sentinels: Vec<RedisAddress>,
        /// The name they know the master by.
        master: String,
    },
    /// `redis+cluster://host:port,host:port`
    Cluster(Vec<RedisAddress>),
}

/// A host name or IP address (without brackets), and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RedisAddress {
    /// Resolved with every connection.
    pub host: String,
    /// Default 6379, of sentinels 26379.
    pub port: u16,
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// `ca`, `client_cert`, `client_key` of `session.redis`: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RedisTlsConfig {
    /// Believed instead of the system's certificates.
    pub ca: Option<PathBuf>,
    /// Shown to the server.
    pub client: Option<CertifiedPair>,
}
