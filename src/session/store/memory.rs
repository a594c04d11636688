//! Sessions in this process only: for one process whose users may log in again after a restart.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use super::{Record, Saved, Selector, SessionStore, StoreError};
use crate::resilience::UnixTime;
use crate::session::SessionKey;

/// Anybody can start a login: what that may cost in memory has a bound.
const MAX_NOTES: usize = 100_000;

/// A store without a disk.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<SessionKey, Kept>,
    inserted: u64,
    index: HashMap<Selector, HashSet<SessionKey>>,
    notes: HashMap<String, Note>,
    leases: HashMap<String, Held>,
    fence: u64,
}

struct Kept {
    /// Counts insertions.
    turn: u64,
    record: Record,
}

struct Note {
    value: Vec<u8>,
    expires_at: UnixTime,
}

struct Held {
    holder: String,
    expires_at: UnixTime,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl State {
    fn put(&mut self, key: SessionKey, turn: u64, record: Record) {
        let _before = self.remove(&key);
        for selector in record.selectors() {
            self.index.entry(selector).or_default().insert(key);
        }
        self.sessions.insert(key, Kept { turn, record });
    }

    fn remove(&mut self, key: &SessionKey) -> Option<Record> {
        let Kept { record, .. } = self.sessions.remove(key)?;
        for selector in record.selectors() {
            if let Some(keys) = self.index.get_mut(&selector) {
                keys.remove(key);
                if keys.is_empty() {
                    self.index.remove(&selector);
                }
            }
        }
        Some(record)
    }

    fn live(&self, key: &SessionKey, now: UnixTime) -> Option<&Kept> {
        self.sessions.get(key).filter(|kept| kept.record.is_live(now))
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn load(&self, key: &SessionKey, now: UnixTime) -> Result<Option<Record>, StoreError> {
        Ok(self.state().live(key, now).map(|kept| kept.record.clone()))
    }

    async fn insert(&self, key: &SessionKey, record: Record) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.sessions.contains_key(key) {
            return Err(StoreError::new("memory", "a session of that key is there already"));
        }
        state.inserted = state.inserted.saturating_add(1);
        let turn = state.inserted;
        state.put(*key, turn, record);
        Ok(())
    }

    async fn save(&self, key: &SessionKey, record: Record, expected: u64) -> Result<Saved, StoreError> {
        let mut state = self.state();
        let (turn, expires_at) = match state.sessions.get(key) {
            None => return Ok(Saved::Gone),
            Some(there) if there.record.version != expected => return Ok(Saved::Conflict),
            Some(there) => (there.turn, there.record.expires_at),
        };
        state.put(*key, turn, Record { expires_at, ..record });
        Ok(Saved::Yes)
    }

    async fn touch(&self, key: &SessionKey, expires_at: UnixTime) -> Result<bool, StoreError> {
        let mut state = self.state();
        let Some(Kept { record, .. }) = state.sessions.get_mut(key) else { return Ok(false) };
        record.expires_at = record.expires_at.max(expires_at).min(record.ends_at);
        Ok(true)
    }

    async fn delete(&self, key: &SessionKey) -> Result<Option<Record>, StoreError> {
        Ok(self.state().remove(key))
    }

    async fn find(&self, selector: &Selector, now: UnixTime) -> Result<Vec<SessionKey>, StoreError> {
        let state = self.state();
        let keys = state.index.get(selector).into_iter().flatten();
        let mut found: Vec<_> = keys.filter_map(|key| Some((state.live(key, now)?.turn, *key))).collect();
        found.sort_unstable_by_key(|(turn, _)| *turn);
        Ok(found.into_iter().map(|(_, key)| key).collect())
    }

    async fn count(&self, now: UnixTime) -> Result<u64, StoreError> {
        Ok(self.state().sessions.values().filter(|kept| kept.record.is_live(now)).map(|_| 1).sum())
    }

    async fn sweep(&self, now: UnixTime) -> Result<u64, StoreError> {
        let mut state = self.state();
        state.notes.retain(|_, note| now < note.expires_at);
        state.leases.retain(|_, held| now < held.expires_at);
        let dead = state.sessions.iter().filter(|(_, kept)| !kept.record.is_live(now));
        let dead: Vec<SessionKey> = dead.map(|(key, _)| *key).collect();
        Ok(dead.iter().filter(|key| state.remove(key).is_some()).map(|_| 1).sum())
    }

    async fn put_note(
        &self,
        name: &str,
        value: Vec<u8>,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let mut state = self.state();
        if state.notes.get(name).is_some_and(|note| now < note.expires_at) {
            return Ok(false);
        }
        if state.notes.len() >= MAX_NOTES {
            return Err(StoreError::full("memory", "too many notes are kept"));
        }
        state.notes.insert(name.to_owned(), Note { value, expires_at });
        Ok(true)
    }

    async fn take_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state().notes.remove(name).filter(|note| now < note.expires_at).map(|note| note.value))
    }

    async fn set_note(
        &self,
        name: &str,
        value: Vec<u8>,
        expires_at: UnixTime,
        _now: UnixTime,
    ) -> Result<(), StoreError> {
        self.state().notes.insert(name.to_owned(), Note { value, expires_at });
        Ok(())
    }

    async fn read_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state();
        Ok(state.notes.get(name).filter(|note| now < note.expires_at).map(|note| note.value.clone()))
    }

    async fn lease(&self, name: &str, holder: &str, span: Duration, now: UnixTime) -> Result<Option<u64>, StoreError> {
        let mut state = self.state();
        // One that ends later than any was taken before the clock was put back.
        let believed = now.plus(span.saturating_mul(10));
        let by_another = |held: &Held| held.holder != holder && now < held.expires_at && held.expires_at < believed;
        if state.leases.get(name).is_some_and(by_another) {
            return Ok(None);
        }
        state.fence = state.fence.saturating_add(1);
        let held = Held { holder: holder.to_owned(), expires_at: now.plus(span) };
        state.leases.insert(name.to_owned(), held);
        Ok(Some(state.fence))
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.leases.get(name).is_some_and(|held| held.holder == holder) {
            state.leases.remove(name);
        }
        Ok(())
    }

    async fn changed_elsewhere(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
