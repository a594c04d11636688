//! The façade of the old services: `/api/v1/proxy/{service}/{path}`. Destinations come from
//! `legacy_services.yaml` alone; nothing in a request can name another.

pub mod cache;
mod health;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

use cache::ResponseCache;

use crate::config::Config;
use crate::routing::{CanonicalPath, join_base};
use crate::telemetry::Metrics;
use crate::upstream::UpstreamError;

pub use service::{Busy, LegacyService, Slot, Verdict};
pub(crate) use service::{EMPOWERID, as_service};

/// Everything below this belongs to the façade.
pub(crate) const PREFIX: &str = "/api/v1/proxy/";

/// The name of the service and what is asked of it; `None`: the path is not the façade's.
pub(crate) fn split(path: &CanonicalPath) -> Option<(&str, &str)> {
    let rest = path.as_str().strip_prefix(PREFIX)?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// All legacy services. Shared as `Arc<Facade>`.
#[derive(Debug)]
pub struct Facade {
    services: BTreeMap<String, Arc<LegacyService>>,
    /// Their answers.
    pub cache: &'static ResponseCache,
    /// `request_limits.max_body_size`, bytes.
    pub max_body_size: u64,
}

/// Where a path of the façade leads.
#[derive(Debug)]
pub enum Called {
    /// A service that is listed, and the path to ask of it (base path included).
    Service(Arc<LegacyService>, String),
    /// None of ours.
    Unknown,
}

impl Facade {
    /// Builds every listed service. After a reload a service goes on with its circuit if nothing about it
    /// changed since `old` was written, and the cache lives on.
    pub fn build(
        config: &Config,
        metrics: &Arc<Metrics>,
        old: Option<(&Config, &Self)>,
    ) -> Result<Self, UpstreamError> {
        let old = old.map(|(written, facade)| (service::common(written), &written.legacy.services, facade));
        let mut services = BTreeMap::new();
        for (name, written) in &config.legacy.services {
            let known = old.as_ref().and_then(|(_, _, facade)| facade.services.get(name));
            let same = old.as_ref().is_some_and(|(common, before, _)| {
                *common == service::common(config) && before.get(name).is_some_and(|before| before == written)
            });
            let service = if let Some(service) = known.filter(|_| same) {
                Arc::clone(service)
            } else {
                let before = known.map(|service| &**service);
                Arc::new(LegacyService::build(name, written, config, Arc::clone(metrics), before)?)
            };
            services.insert(name.clone(), service);
        }
        let cache = old.map_or_else(|| ResponseCache::build(&config.legacy, metrics), |(_, _, facade)| facade.cache);
        Ok(Self { services, cache, max_body_size: config.legacy.max_body_size })
    }

    /// Every service that is listed.
    pub fn services(&self) -> impl Iterator<Item = &Arc<LegacyService>> {
        self.services.values()
    }

    /// `None`: the path is not the façade's.
    #[must_use]
    pub fn called(&self, path: &CanonicalPath) -> Option<Called> {
        let (name, below) = split(path)?;
        let Some(service) = self.services.get(name) else { return Some(Called::Unknown) };
        // A canonical path has no dot segment left to climb with.
        let target = join_base(&service.upstream.base_path, &format!("/{below}"));
        Some(Called::Service(Arc::clone(service), target))
    }
}
