//! `conf/legacy_services.yaml` as written, with its defaults and the environment's overrides.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

/// `conf/legacy_services.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyConfig {
    /// By the `{service}` of `/api/v1/proxy/{service}/…`.
    pub services: BTreeMap<String, LegacyServiceConfig>,
    /// Consecutive failures that open a breaker; default 5, at least 1.
    pub breaker_threshold: u32,
    /// How long an open breaker stays open; default 60 s.
    pub breaker_reset_time: Duration,
    /// Default true.
    pub cache_enabled: bool,
    /// Freshness where the upstream says nothing; default 30 s.
    pub cache_default_ttl: Duration,
    /// Default 1000.
    pub cache_max_entries: usize,
    /// Default 64 MiB.
    pub cache_max_bytes: u64,
    /// Bytes of a request body; default 10 MiB.
    pub max_body_size: u64,
    /// Requests one service may have at once; default 256.
    pub max_concurrent: u64,
}

impl Default for LegacyConfig {
    /// No service; limits as documented.
    fn default() -> Self {
        Self {
            services: BTreeMap::new(),
            breaker_threshold: 5,
            breaker_reset_time: Duration::from_secs(60),
            cache_enabled: true,
            cache_default_ttl: Duration::from_secs(30),
            cache_max_entries: 1000,
            cache_max_bytes: 64 << 20,
            max_body_size: 10 << 20,
            max_concurrent: 256,
        }
    }
}

/// One service behind the façade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyServiceConfig {
    /// `http` or `https`; its path prefixes every upstream path.
    pub base_url: Url,
    /// First byte and whole answer; default 30 s.
    pub timeout: Duration,
}
