//! `rate_limit:` of a route.

use std::time::Duration;

use crate::config::diagnostic::{Collector, Diagnostic};
use crate::config::node::Node;
use crate::config::reader::{Located, MapReader, refuse};
use crate::config::scalar::{positive_duration, whole, word};
use crate::config::{AuthMode, RateLimitConfig, RateLimitKey};

const KEYS: &[(&str, RateLimitKey)] =
    &[("ip", RateLimitKey::Ip), ("session", RateLimitKey::Session), ("identity", RateLimitKey::Identity)];
/// More in one period is no limit.
const MOST: u64 = 1_000_000_000;

pub(super) fn read_rate_limit(node: &Node, found: &Collector) -> Option<RateLimitConfig> {
    let mut map = MapReader::new(node, found)?;
    let requests = map.required("requests", whole(1..=MOST));
    let period = map.required("period", period);
    let burst = map.field("burst", whole(0..=MOST));
    let key = map.field("key", word(KEYS)).unwrap_or(RateLimitKey::Ip);
    map.finish();
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Some(RateLimitConfig {
        requests: number(requests?.value),
        period: period?.value,
        burst: burst.filter(|burst| *burst > 0).map(number),
        key,
    })
}

/// Counted in parts of a millisecond; longer than a day is a quota, which should outlive a restart.
fn period(node: &Node, found: &Collector) -> Option<Duration> {
    let period = positive_duration(node, found)?;
    if (Duration::from_millis(1)..=Duration::from_secs(24 * 3600)).contains(&period) {
        return Some(period);
    }
    refuse(node, found, "a period is from 1ms to 1d", "")
}

/// Only a route that asks who it is can count by it.
pub(super) fn check_key(limit: &Located<RateLimitConfig>, auth: AuthMode, found: &Collector) {
    let (key, needs) = match (limit.value.key, auth) {
        (RateLimitKey::Session, AuthMode::Bearer | AuthMode::None) => ("session", "`auth: session`"),
        (RateLimitKey::Identity, AuthMode::None) => ("identity", "`auth: session` or `auth: bearer`"),
        _ => return,
    };
    let message = format!("`key: {key}` counts what this route does not ask for");
    found.push(Diagnostic::error(&limit.spot, message).label(format!("allowed with {needs} only; or `key: ip`")));
}
