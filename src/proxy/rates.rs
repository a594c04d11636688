//! Counting requests: with the other replicas where the store is shared, and here where it is not, or
//! cannot be asked. Then each replica lets the whole limit through: neither an open door nor a closed one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;

use crate::resilience::{Rate, RateCounts, RateKey, Standing};
use crate::session::Sessions;

/// What a request waits for the store at most.
const PATIENCE: Duration = Duration::from_millis(150);
/// How long a store that failed is not asked.
const REST: Duration = Duration::from_secs(1);

/// The counts of all routes.
#[derive(Debug)]
pub struct Rates {
    sessions: Arc<Sessions>,
    here: RateCounts,
    /// Until when the store is left alone.
    resting: Mutex<Option<Instant>>,
}

impl Rates {
    /// Counts that the replicas of `sessions` have in common.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions, here: RateCounts::default(), resting: Mutex::default() }
    }

    /// Counts one request of `who`, at the route of that id.
    pub(super) async fn count(&self, route: &str, who: &str, rate: &Rate) -> Standing {
        let (key, now) = (key_of(route, who, rate), Instant::now());
        if let Some(standing) = self.here.closed(&key, now) {
            return standing;
        }
        match self.count_for_all(&key, rate, now).await {
            Some(standing) => {
                self.here.learn(key, rate, &standing, now);
                standing
            }
            None => self.here.count(key, rate, now),
        }
    }

    async fn count_for_all(&self, key: &RateKey, rate: &Rate, now: Instant) -> Option<Standing> {
        if self.rests(now) {
            return None;
        }
        // The hash is the cluster's hash tag: clients spread over all nodes.
        let name = format!("rate:{}", URL_SAFE_NO_PAD.encode(key));
        match tokio::time::timeout(PATIENCE, self.sessions.count_request(&name, rate)).await {
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) => self.rest(now, &error),
            Err(_elapsed) => self.rest(now, &"no answer in time"),
        }
    }

    fn rests(&self, now: Instant) -> bool {
        self.resting.lock().is_some_and(|until| now < until)
    }

    fn rest(&self, now: Instant, reason: &dyn std::fmt::Display) -> Option<Standing> {
        let until = now + REST;
        let before = self.resting.lock().replace(until);
        // Of those who waited together, one tells.
        if before.is_none_or(|before| before <= now) {
            tracing::warn!(%reason, "requests cannot be counted with the other replicas; counting here");
        }
        None
    }
}

/// A client at a route. A hash, so that the store learns neither addresses nor names. Another rate begins anew: what
/// was counted by the old one, in parts of another length, says nothing under it.
fn key_of(route: &str, who: &str, rate: &Rate) -> RateKey {
    let Rate { requests, period, burst } = rate;
    let text = format!("{}:{route}{who}", route.len());
    let mut hash = Context::new(&SHA256);
    hash.update(text.as_bytes());
    hash.update(&requests.to_be_bytes());
    hash.update(&period.as_nanos().to_be_bytes());
    hash.update(&burst.map_or([0; 8], |burst| (u64::from(burst) + 1).to_be_bytes()));
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_client_and_rate_is_counted_apart() {
        let rate = Rate { requests: 20, period: Duration::from_secs(1), burst: None };
        let keys = [
            key_of("r", "ip 1", &rate),
            key_of("r", "ip 2", &rate),
            key_of("ri", "p 1", &rate),
            key_of("r", "ip 1", &Rate { requests: 5, ..rate }),
            key_of("r", "ip 1", &Rate { period: Duration::from_secs(60), ..rate }),
            key_of("r", "ip 1", &Rate { burst: Some(0), ..rate }),
            key_of("r", "ip 1", &Rate { burst: Some(20), ..rate }),
        ];
        let distinct: std::collections::HashSet<_> = keys.into_iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(keys[0], key_of("r", "ip 1", &rate));
    }
}
