//! Where sessions live. The trait is storage-shaped: it moves sealed records and knows nothing of
//! OAuth. Every store passes the one contract suite in `tests/`.

mod counted;
mod memory;
mod redis;
mod sqlite;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub(super) use counted::Counted;
pub use memory::MemoryStore;
pub use redis::RedisStore;
pub use sqlite::SqliteStore;

use super::key::SessionKey;
use crate::resilience::{Rate, Standing, UnixTime};

/// Questions under way at once, where there are many.
pub(in crate::session) const AT_ONCE: usize = 32;

/// A session at rest: what logout and administration need in the clear, the rest sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// As in [`Session::version`](super::Session::version).
    pub version: u64,
    /// `iss` of the ID token.
    pub issuer: String,
    /// `sub` of the ID token.
    pub subject: String,
    /// `sid` of the ID token.
    pub idp_session: Option<String>,
    /// The time of login.
    pub created_at: UnixTime,
    /// Sliding end; moved by [`SessionStore::touch`].
    pub expires_at: UnixTime,
    /// Absolute end.
    pub ends_at: UnixTime,
    /// Everything else, sealed to the cookie (see `session::seal`).
    pub sealed: Vec<u8>,
}

impl Record {
    fn is_live(&self, now: UnixTime) -> bool {
        now < self.expires_at && now < self.ends_at
    }

    /// Everything that finds it.
    fn selectors(&self) -> Vec<Selector> {
        Selector::of(&self.issuer, &self.subject, self.idp_session.as_deref())
    }
}

/// The store could not be asked. Never the same as "not there".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("session store {engine}: {reason}")]
pub struct StoreError {
    /// `memory`, `sqlite` or `redis`; of what is done before it is asked `sealing`, `flows`, `notes`, `clock`, `runtime`.
    pub engine: &'static str,
    /// For the log and the operator; names no session.
    pub reason: String,
    /// It answers, and has no room for what was to be written.
    pub full: bool,
}

impl StoreError {
    /// An error of `engine` because of `reason`.
    pub(super) fn new(engine: &'static str, reason: impl fmt::Display) -> Self {
        Self { engine, reason: reason.to_string(), full: false }
    }

    /// The same, for want of room.
    pub(super) fn full(engine: &'static str, reason: impl fmt::Display) -> Self {
        Self { full: true, ..Self::new(engine, reason) }
    }
}

/// What became of a compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Written.
    Yes,
    /// Somebody wrote another version first: read again.
    Conflict,
    /// The session was ended meanwhile: it stays ended.
    Gone,
}

/// Which sessions are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// All sessions of one person.
    Subject {
        /// `iss` of the ID token.
        issuer: String,
        /// `sub` of the ID token.
        subject: String,
    },
    /// The sessions of one login at the provider.
    IdpSession {
        /// `iss` of the ID token.
        issuer: String,
        /// `sid` of the ID token.
        sid: String,
    },
}

impl Selector {
    /// Everything that finds a session of these.
    fn of(issuer: &str, subject: &str, sid: Option<&str>) -> Vec<Self> {
        let subject = Self::Subject { issuer: issuer.to_owned(), subject: subject.to_owned() };
        let login = sid.map(|sid| Self::IdpSession { issuer: issuer.to_owned(), sid: sid.to_owned() });
        std::iter::once(subject).chain(login).collect()
    }
}

/// Who is told what other processes change, as it happens. Called on a thread of the store: must not block.
pub trait Listener: fmt::Debug + Send + Sync {
    /// Another process changed or ended the session of this key.
    fn changed(&self, key: &SessionKey);
    /// From now on changes may be missed; until `ago` before now none was.
    fn deaf(&self, ago: Duration);
    /// From now on every change is told again. What was kept until now may be stale.
    fn hearing(&self);
    /// Everything in the store was thrown away at once.
    fn emptied(&self);
    /// What time it is for everybody who shares the store: since 1970, up to `within` later.
    fn time(&self, _now: Duration, _within: Duration) {}
}

/// Storage of sessions, login flows and leases. `now` is always the caller's clock; Redis
/// counts spans by its own.
#[async_trait]
pub trait SessionStore: Send + Sync + fmt::Debug {
    /// The record under `key`, unless it has expired.
    async fn load(&self, key: &SessionKey, now: UnixTime) -> Result<Option<Record>, StoreError>;
    /// Writes a new session. A key is 256 random bits: an existing one is an error.
    async fn insert(&self, key: &SessionKey, record: Record) -> Result<(), StoreError>;
    /// Writes `record` if the stored version is `expected`. Leaves the sliding end alone.
    async fn save(&self, key: &SessionKey, record: Record, expected: u64) -> Result<Saved, StoreError>;
    /// Moves the sliding end, never backwards nor beyond the absolute end; `false` when the session is gone.
    async fn touch(&self, key: &SessionKey, expires_at: UnixTime) -> Result<bool, StoreError>;
    /// Ends a session: the record as it was at the last; `None` when it was not there.
    async fn delete(&self, key: &SessionKey) -> Result<Option<Record>, StoreError>;
    /// The keys of all live sessions that `selector` means, in the order of their insertion: the oldest
    /// first, for everybody who shares the store.
    async fn find(&self, selector: &Selector, now: UnixTime) -> Result<Vec<SessionKey>, StoreError>;
    /// Live sessions.
    async fn count(&self, now: UnixTime) -> Result<u64, StoreError>;
    /// Removes what has expired (sessions, notes, leases); how many sessions that were.
    async fn sweep(&self, now: UnixTime) -> Result<u64, StoreError>;

    /// Keeps a short-lived note (a flow, a claim, a shared token) unless one of that name is there already; `false` then.
    async fn put_note(
        &self,
        name: &str,
        value: Vec<u8>,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError>;
    /// Takes a note out: only one caller ever gets it.
    async fn take_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError>;
    /// Keeps a note, whatever is there under that name.
    async fn set_note(&self, name: &str, value: Vec<u8>, expires_at: UnixTime, now: UnixTime)
    -> Result<(), StoreError>;
    /// Reads a note and leaves it there.
    async fn read_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError>;

    /// Takes the lease `name` for `span`; `None` while another holder has it, else a fencing number
    /// that grows with every grant.
    async fn lease(&self, name: &str, holder: &str, span: Duration, now: UnixTime) -> Result<Option<u64>, StoreError>;
    /// Takes it for `holder` at once, also while [`Self::lease`] lets strangers wait: again, or where two holders do no harm.
    async fn renew_lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        now: UnixTime,
    ) -> Result<Option<u64>, StoreError> {
        self.lease(name, holder, span, now).await
    }
    /// Gives a lease back, if `holder` still has it.
    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError>;

    /// Counts one request of `name` for all who share this store, by its clock. `None`: it is not
    /// shared between machines, and each process counts for itself.
    async fn count_request(&self, _name: &str, _rate: &Rate) -> Result<Option<Standing>, StoreError> {
        Ok(None)
    }

    /// Whether another process wrote since the last call: cached sessions are then not to be trusted.
    /// Always `false` of a store that tells its [`Listener`].
    async fn changed_elsewhere(&self) -> Result<bool, StoreError>;
    /// Tells `listener`, the first one given, what changes elsewhere; first of all whether it can be
    /// heard. A store that has to be asked ([`Self::changed_elsewhere`]) tells nothing.
    fn listen(&self, _listener: Arc<dyn Listener>) {}
    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StoreError>;
}
