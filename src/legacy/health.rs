//! `GET /api/v1/proxy/health`: the circuit of every legacy service, and the cache.

use serde_json::{Map, Value, json};

use super::Facade;
use crate::resilience::{Phase, whole_seconds};

impl Facade {
    /// By name: `{"state": "closed", "failures": n}`, `{"state": "open", "retry_after": seconds}` or
    /// `{"state": "half_open", "trial_under_way": bool}`.
    #[must_use]
    pub fn health(&self) -> Map<String, Value> {
        let describe = |phase: Phase| match phase {
            Phase::Closed { failures } => json!({ "state": "closed", "failures": failures }),
            Phase::Open { remaining } => json!({ "state": "open", "retry_after": whole_seconds(remaining) }),
            Phase::HalfOpen { trial } => json!({ "state": "half_open", "trial_under_way": trial }),
        };
        let each = self.services.iter().map(|(name, service)| {
            service.show(None);
            (name.clone(), describe(service.phase()))
        });
        each.collect()
    }

    /// `{"entries": n, "bytes": n, "hits": n, "misses": n}`.
    #[must_use]
    pub fn cache_health(&self) -> Value {
        let ((entries, bytes), (hits, misses)) = (self.cache.size(), self.cache.counts());
        json!({ "entries": entries, "bytes": bytes, "hits": hits, "misses": misses })
    }

    /// Brings every circuit's gauge up to date: an open one becomes half-open by time alone.
    pub fn show(&self) {
        for service in self.services.values() {
            service.show(None);
        }
    }
}
