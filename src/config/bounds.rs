//! What is written is bounded where it is read. A configuration made in code is not, and is bounded here.

use std::time::Duration;

use super::model::{Config, StoreConfig};
use super::unit::LONGEST;

impl Config {
    /// With no duration longer than may be written: no sum of them overflows, and no point in time that is so far away.
    pub(crate) fn bounded(mut self) -> Self {
        let Self { settings, services, routes, legacy, .. } = &mut self;
        let (server, session) = (&mut settings.server, &mut settings.session);
        let replica_wait = match &mut session.store {
            StoreConfig::Redis(redis) => Some(&mut redis.replica_wait),
            StoreConfig::Memory | StoreConfig::Sqlite(_) => None,
        };
        let of_settings = [
            &mut server.shutdown_grace,
            &mut server.drain_delay,
            &mut server.idle_timeout,
            &mut server.header_timeout,
            &mut server.body_timeout,
            &mut session.lifetime,
            &mut session.max_lifetime,
            &mut session.grace,
            &mut settings.token_refresh_threshold,
            &mut legacy.breaker_reset_time,
            &mut legacy.cache_default_ttl,
        ];
        let of_services =
            services.values_mut().flat_map(|service| [&mut service.timeout, &mut service.connect_timeout]);
        let of_routes = routes.iter_mut().flat_map(|route| {
            let period = route.rate_limit.as_mut().map(|limit| &mut limit.period);
            period.into_iter().chain(route.token_policy.as_mut().and_then(|policy| policy.cache_ttl.as_mut()))
        });
        let all = of_settings.into_iter().chain(server.websocket_idle_timeout.as_mut()).chain(replica_wait);
        let all = all.chain(of_services).chain(legacy.services.values_mut().map(|service| &mut service.timeout));
        all.chain(of_routes).for_each(|duration: &mut Duration| *duration = LONGEST.min(*duration));
        self
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_duration_of_the_model_is_bounded() {
        let model = [
            include_str!("model/idp.rs"),
            include_str!("model/legacy.rs"),
            include_str!("model/redis.rs"),
            include_str!("model/route.rs"),
            include_str!("model/settings.rs"),
        ];
        let durations = model.iter().flat_map(|file| file.lines()).filter(|line| line.contains("Duration"));
        let fields: Vec<&str> =
            durations.filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next()).collect();
        let bounded = include_str!("bounds.rs");
        assert!(fields.len() > 10);
        for field in fields {
            assert!(bounded.contains(&format!(".{field}")), "{field}");
        }
    }
}
