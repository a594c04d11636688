//! How many requests of one client a route takes.

use http::HeaderValue;

use crate::config::{RateLimitConfig, RateLimitKey};
use crate::resilience::{Rate, Standing, whole_seconds};

/// A route's limit as built.
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// How many.
    pub rate: Rate,
    /// Of whom.
    pub key: RateLimitKey,
    /// `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers §3): the quota and its window in seconds.
    pub policy: HeaderValue,
}

impl RateLimit {
    pub(super) fn build(config: &RateLimitConfig) -> Self {
        let rate = Rate { requests: config.requests, period: config.period, burst: config.burst };
        let policy = format!("\"default\";q={};w={}", rate.requests, whole_seconds(rate.period));
        let policy = HeaderValue::try_from(policy).unwrap_or_else(|_ascii| HeaderValue::from_static("\"default\""));
        Self { rate, key: config.key, policy }
    }
}

/// `RateLimit` (draft-ietf-httpapi-ratelimit-headers §4): what is left, and the seconds until there is more.
#[must_use]
pub fn standing_header(standing: &Standing) -> HeaderValue {
    let text = format!("\"default\";r={};t={}", standing.remaining, whole_seconds(standing.reset));
    HeaderValue::try_from(text).unwrap_or_else(|_ascii| HeaderValue::from_static("\"default\";r=0"))
}
