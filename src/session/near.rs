//! Opened sessions close at hand, so that a request costs a look-up in memory. Bounded.
//!
//! The rule that keeps an ended session ended: whoever means to put something here takes a
//! [`Ticket`] before it asks the store, and every end or change voids the tickets of its session.
//! What was read before a logout can so never be put here after it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};

use super::cookie_token::CookieToken;
use super::key::SessionKey;
use super::model::Session;
use crate::resilience::UnixTime;

/// Bytes of all sessions together, at most: some 100 000 of them.
pub(super) const MOST: u64 = 768 * 1024 * 1024;
/// A session with three tokens of a kilobyte: what places are reckoned by. What is full is counted in bytes.
const USUAL: u64 = 8 * 1024;
/// One for each value of a key's first byte (see `shard`). A change in one shard makes a concurrent look-up there read again.
const SHARDS: usize = 256;

/// A bounded cache of opened sessions by their whole cookie.
pub struct NearCache {
    /// What requests read; no other lock on their way.
    sessions: Cache<CookieToken, Arc<Session>, Bytes, DefaultHashBuilder, Evicted>,
    shards: Vec<Mutex<Shard>>,
}

/// Changes to the sessions of one shard happen under its lock.
#[derive(Default)]
struct Shard {
    /// Grows with every change; a ticket is good while it stands still.
    changes: u64,
    /// What is in the cache, by the key that a logout knows.
    index: HashMap<SessionKey, Arc<Session>>,
}

/// The right to put what is about to be read from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// The session was changed or ended since the ticket was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Void;

/// Weighs a session by what it takes.
#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<CookieToken, Arc<Session>> for Bytes {
    fn weight(&self, _token: &CookieToken, session: &Arc<Session>) -> u64 {
        session.bytes()
    }
}

/// Collects what the cache throws out, to be taken out of the index when no lock is held.
#[derive(Debug, Clone)]
struct Evicted;

impl Lifecycle<CookieToken, Arc<Session>> for Evicted {
    type RequestState = Vec<Arc<Session>>;

    fn on_evict(&self, evicted: &mut Self::RequestState, _token: CookieToken, session: Arc<Session>) {
        evicted.push(session);
    }
}

impl fmt::Debug for NearCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NearCache({} sessions)", self.sessions.len())
    }
}

impl NearCache {
    /// An empty cache for sessions of so many bytes in all.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let places = usize::try_from(bytes / USUAL).unwrap_or(usize::MAX);
        let sessions = Cache::with(places, bytes, Bytes, DefaultHashBuilder::default(), Evicted);
        Self { sessions, shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect() }
    }

    /// Sets another bound. Meant for the start: what it has to let go stays in the index.
    pub(super) fn bound(&self, bytes: u64) {
        self.sessions.set_capacity(bytes);
    }

    /// The session of this very cookie.
    pub(super) fn get(&self, token: &CookieToken) -> Option<Arc<Session>> {
        self.sessions.get(token)
    }

    /// To be taken before the store is asked.
    pub(super) fn ticket(&self, key: &SessionKey) -> Ticket {
        Ticket(self.shard(key).map_or(0, |shard| shard.changes))
    }

    /// Puts what was read, unless it was changed meanwhile. Answers with what is here now: an
    /// equal or newer version stays.
    pub(super) fn put(&self, ticket: Ticket, session: Arc<Session>) -> Result<Arc<Session>, Void> {
        let shard = self.shard(&session.key).ok_or(Void)?;
        if shard.changes != ticket.0 {
            return Err(Void);
        }
        if let Some(here) = shard.index.get(&session.key)
            && here.version >= session.version
        {
            return Ok(Arc::clone(here));
        }
        self.insert(shard, &session);
        Ok(session)
    }

    /// Puts what was just written and voids all tickets of older versions. If somebody else changed
    /// the session meanwhile, it is taken out instead, to be read again.
    pub(super) fn replace(&self, ticket: Ticket, session: &Arc<Session>) {
        let Some(mut shard) = self.shard(&session.key) else { return };
        let fresh = shard.changes == ticket.0;
        shard.changes = shard.changes.wrapping_add(1);
        if fresh {
            self.insert(shard, session);
        } else if let Some(here) = shard.index.remove(&session.key) {
            self.sessions.remove(&here.token);
        }
    }

    /// Takes a session out and voids its tickets.
    pub(super) fn remove(&self, key: &SessionKey) {
        let Some(mut shard) = self.shard(key) else { return };
        shard.changes = shard.changes.wrapping_add(1);
        if let Some(here) = shard.index.remove(key) {
            self.sessions.remove(&here.token);
        }
    }

    /// Takes out what is over at `now` as far as this process knows: nobody may ever ask for it again.
    pub(super) fn sweep(&self, now: UnixTime) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            for (_, here) in shard.index.extract_if(|_, session| now >= session.expires_at()) {
                self.sessions.remove(&here.token);
            }
        }
    }

    /// Takes everything out and voids all tickets.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.changes = shard.changes.wrapping_add(1);
            for (_, here) in shard.index.drain() {
                self.sessions.remove(&here.token);
            }
        }
    }

    /// Sessions that the index knows; for tests.
    #[cfg(test)]
    pub(super) fn indexed(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().index.len()).sum()
    }

    fn insert(&self, mut shard: MutexGuard<'_, Shard>, session: &Arc<Session>) {
        shard.index.insert(session.key, Arc::clone(session));
        let mut evicted = Vec::new();
        self.sessions.insert_with_lifecycle(session.token.clone(), Arc::clone(session), &mut evicted);
        drop(shard);
        for gone in evicted {
            self.forget(&gone);
        }
    }

    /// An evicted session leaves the index, unless it was put again meanwhile.
    fn forget(&self, gone: &Arc<Session>) {
        let Some(mut shard) = self.shard(&gone.key) else { return };
        if shard.index.get(&gone.key).is_some_and(|here| Arc::ptr_eq(here, gone)) {
            shard.index.remove(&gone.key);
        }
    }

    /// Always there: as many shards as a byte has values.
    fn shard(&self, key: &SessionKey) -> Option<MutexGuard<'_, Shard>> {
        let shard = self.shards.get(usize::from(*key.0.first()?))?;
        Some(shard.lock())
    }
}
