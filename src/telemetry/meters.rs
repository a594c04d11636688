//! The metrics of one endpoint, each found once: a look-up by labels costs more than the counting.
//! Found at the first use, so that what never happened is not on the page.

use std::sync::{Arc, OnceLock};

use prometheus::{Histogram, IntCounter};

use super::Metrics;

/// What nearly every request is.
const USUAL: [(&str, &str); 6] =
    [("GET", "200"), ("GET", "304"), ("POST", "200"), ("POST", "201"), ("PUT", "200"), ("DELETE", "204")];

/// The counters of one endpoint and of the service behind it.
#[derive(Debug)]
pub struct Meters {
    metrics: Arc<Metrics>,
    endpoint: Arc<str>,
    service: Option<Arc<str>>,
    usual: [OnceLock<IntCounter>; USUAL.len()],
    duration: OnceLock<Histogram>,
    service_requests: OnceLock<IntCounter>,
    service_latency: OnceLock<Histogram>,
}

impl Meters {
    /// Of `endpoint`, which calls `service`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, endpoint: Arc<str>, service: Option<Arc<str>>) -> Self {
        Self {
            metrics,
            endpoint,
            service,
            usual: Default::default(),
            duration: OnceLock::new(),
            service_requests: OnceLock::new(),
            service_latency: OnceLock::new(),
        }
    }

    /// The label of what is counted here.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<str> {
        &self.endpoint
    }

    /// A request was answered.
    pub fn answered(&self, method: &str, status: &str, seconds: f64) {
        let labels = [method, &*self.endpoint, status];
        let place = USUAL.iter().position(|usual| *usual == (method, status));
        match place.and_then(|place| self.usual.get(place)) {
            Some(known) => known.get_or_init(|| self.metrics.http_requests.with_label_values(&labels)).inc(),
            None => self.metrics.http_requests.with_label_values(&labels).inc(),
        }
        let duration = || self.metrics.http_duration.with_label_values(&[&*self.endpoint]);
        self.duration.get_or_init(duration).observe(seconds);
    }

    /// The service was asked, and answered after `seconds` if it did.
    pub fn asked(&self, seconds: Option<f64>) {
        let Some(service) = self.service.as_deref() else { return };
        self.service_requests.get_or_init(|| self.metrics.service_requests.with_label_values(&[service])).inc();
        if let Some(seconds) = seconds {
            let latency = || self.metrics.service_latency.with_label_values(&[service]);
            self.service_latency.get_or_init(latency).observe(seconds);
        }
    }
}
