//! Sessions in a file: survives restarts and kills, may be shared by the processes of one machine.

mod reserve;
mod schema;
mod thread;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use self::reserve::Reserve;
use self::thread::{Kind, Thread};
use super::{Record, Saved, Selector, SessionStore, StoreError};
use crate::resilience::UnixTime;
use crate::session::SessionKey;

/// Expired rows removed in one transaction: a large sweep must not hold up logins.
const SWEEP: u64 = 1_000;

/// The embedded store.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    thread: Thread,
    reserve: Reserve,
    /// `PRAGMA data_version` when last asked.
    seen: AtomicI64,
}

impl SqliteStore {
    /// Opens the database at `path`, making folder, file and tables where they are missing.
    /// An error names the file. Blocks; meant for the start.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let named = |reason: String| StoreError::new("sqlite", format!("{}: {reason}", path.display()));
        let connection = schema::open(path).map_err(named)?;
        let seen = data_version(&connection).map_err(|error| named(error.to_string()))?;
        let reserve = Reserve::beside(path);
        let thread = Thread::start(connection, reserve.clone())?;
        Ok(Self { path: path.to_owned(), thread, reserve, seen: AtomicI64::new(seen) })
    }

    /// What makes room is done on a full disk, too.
    async fn forget<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.thread.ask(kind, work.clone()).await {
            Err(error) if error.full => self.thread.ask(Kind::Forget, work).await,
            done => done,
        }
    }

    /// SQLite goes on with a file that somebody removed; everything in it is lost at the next start.
    async fn ask_while_there<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let looked = move |connection: &Connection| if path.exists() { work(connection).map(Some) } else { Ok(None) };
        let removed = || StoreError::new("sqlite", format!("{} has been removed", self.path.display()));
        self.thread.ask(kind, looked).await?.ok_or_else(removed)
    }
}

/// Grows when another connection commits; our own writes do not count (sqlite.org/pragma.html).
fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_one([], |row| row.get(0))
}

/// SQLite knows signed numbers only; ours never come near the sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        version: unsigned(row, 0)?,
        issuer: row.get(1)?,
        subject: row.get(2)?,
        idp_session: row.get(3)?,
        created_at: UnixTime(row.get(4)?),
        expires_at: UnixTime(row.get(5)?),
        ends_at: UnixTime(row.get(6)?),
        sealed: row.get(7)?,
    })
}

fn save(connection: &Connection, key: SessionKey, record: &Record, expected: u64) -> rusqlite::Result<Saved> {
    let mut update = connection.prepare_cached(
        "UPDATE sessions SET version = ?3, issuer = ?4, subject = ?5, idp_session = ?6, created_at = ?7, ends_at = ?8,
         sealed = ?9 WHERE key = ?1 AND version = ?2",
    )?;
    let Record { version, issuer, subject, idp_session, created_at, ends_at, sealed, .. } = record;
    let changed = update.execute(params![
        key.0,
        signed(expected),
        signed(*version),
        issuer,
        subject,
        idp_session,
        created_at.0,
        ends_at.0,
        sealed
    ])?;
    if changed > 0 {
        return Ok(Saved::Yes);
    }
    let there = connection.prepare_cached("SELECT 1 FROM sessions WHERE key = ?1")?.exists([key.0])?;
    Ok(if there { Saved::Conflict } else { Saved::Gone })
}

/// A new row's number is greater than any other's there is (sqlite.org/autoinc.html).
fn find(connection: &Connection, selector: &Selector, now: UnixTime) -> rusqlite::Result<Vec<SessionKey>> {
    let (sql, name, issuer) = match selector {
        Selector::Subject { issuer, subject } => (
            "SELECT key FROM sessions WHERE subject = ?1 AND issuer = ?2 AND ?3 < min(expires_at, ends_at)
             ORDER BY rowid",
            subject,
            issuer,
        ),
        Selector::IdpSession { issuer, sid } => (
            "SELECT key FROM sessions WHERE idp_session = ?1 AND issuer = ?2 AND ?3 < min(expires_at, ends_at)
             ORDER BY rowid",
            sid,
            issuer,
        ),
    };
    let mut keys = connection.prepare_cached(sql)?;
    let keys = keys.query_map(params![name, issuer, now.0], |row| row.get(0).map(SessionKey))?;
    keys.collect()
}

