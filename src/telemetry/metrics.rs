//! Every metric of the program. The names are a promise; labels are bounded: never a path, a user
//! or a token.

use std::fmt::Write as _;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Seconds; from a look-up in memory to a provider that hangs.
const FAST: &[f64] = &[0.000_005, 0.000_02, 0.000_1, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 2.0];
const SLOW: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

macro_rules! metrics {
    ($($field:ident: $kind:ident = $name:literal, $help:literal $(, [$($label:literal),+])? $(, $buckets:ident)?;)+) => {
        /// Every metric, ready to be counted. Shared as `Arc<Metrics>`; one a process.
        #[derive(Debug, Clone)]
        pub struct Metrics {
            registry: Registry,
            /// Name, type and meaning of each, for the page.
            list: &'static [(&'static str, &'static str, &'static str)],
            $(
                // The help text is printed as it is by Prometheus: no backticks.
                #[allow(clippy::doc_markdown)]
                #[doc = $help]
                pub $field: $kind,
            )+
        }

        impl Metrics {
            /// A fresh set with all counters at zero.
            ///
            /// # Errors
            /// Only if two metrics share a name, which the tests exclude.
            pub fn new() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                $(let $field = metrics!(@make $kind, $name, $help $(, [$($label),+])? $(, $buckets)?);
                registry.register(Box::new($field.clone()))?;)+
                Ok(Self { registry, list: &[$(($name, metrics!(@type $kind), $help)),+], $($field),+ })
            }
        }
    };
    (@type IntCounter) => { "counter" };
    (@type IntCounterVec) => { "counter" };
    (@type IntGauge) => { "gauge" };
    (@type IntGaugeVec) => { "gauge" };
    (@type HistogramVec) => { "histogram" };
    (@make IntCounter, $name:literal, $help:literal) => { IntCounter::new($name, $help)? };
    (@make IntGauge, $name:literal, $help:literal) => { IntGauge::new($name, $help)? };
    (@make IntCounterVec, $name:literal, $help:literal, [$($label:literal),+]) => {
        IntCounterVec::new(Opts::new($name, $help), &[$($label),+])?
    };
    (@make IntGaugeVec, $name:literal, $help:literal, [$($label:literal),+]) => {
        IntGaugeVec::new(Opts::new($name, $help), &[$($label),+])?
    };
    (@make HistogramVec, $name:literal, $help:literal, [$($label:literal),+], $buckets:ident) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets($buckets.to_vec()), &[$($label),+])?
    };
}

