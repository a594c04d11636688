//! The façade's response cache: RFC 9111 as a shared cache in which the `Authorization` that we inject
//! counts. Policy is pure (`directive`, `freshness`, `admission`, `request_directives`, `validation`,
//! `invalidation`); `shelf` holds the answers; `storage` and `recall` are what the engine's callbacks
//! see of it.
//!
//! An answer belongs to the caller it was made for, unless it says `public` or `s-maxage`. There is one
//! place where that is decided, `admission::Exchange::policy`, and one where it is enforced,
//! `entry::Entry::answers`.

mod admission;
mod cache_status;
mod directive;
mod entry;
mod fields;
mod flight;
mod freshness;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod invalidation;
mod key;
mod parts;
mod recall;
mod request_directives;
mod shelf;
mod stale_if_error;
mod storage;
mod validation;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Extensions, HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use pingora::cache::CacheKey;
use pingora::cache::key::{CacheHashKey as _, HashBinary};
use pingora::cache::lock::{CacheKeyLock, LockStatus, LockStub, Locked, WritePermit};
use pingora::cache::predictor::Predictor;
use pingora::http::RequestHeader;
use prometheus::IntCounter;

pub use admission::is_event_stream;
pub use directive::{CDN_CACHE_CONTROL, Directives, Scope, cache_control};
pub use flight::Fault;
pub use invalidation::Site;
pub use key::Caller;
pub use recall::{Question, Recall, failure_of};
pub use stale_if_error::Failure;

use crate::config::LegacyConfig;
use crate::telemetry::Metrics;
use cache_status::Outcome;
use flight::Flights;
use key::{Lookup, Resource};
use shelf::Shelf;
use storage::ShelfStorage;

/// What the end of a flight takes to reach those who wait for it.
const HEARSAY: Duration = Duration::from_millis(500);

/// How long one request may hold the others back before one of them asks as well, for all: the service may be slow, or only
/// the first one's client.
const LOCK_AGE: Duration = Duration::from_millis(5_500);

/// Questions remembered as unstorable, in each of 16 shards.
const REMEMBERED: usize = 512;

/// The cache of the façade. The engine wants it to live for ever; it is built once a process and outlives reloads.
pub struct ResponseCache {
    enabled: bool,
    default_ttl: Duration,
    /// Bytes of one body.
    max_object: usize,
    shelf: Arc<Shelf>,
    storage: ShelfStorage,
    lock: Lock,
    predictor: Predictor<16>,
    hits: IntCounter,
    misses: IntCounter,
}

impl ResponseCache {
    /// Builds and leaks it: the engine's cache takes `&'static` only.
    #[must_use]
    pub fn build(config: &LegacyConfig, metrics: &Metrics) -> &'static Self {
        let max_bytes = usize::try_from(config.cache_max_bytes).unwrap_or(usize::MAX);
        let (entries, bytes) = (metrics.cache_entries.clone(), metrics.cache_bytes.clone());
        let shelf = Arc::new(Shelf::new(config.cache_max_entries, max_bytes, entries, bytes));
        Box::leak(Box::new(Self {
            enabled: config.cache_enabled,
            default_ttl: config.cache_default_ttl,
            // One answer may not throw out all others.
            max_object: max_bytes / 4,
            storage: ShelfStorage(Arc::clone(&shelf)),
            shelf,
            lock: Lock::default(),
            predictor: Predictor::new(REMEMBERED, Some(recall::says_nothing)),
            hits: metrics.cache_hits.clone(),
            misses: metrics.cache_misses.clone(),
        }))
    }

    /// Begins with one request.
    #[must_use]
    pub fn recall(&'static self, question: Question<'_>, request: &RequestHeader) -> Recall {
        Recall::new(self, question, request)
    }

    /// Forgets what an unsafe request made invalid. For every answer of a service, once its status is known.
    pub fn invalidate_after(
        &self,
        service: &str,
        site: &Site,
        method: &Method,
        target: &str,
        status: StatusCode,
        response: &HeaderMap,
    ) {
        for target in site.invalidated_by(method, target, status, response) {
            self.shelf.invalidate(&Resource::new(service, &target));
        }
    }

    /// Entries and bytes now.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.shelf.size()
    }

    /// Hits and misses so far.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.hits.get(), self.misses.get())
    }

    fn count(&self, outcome: Outcome) {
        match outcome {
            Outcome::Hit | Outcome::Stale => self.hits.inc(),
            Outcome::Miss => self.misses.inc(),
            Outcome::Bypass => {}
        }
    }
}

impl fmt::Debug for ResponseCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseCache").field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

/// As the engine's lock, with four differences: after an error of the service the waiting requests elect the
/// next one, instead of falling on the service all together; what failed is remembered for them; they hear of the answer to one
/// that took long as soon as it is there, also where they wait for the next one by now; and what serves only the request
/// that fetched it, each fetches by itself.
#[derive(Default)]
struct Lock {
    under_way: Mutex<HashMap<HashBinary, LockStub>>,
    flights: Flights,
}

/// Whether the request of this key gains nothing by waiting.
fn is_alone(key: &CacheKey) -> bool {
    key.extensions.get::<Arc<Lookup>>().is_some_and(|lookup| lookup.alone.load(Ordering::Relaxed))
}

impl CacheKeyLock for Lock {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        if is_alone(key) {
            return Locked::Write(WritePermit::new(LOCK_AGE, stale_writer, Extensions::new()).0);
        }
        let mut under_way = self.under_way.lock();
        let key = key.combined_bin();
        // Another than that may be left here by a permit that came back under another key: the engine gives that of a stale
        // answer to a copy of its request.
        if let Some(one) = under_way.get(&key).filter(|one| one.0.lock_status() == LockStatus::Waiting) {
            return Locked::Read(one.read_lock());
        }
        let (permit, stub) = WritePermit::new(LOCK_AGE, stale_writer, Extensions::new());
        under_way.insert(key, stub);
        Locked::Write(permit)
    }

    fn release(&self, key: &CacheKey, mut permit: WritePermit, reason: LockStatus) {
        if is_alone(key) {
            return permit.unlock(reason);
        }
        if let (LockStatus::TransientError, Some(lookup)) = (reason, key.extensions.get::<Arc<Lookup>>()) {
            self.flights.record_failure(key, lookup.fault.get());
        }
        let (mut under_way, name) = (self.under_way.lock(), key.combined_bin());
        let took_long = permit.lock_status() != LockStatus::Waiting;
        if took_long && !matches!(reason, LockStatus::Done | LockStatus::GiveUp) {
            // Another has its place by now, or nobody wants it.
            if under_way.get(&name).is_some_and(|there| there.0.lock_status() == LockStatus::AgeTimeout) {
                under_way.remove(&name);
            }
            return permit.unlock(LockStatus::AgeTimeout);
        }
        if let Some(there) = under_way.remove(&name).filter(|_| took_long) {
            there.0.unlock(reason);
        }
        permit.unlock(reason);
    }

    fn custom_lock_status(&self, reason: &'static str) -> LockStatus {
        if recall::is_failure(reason) { LockStatus::TransientError } else { LockStatus::GiveUp }
    }
}