fn lease(connection: &Connection, name: &str, holder: &str, now: i64, until: i64) -> rusqlite::Result<Option<u64>> {
    let taken = connection
        .prepare_cached(
            "SELECT 1 FROM leases WHERE name = ?1 AND holder <> ?2 AND ?3 < expires_at AND expires_at < ?4",
        )?
        .exists(params![name, holder, now, beyond_belief(now, until)])?;
    if taken {
        return Ok(None);
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO leases (name, holder, expires_at) VALUES (?1, ?2, ?3)")?
        .execute(params![name, holder, until])?;
    let grant = "UPDATE fence SET value = value + 1 RETURNING value";
    connection.prepare_cached(grant)?.query_one([], |row| unsigned(row, 0)).map(Some)
}

/// A lease that ends so late was taken before the clock was put back.
fn beyond_belief(now: i64, until: i64) -> i64 {
    now.saturating_add(until.saturating_sub(now).saturating_mul(10))
}

/// One bounded step of a sweep: how many sessions went.
fn sweep(connection: &Connection, now: i64) -> rusqlite::Result<u64> {
    connection.prepare_cached("DELETE FROM notes WHERE expires_at <= ?1")?.execute([now])?;
    connection.prepare_cached("DELETE FROM leases WHERE expires_at <= ?1")?.execute([now])?;
    // The sliding end never lies beyond the absolute one: its index finds both.
    let dead = "DELETE FROM sessions WHERE key IN (SELECT key FROM sessions WHERE expires_at <= ?1 LIMIT ?2)";
    let gone = connection.prepare_cached(dead)?.execute(params![now, signed(SWEEP)])?;
    Ok(u64::try_from(gone).unwrap_or(u64::MAX))
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn load(&self, key: &SessionKey, now: UnixTime) -> Result<Option<Record>, StoreError> {
        let key = *key;
        let work = move |connection: &Connection| {
            let mut select = connection.prepare_cached(
                "SELECT version, issuer, subject, idp_session, created_at, expires_at, ends_at, sealed
                 FROM sessions WHERE key = ?1 AND ?2 < min(expires_at, ends_at)",
            )?;
            select.query_one(params![key.0, now.0], record).optional()
        };
        self.thread.ask(Kind::Read, work).await
    }

    async fn insert(&self, key: &SessionKey, record: Record) -> Result<(), StoreError> {
        let key = *key;
        let work = move |connection: &Connection| {
            let mut insert = connection.prepare_cached(
                "INSERT INTO sessions (key, version, issuer, subject, idp_session, created_at, expires_at, ends_at, sealed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            let Record { version, issuer, subject, idp_session, created_at, expires_at, ends_at, sealed } = record;
            let expires_at = expires_at.min(ends_at);
            insert.execute(params![
                key.0,
                signed(version),
                issuer,
                subject,
                idp_session,
                created_at.0,
                expires_at.0,
                ends_at.0,
                sealed
            ])?;
            Ok(())
        };
        self.ask_while_there(Kind::Take, work).await
    }

    async fn save(&self, key: &SessionKey, record: Record, expected: u64) -> Result<Saved, StoreError> {
        let key = *key;
        self.thread.ask(Kind::Write, move |connection| save(connection, key, &record, expected)).await
    }

    async fn touch(&self, key: &SessionKey, expires_at: UnixTime) -> Result<bool, StoreError> {
        let key = *key;
        let work = move |connection: &Connection| {
            let moved = "UPDATE sessions SET expires_at = min(ends_at, max(expires_at, ?2)) WHERE key = ?1";
            Ok(connection.prepare_cached(moved)?.execute(params![key.0, expires_at.0])? > 0)
        };
        self.thread.ask(Kind::Write, work).await
    }

    async fn delete(&self, key: &SessionKey) -> Result<Option<Record>, StoreError> {
        let key = *key;
        let work = move |connection: &Connection| {
            let mut delete = connection.prepare_cached(
                "DELETE FROM sessions WHERE key = ?1
                 RETURNING version, issuer, subject, idp_session, created_at, expires_at, ends_at, sealed",
            )?;
            delete.query_one([key.0], record).optional()
        };
        self.forget(Kind::Write, work).await
    }

    async fn find(&self, selector: &Selector, now: UnixTime) -> Result<Vec<SessionKey>, StoreError> {
        let selector = selector.clone();
        self.thread.ask(Kind::Read, move |connection| find(connection, &selector, now)).await
    }

    async fn count(&self, now: UnixTime) -> Result<u64, StoreError> {
        let work = move |connection: &Connection| {
            let live = "SELECT count(*) FROM sessions WHERE expires_at > ?1";
            connection.prepare_cached(live)?.query_one([now.0], |row| unsigned(row, 0))
        };
        self.thread.ask(Kind::Read, work).await
    }

    async fn sweep(&self, now: UnixTime) -> Result<u64, StoreError> {
        let mut total: u64 = 0;
        loop {
            let gone = self.forget(Kind::Take, move |connection| sweep(connection, now.0)).await?;
            total = total.saturating_add(gone);
            if gone < SWEEP {
                let reserve = self.reserve.clone();
                let refill = move |_: &Connection| {
                    reserve.fill();
                    Ok(())
                };
                self.thread.ask(Kind::Read, refill).await?;
                return Ok(total);
            }
        }
    }

    async fn put_note(
        &self,
        name: &str,
        value: Vec<u8>,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let name = name.to_owned();
        let work = move |connection: &Connection| {
            let mut put = connection.prepare_cached(
                "INSERT INTO notes (name, value, expires_at) VALUES (?1, ?2, ?3) ON CONFLICT (name)
                 DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at WHERE notes.expires_at <= ?4",
            )?;
            Ok(put.execute(params![name, value, expires_at.0, now.0])? > 0)
        };
        self.ask_while_there(Kind::Take, work).await
    }

    async fn take_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        let name = name.to_owned();
        let work = move |connection: &Connection| {
            let mut take =
                connection.prepare_cached("DELETE FROM notes WHERE name = ?1 RETURNING value, expires_at")?;
            let taken = take.query_one([name], |row| Ok((row.get(0)?, UnixTime(row.get(1)?)))).optional()?;
            Ok(taken.filter(|(_, expires_at)| now < *expires_at).map(|(value, _)| value))
        };
        self.thread.ask(Kind::Take, work).await
    }

    async fn set_note(
        &self,
        name: &str,
        value: Vec<u8>,
        expires_at: UnixTime,
        _now: UnixTime,
    ) -> Result<(), StoreError> {
        let name = name.to_owned();
        let work = move |connection: &Connection| {
            let set = "INSERT OR REPLACE INTO notes (name, value, expires_at) VALUES (?1, ?2, ?3)";
            connection.prepare_cached(set)?.execute(params![name, value, expires_at.0])?;
            Ok(())
        };
        self.thread.ask(Kind::Write, work).await
    }

    async fn read_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        let name = name.to_owned();
        let work = move |connection: &Connection| {
            let read = "SELECT value FROM notes WHERE name = ?1 AND ?2 < expires_at";
            connection.prepare_cached(read)?.query_one(params![name, now.0], |row| row.get(0)).optional()
        };
        self.thread.ask(Kind::Read, work).await
    }

    async fn lease(&self, name: &str, holder: &str, span: Duration, now: UnixTime) -> Result<Option<u64>, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let work = move |connection: &Connection| lease(connection, &name, &holder, now.0, now.plus(span).0);
        self.thread.ask(Kind::Take, work).await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let work = move |connection: &Connection| {
            let give = "DELETE FROM leases WHERE name = ?1 AND holder = ?2";
            connection.prepare_cached(give)?.execute([name, holder])?;
            Ok(())
        };
        self.thread.ask(Kind::Write, work).await
    }

    async fn changed_elsewhere(&self) -> Result<bool, StoreError> {
        let version = self.thread.ask(Kind::Read, data_version).await?;
        Ok(self.seen.swap(version, Ordering::Relaxed) != version)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let look = |connection: &Connection| {
            connection.prepare_cached("SELECT value FROM fence")?.query_one([], |row| row.get::<_, i64>(0)).map(drop)
        };
        self.ask_while_there(Kind::Read, look).await
    }
}