metrics! {
    http_requests: IntCounterVec = "http_requests_total", "Requests answered; endpoint is the route id or our own endpoint's name", ["method", "endpoint", "status"];
    http_duration: HistogramVec = "http_request_duration_seconds", "From the request header to the last byte of the answer", ["endpoint"], SLOW;
    http_in_flight: IntGauge = "http_requests_in_flight", "Requests being answered now";
    client_connections: IntGauge = "bff_client_connections", "Connections of clients open now, at most server.max_connections";
    sessions_active: IntGauge = "bff_active_sessions_total", "Live sessions in the store, as of the last sweep or change";
    sessions_created: IntCounter = "bff_sessions_created_total", "Logins that ended in a session";
    sessions_destroyed: IntCounterVec = "bff_sessions_destroyed_total", "Sessions ended, by reason", ["reason"];
    session_lookups: IntCounterVec = "bff_session_lookups_total", "Session look-ups by tier (near, store) and result (hit, miss, grace, error)", ["tier", "result"];
    live_connections: IntGauge = "bff_live_connections", "Event streams, streaming answers and WebSockets open now";
    live_ended: IntCounterVec = "bff_live_ended_total", "Of those, ended by us, by reason (session_over, going_away, silent)", ["reason"];
    verify_duration: HistogramVec = "bff_verify_duration_seconds", "Time of the ForwardAuth endpoint", ["status"], FAST;
    token_lookups: IntCounterVec = "bff_token_lookups_total", "Look-ups of a token, by service (login: the one of the login itself) and result (cached, minted, none, error)", ["service", "result"];
    token_refresh: IntCounterVec = "bff_token_refresh_total", "Refresh grants by service and status", ["service", "status"];
    token_exchange: IntCounterVec = "bff_token_exchange_total", "Token requests by grant type and status", ["grant_type", "status"];
    token_validation: IntCounterVec = "bff_token_validation_total", "Tokens checked by type (id_token, access_token, logout_token) and status", ["token_type", "status"];
    idp_requests: IntCounterVec = "bff_idp_requests_total", "Requests to the provider by endpoint and status (HTTP status or fault)", ["endpoint", "status"];
    idp_latency: HistogramVec = "bff_idp_latency_seconds", "Time of requests to the provider", ["endpoint"], SLOW;
    csrf_violations: IntCounterVec = "bff_csrf_violations_total", "Requests refused as cross-site", ["reason"];
    rate_limited: IntCounterVec = "rate_limited_total", "Requests refused because of a route's rate limit", ["endpoint"];
    service_requests: IntCounterVec = "service_requests_total", "Requests sent to a service", ["service"];
    service_errors: IntCounterVec = "service_errors_total", "Requests a service failed, by kind", ["service", "error_type"];
    service_latency: HistogramVec = "service_latency_seconds", "Time a service took to answer", ["service"], SLOW;
    breaker_status: IntGaugeVec = "circuit_breaker_status", "0 closed, 1 open, 2 half-open", ["service"];
    breaker_opened: IntCounterVec = "circuit_breaks_total", "Times a circuit opened", ["service"];
    cache_hits: IntCounter = "cache_hits_total", "Answers served from the response cache";
    cache_misses: IntCounter = "cache_misses_total", "Cacheable requests that were not in the cache";
    cache_entries: IntGauge = "cache_entries", "Entries in the response cache";
    cache_bytes: IntGauge = "cache_bytes", "Bytes in the response cache";
    store_errors: IntCounterVec = "bff_store_errors_total", "Operations that the session store failed, of whatever kind it is", ["operation"];
    redis_operations: IntCounterVec = "bff_redis_operations_total", "Redis operations by status", ["operation", "status"];
    redis_latency: HistogramVec = "bff_redis_latency_seconds", "Time of Redis operations", ["operation"], FAST;
    config_reloads: IntCounterVec = "bff_config_reloads_total", "Reloads of the configuration, by status (success, refused)", ["status"];
    build_info: IntGaugeVec = "bff_build_info", "Always 1; the version is the label", ["version"];
}

impl Metrics {
    /// The Prometheus text format (version 0.0.4). Every metric is named, also one with labels that
    /// has nothing to tell yet: what is promised can be found on the page of an idle process.
    #[must_use]
    pub fn render(&self) -> String {
        self.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let mut page = Vec::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut page) {
            tracing::error!(%error, "metrics cannot be rendered");
        }
        let mut page = String::from_utf8(page).unwrap_or_default();
        for (name, kind, help) in self.list {
            if !page.contains(&format!("# TYPE {name} ")) {
                let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            }
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_once() {
        let metrics = Metrics::new().expect("names are unique");
        assert!(metrics.render().contains("bff_build_info"));
    }

    #[test]
    fn every_metric_is_named_once_before_and_after_its_first_use() {
        let metrics = Metrics::new().expect("names are unique");
        for _round in 0..2 {
            let page = metrics.render();
            for (name, kind, _) in metrics.list {
                assert_eq!(page.matches(&format!("# TYPE {name} {kind}\n")).count(), 1, "{name}:\n{page}");
                assert_eq!(page.matches(&format!("# HELP {name} ")).count(), 1, "{name}");
            }
            metrics.service_errors.with_label_values(&["orders", "timeout"]).inc();
            metrics.redis_latency.with_label_values(&["get"]).observe(0.1);
        }
    }
}
