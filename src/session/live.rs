//! Connections that outlast the check of their request: event streams, long answers, `WebSocket`s. Each
//! is registered here while it runs, so that it can be ended with its session, or when the process
//! stops. Whoever carries its bytes holds the [`Cord`]; pulling it is all that is done from here.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::key::SessionKey;
use super::model::Session;
use crate::resilience::UnixTime;
use crate::telemetry::Metrics;

/// Why a live connection is ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its session is over: logout, revocation, expiry.
    SessionOver,
    /// The process stops.
    GoingAway,
    /// Nobody said anything for `server.websocket_idle_timeout`.
    Silent,
}

impl EndReason {
    /// A metric label.
    fn label(self) -> &'static str {
        match self {
            Self::SessionOver => "session_over",
            Self::GoingAway => "going_away",
            Self::Silent => "silent",
        }
    }
}

/// Everything that is live in this process.
#[derive(Debug)]
pub struct LiveConnections {
    table: Mutex<Table>,
    doubted: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Table {
    /// By session; `None` holds those that have none.
    entries: HashMap<Option<SessionKey>, HashMap<u64, Entry>>,
    doubts: HashSet<SessionKey>,
    all_doubted: bool,
    next: u64,
    closing: bool,
}

#[derive(Debug)]
struct Entry {
    session: Option<Arc<Session>>,
    cord: oneshot::Sender<()>,
    end_reason: Arc<OnceLock<EndReason>>,
    /// It would never end by itself: the end of the process does not wait for it.
    endless: bool,
}

impl Entry {
    fn end(self, end_reason: EndReason) {
        let _ = self.end_reason.set(end_reason);
        // Its other end may have gone by itself.
        let _ = self.cord.send(());
    }
}

/// The place of one connection in the register; leaves it when dropped, and the cord with it.
#[derive(Debug)]
pub struct Held {
    live: Arc<LiveConnections>,
    key: Option<SessionKey>,
    id: u64,
    end_reason: Arc<OnceLock<EndReason>>,
}

/// The other end of a place: resolves when the connection is to be cut, or when its place is given up.
#[derive(Debug)]
pub struct Cord {
    /// Whether it was pulled.
    pub pulled: oneshot::Receiver<()>,
    /// Why; also to be told from here.
    pub end_reason: Arc<OnceLock<EndReason>>,
}

impl LiveConnections {
    /// Nothing yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { table: Mutex::default(), doubted: Notify::new(), metrics }
    }

    /// Registers a connection. See [`Sessions::hold`](super::Sessions::hold) for one with a session.
    pub(super) fn hold(self: &Arc<Self>, session: Option<&Arc<Session>>) -> (Held, Cord) {
        let (cord, pulled) = oneshot::channel();
        let end_reason = Arc::new(OnceLock::new());
        let key = session.map(|session| session.key);
        let mut table = self.table();
        table.next = table.next.wrapping_add(1);
        let id = table.next;
        let entry = Entry { session: session.cloned(), cord, end_reason: Arc::clone(&end_reason), endless: false };
        table.entries.entry(key).or_default().insert(id, entry);
        drop(table);
        self.metrics.live_connections.inc();
        (Held { live: Arc::clone(self), key, id, end_reason: Arc::clone(&end_reason) }, Cord { pulled, end_reason })
    }

    /// Ends everything of a session.
    pub(super) fn end(&self, key: &SessionKey) {
        let mut table = self.table();
        table.doubts.remove(key);
        let entries = table.entries.remove(&Some(*key));
        drop(table);
        for entry in entries.into_iter().flat_map(HashMap::into_values) {
            entry.end(EndReason::SessionOver);
        }
    }

    /// The process stops: what would never end by itself ends now, and what becomes so from now on.
    pub fn close(&self) {
        let mut table = self.table();
        table.closing = true;
        let mut ending = Vec::new();
        for entries in table.entries.values_mut() {
            ending.extend(entries.extract_if(|_, entry| entry.endless).map(|(_, entry)| entry));
        }
        table.entries.retain(|_, entries| !entries.is_empty());
        drop(table);
        for entry in ending {
            entry.end(EndReason::GoingAway);
        }
    }

    /// The session may be over: the store is to be asked.
    pub(super) fn doubt(&self, key: &SessionKey) {
        let mut table = self.table();
        if table.entries.contains_key(&Some(*key)) && table.doubts.insert(*key) {
            drop(table);
            self.doubted.notify_one();
        }
    }

    /// As [`Self::doubt`], but there is time until the next round.
    pub(super) fn doubt_later(&self, key: &SessionKey) {
        self.table().doubts.insert(*key);
    }

    /// Any session may be over.
    pub(super) fn doubt_all(&self) {
        let mut table = self.table();
        if !table.entries.is_empty() {
            table.all_doubted = true;
            drop(table);
            self.doubted.notify_one();
        }
    }

    /// Until there is a doubt.
    pub(super) async fn doubted(&self) {
        self.doubted.notified().await;
    }

    /// The sessions that are to be looked at: doubted ones and those whose time is over. One for each key.
    pub(super) fn take_doubts(&self, now: UnixTime) -> Vec<Arc<Session>> {
        let mut table = self.table();
        let (doubts, all) = (std::mem::take(&mut table.doubts), std::mem::take(&mut table.all_doubted));
        let of_each = table.entries.values().filter_map(|entries| entries.values().next()?.session.as_ref());
        let doubtful = |session: &&Arc<Session>| all || doubts.contains(&session.key) || session.expires_at() <= now;
        of_each.filter(doubtful).cloned().collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

impl Held {
    /// It has begun to answer without an end in sight: an event stream, a `WebSocket`.
    pub fn never_ends(&self) {
        let mut table = self.live.table();
        let closing = table.closing;
        let Some(entries) = table.entries.get_mut(&self.key) else { return };
        if let Some(entry) = entries.get_mut(&self.id) {
            entry.endless = true;
        }
        let late = if closing { entries.remove(&self.id) } else { None };
        drop(table);
        if let Some(entry) = late {
            entry.end(EndReason::GoingAway);
        }
    }

    /// Why it is being ended, if it is.
    #[must_use]
    pub fn end_reason(&self) -> Option<EndReason> {
        self.end_reason.get().copied()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.live.metrics.live_connections.dec();
        if let Some(end_reason) = self.end_reason() {
            self.live.metrics.live_ended.with_label_values(&[end_reason.label()]).inc();
        }
        let mut table = self.live.table();
        let Some(entries) = table.entries.get_mut(&self.key) else { return };
        entries.remove(&self.id);
        if entries.is_empty() {
            table.entries.remove(&self.key);
        }
    }
}
