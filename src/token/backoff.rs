//! What not to try again for a while: a provider that just failed, an audience it just refused.

use std::hash::Hash;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

/// Reasons by key, each for a limited time. Bounded: when full, the oldest is forgotten, which costs
/// one more try.
#[derive(Debug)]
pub(super) struct BackOffs<K: Hash + Eq + Clone, R: Clone> {
    held: Cache<K, (Instant, R)>,
}

impl<K: Hash + Eq + Clone, R: Clone> BackOffs<K, R> {
    pub(super) fn new() -> Self {
        Self { held: Cache::new(16_384) }
    }

    /// The reason under `key`, while it holds.
    pub(super) fn reason(&self, key: &K) -> Option<R> {
        let (until, reason) = self.held.get(key)?;
        (Instant::now() < until).then_some(reason)
    }

    /// Whether there was a reason the last time, holding still or not.
    pub(super) fn knew_one(&self, key: &K) -> bool {
        self.held.get(key).is_some()
    }

    pub(super) fn hold(&self, key: K, reason: R, span: Duration) {
        self.held.insert(key, (Instant::now() + span, reason));
    }

    pub(super) fn lift(&self, key: &K) {
        self.held.remove(key);
    }
}
