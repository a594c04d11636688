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

pub(crate) use service::{EMPOWERID, as_service};
pub use service::{LegacyService, Slot, Verdict};

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

    /// `None`: the path is not the façade's.
    #[must_use]
    pub fn called(&self, path: &CanonicalPath) -> Option<Called> {
        let (name, below) = split(path)?;
        let Some(service) = self.services.get(name) else { return Some(Called::Unknown) };
        // A canonical path has no dot segment left to climb with.
        let target = join_base(&service.upstream.base_path, ["/", below].concat());
        Some(Called::Service(Arc::clone(service), target))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn written(services: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let (conf, routes) = (dir.path().join("conf"), dir.path().join("routes"));
        fs::create_dir(&conf).unwrap();
        fs::create_dir(&routes).unwrap();
        let idp = "name: main, issuer: 'https://login.example.com', client_id: bff, client_secret: x";
        fs::write(conf.join("idps.yaml"), format!("idps: [{{ {idp} }}]\n")).unwrap();
        fs::write(conf.join("settings.yaml"), "auth: { idp: main }\nsession: { store: 'memory:' }\n").unwrap();
        fs::write(conf.join("legacy_services.yaml"), format!("legacy_services: {{ {services} }}\n")).unwrap();
        fs::write(routes.join("none.yaml"), "routes: []\n").unwrap();
        Config::load(&conf, &routes, &|_| None).unwrap()
    }

    #[test]
    fn a_service_that_changed_still_knows_its_addresses_and_another_one_does_not() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let before = written("a: 'http://a.internal/x', b: 'http://b.internal', c: 'http://c.internal'");
        let old = Facade::build(&before, &metrics, None).unwrap();
        let after = written("a: 'http://a.internal/y', b: 'http://elsewhere.internal', d: 'http://c.internal'");
        let new = Facade::build(&after, &metrics, Some((&before, &old))).unwrap();
        let of = |facade: &Facade, name: &str| Arc::clone(&facade.services.get(name).unwrap().upstream);
        assert!(of(&new, "a").knows_what(&of(&old, "a")));
        assert_eq!(of(&new, "a").base_path, "/y");
        assert!(!of(&new, "b").knows_what(&of(&old, "b")));
        assert!(!of(&new, "d").knows_what(&of(&old, "c")), "nobody says that these are one");
    }
}
