//! One legacy service: where it is, how many may ask at once, and its circuit.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pingora_limits::inflight::{Guard, Inflight};

use super::PREFIX;
use super::cache::Site;
use crate::config::{Config, LegacyServiceConfig, Place, Secret, ServiceConfig, ServiceTlsConfig};
use crate::resilience::{CircuitBreaker, Permit, Phase, Refused};
use crate::telemetry::{Meters, Metrics};
use crate::upstream::{Upstream, UpstreamError};

/// The one service that gets `empowerid_api_key`.
pub(crate) const EMPOWERID: &str = "empowerid";

/// A service behind the façade, as built.
pub struct LegacyService {
    /// As listed; the label of its metrics.
    pub name: Arc<str>,
    /// Name and base URL: under which its answers are stored. What another base URL answers is another answer.
    pub stored_as: Box<str>,
    /// Its address.
    pub upstream: Arc<Upstream>,
    /// Where its resources are, for what a change of one of them invalidates.
    pub site: Site,
    /// What is counted for it.
    pub meters: Arc<Meters>,
    /// `X-EmpowerID-Api-Key`, for the service `empowerid` only.
    pub api_key: Option<Secret>,
    breaker: Arc<CircuitBreaker>,
    inflight: Inflight,
    max_concurrent: isize,
    metrics: Arc<Metrics>,
    counted_openings: AtomicU64,
}

/// As many requests as the service may have are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// A place among the requests that a service may have at once; given back when dropped.
pub struct Slot(#[allow(dead_code, reason = "held, not read")] Guard);

/// How a call went, as far as the service is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It answered, with whatever below 500.
    Good,
    /// Connect error, timeout, reset, 5xx.
    Bad,
    /// The client left first: nobody knows.
    Unknown,
}

/// What every service is built from, beside its own entry.
pub(super) fn common(config: &Config) -> impl PartialEq {
    let Config { settings, legacy, conf_dir, .. } = config;
    let circuit = (legacy.breaker_threshold, legacy.breaker_reset_time, legacy.max_concurrent);
    (circuit, settings.server.public_url.clone(), settings.empowerid_api_key.clone(), conf_dir.clone())
}

/// The same as one of `routes/`.
pub(crate) fn as_service(written: &LegacyServiceConfig, conf_dir: &Path) -> ServiceConfig {
    ServiceConfig {
        base_url: written.base_url.clone(),
        timeout: written.timeout,
        connect_timeout: written.timeout.min(Duration::from_secs(5)),
        tls: ServiceTlsConfig::default(),
        written_at: Place { file: conf_dir.join("legacy_services.yaml"), line: 0, column: 0 },
    }
}

impl LegacyService {
    pub(super) fn build(
        name: &str,
        written: &LegacyServiceConfig,
        config: &Config,
        metrics: Arc<Metrics>,
        before: Option<&Self>,
    ) -> Result<Self, UpstreamError> {
        let service = as_service(written, &config.conf_dir);
        let legacy = &config.legacy;
        let mut upstream = Upstream::build(name, &service)?;
        before.inspect(|before| upstream.take_over(&before.upstream));
        let upstream = Arc::new(upstream);
        let mut outside = config.settings.server.public_url.clone();
        outside.set_path(&format!("{PREFIX}{name}/"));
        // To connect, to answer, and as long again for a client that is slow.
        let trial_time = service.connect_timeout + service.timeout * 2;
        let name: Arc<str> = name.into();
        let endpoint = format!("legacy-{name}").into();
        let built = Self {
            meters: Arc::new(Meters::new(Arc::clone(&metrics), endpoint, Some(Arc::clone(&name)))),
            stored_as: format!("{name} {}", written.base_url).into(),
            site: Site { inside: written.base_url.clone(), base_path: upstream.base_path.clone(), outside },
            upstream,
            api_key: config.settings.empowerid_api_key.clone().filter(|_| *name == *EMPOWERID),
            name,
            breaker: CircuitBreaker::new(legacy.breaker_threshold, legacy.breaker_reset_time, trial_time),
            inflight: Inflight::new(),
            max_concurrent: isize::try_from(legacy.max_concurrent).unwrap_or(isize::MAX),
            metrics,
            counted_openings: AtomicU64::new(0),
        };
        built.show(None);
        Ok(built)
    }

    /// A place among the concurrent requests.
    pub fn enter(&self) -> Result<Slot, Busy> {
        let (guard, now) = self.inflight.incr((), 1);
        if now > self.max_concurrent { Err(Busy) } else { Ok(Slot(guard)) }
    }

    /// Asks the circuit for one call, of the request with this id.
    pub fn permit(&self, correlation_id: &dyn fmt::Display) -> Result<Permit, Refused> {
        let permit = self.breaker.permit(Instant::now());
        self.show(Some(correlation_id));
        permit
    }

    /// Tells the circuit how a call went.
    pub fn judge(&self, permit: Permit, verdict: Verdict, correlation_id: &dyn fmt::Display) {
        match verdict {
            Verdict::Good => permit.succeed(),
            Verdict::Bad => permit.fail(Instant::now()),
            Verdict::Unknown => drop(permit),
        }
        self.show(Some(correlation_id));
    }

    /// What the circuit looks like now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.breaker.phase(Instant::now())
    }

    /// Brings the gauge and the counter up to date. `correlation_id`: of the request after which that is done.
    pub(super) fn show(&self, correlation_id: Option<&dyn fmt::Display>) {
        let status = match self.phase() {
            Phase::Closed { .. } => 0,
            Phase::Open { .. } => 1,
            Phase::HalfOpen { .. } => 2,
        };
        self.metrics.breaker_status.with_label_values(&[&*self.name]).set(status);
        let opened = self.breaker.opened();
        // The most that anybody has seen: who read before another opening may come here after it.
        let counted = self.counted_openings.fetch_max(opened, Ordering::SeqCst);
        let new = opened.saturating_sub(counted);
        // Told from the start: a rate over a counter that appears at 1 misses the first opening.
        self.metrics.breaker_opened.with_label_values(&[&*self.name]).inc_by(new);
        if new > 0 {
            let correlation_id = correlation_id.map(tracing::field::display);
            tracing::warn!(service = %self.name, correlation_id, "CIRCUIT_OPEN");
        }
    }
}

impl Drop for LegacyService {
    /// With its last request. One of the same name that goes on shows itself whenever the metrics are read.
    fn drop(&mut self) {
        let _ = self.metrics.breaker_status.remove_label_values(&[&*self.name]);
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

impl std::fmt::Debug for LegacyService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegacyService")
            .field("name", &self.name)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
