//! Verdicts on tokens, each for a limited time. Bounded: when full, one is forgotten and costs one
//! more check. The key is a hash, so that a dump of memory holds no token for being remembered.

use quick_cache::sync::Cache;

use crate::crypto::sha256;
use crate::resilience::UnixTime;

/// SHA-256 of a token.
pub(super) type Fingerprint = [u8; 32];

/// The name of a token in tables.
pub(super) fn fingerprint(token: &str) -> Fingerprint {
    sha256(token.as_bytes())
}

/// Verdicts by token.
#[derive(Debug)]
pub(super) struct Remembered<V: Clone>(Cache<Fingerprint, (V, UnixTime)>);

impl<V: Clone> Remembered<V> {
    pub(super) fn new(entries: usize) -> Self {
        Self(Cache::new(entries))
    }

    pub(super) fn get(&self, key: &Fingerprint, now: UnixTime) -> Option<V> {
        let (verdict, until) = self.0.get(key)?;
        (now < until).then_some(verdict)
    }

    /// Holds while the time is before `until`.
    pub(super) fn put(&self, key: Fingerprint, verdict: V, until: UnixTime, now: UnixTime) {
        if now < until {
            self.0.insert(key, (verdict, until));
        }
    }
}
