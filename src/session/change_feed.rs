//! Whether what is close at hand may be trusted: only while the store tells every change. A store
//! that cannot be heard is asked instead; where it cannot be asked either, sessions that were here
//! before go on for a bounded grace.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::key::SessionKey;
use super::live::LiveConnections;
use super::near::NearCache;
use super::store::Listener;
use crate::resilience::{Clock, UnixTime};

const HEARING: i64 = i64::MAX;

/// What one process is told of the changes that others make.
pub(super) struct ChangeFeed {
    near: Arc<NearCache>,
    live: Arc<LiveConnections>,
    clock: Arc<dyn Clock>,
    /// When changes were told for the last time; [`HEARING`] while they are.
    deaf_since: AtomicI64,
}

impl ChangeFeed {
    pub(super) fn new(near: Arc<NearCache>, live: Arc<LiveConnections>, clock: Arc<dyn Clock>) -> Self {
        Self { near, live, clock, deaf_since: AtomicI64::new(HEARING) }
    }

    /// Whether what is close at hand is as the store has it.
    pub(super) fn trusts(&self) -> bool {
        self.deaf_since.load(Ordering::Acquire) == HEARING
    }

    /// Whether what was close at hand when the store fell silent may still be used.
    pub(super) fn bears(&self, now: UnixTime, grace: Duration) -> bool {
        now < UnixTime(self.deaf_since.load(Ordering::Acquire)).plus(grace)
    }
}

impl Listener for ChangeFeed {
    fn changed(&self, key: &SessionKey) {
        self.near.remove(key);
        self.live.doubt(key);
    }

    fn deaf(&self, ago: Duration) {
        // Rounded up: the grace is a promise of how late a logout may be seen.
        let ago = i64::try_from(ago.as_millis().div_ceil(1_000)).unwrap_or(0);
        self.deaf_since.store(self.clock.now().0.saturating_sub(ago), Ordering::Release);
    }

    fn hearing(&self) {
        // In this order: nothing of before may be trusted.
        self.near.clear();
        self.deaf_since.store(HEARING, Ordering::Release);
        self.live.doubt_all();
    }

    fn emptied(&self) {
        self.near.clear();
        self.live.doubt_all();
    }

    fn time(&self, now: Duration, within: Duration) {
        self.clock.set(now, within);
    }
}

impl fmt::Debug for ChangeFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChangeFeed({})", self.trusts())
    }
}
