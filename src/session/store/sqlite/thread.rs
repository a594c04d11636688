//! The one thread that holds the connection. Requests come through a channel; writes that queue up
//! while one transaction is being written share the next.

use std::fmt;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::reserve::Reserve;
use crate::session::store::StoreError;

/// No caller waits longer, whatever the disk does.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests in line before callers wait for a place.
const LINE: usize = 1_024;
/// Requests that share a transaction at most.
const BATCH: usize = 128;

/// What a request does to the file, and whether it is still wanted when its caller has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reads; not wanted any more.
    Read,
    /// Writes for this caller alone (takes a note, a lease); not wanted any more.
    Take,
    /// Writes what has happened anyway (a logout, new tokens); done even if nobody waits.
    Write,
    /// The same for what makes room, once a full disk has refused it: it may use what is set aside.
    Forget,
}

/// Given the fate of the transaction, answers the caller.
type Answer = Box<dyn FnOnce(&Result<(), StoreError>) + Send>;

/// `Err`: tell the caller why not. `None`: nobody waits for an answer any more.
type Run = Box<dyn FnOnce(Result<&Connection, &StoreError>) -> Option<Answer> + Send>;

struct Request {
    kind: Kind,
    run: Run,
}

/// The way to the thread. The thread ends with it, after what is in line.
pub(super) struct Thread {
    line: mpsc::Sender<Request>,
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Thread")
    }
}

impl Thread {
    /// Starts it.
    pub fn start(connection: Connection, reserve: Reserve) -> Result<Self, StoreError> {
        let (line, requests) = mpsc::channel(LINE);
        std::thread::Builder::new()
            .name("session-store".to_owned())
            .spawn(move || serve(&connection, &reserve, requests))
            .map_err(|error| StoreError::new("sqlite", error))?;
        Ok(Self { line })
    }

    /// Runs `work` on the connection; a write is on disk when this returns.
    pub async fn ask<T, W>(&self, kind: Kind, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let run = Box::new(move |connection: Result<&Connection, &StoreError>| -> Option<Answer> {
            if matches!(kind, Kind::Read | Kind::Take) && reply.is_closed() {
                return None;
            }
            let done = match connection {
                Ok(connection) => work(connection).map_err(failed),
                Err(why) => Err(why.clone()),
            };
            Some(Box::new(move |fate: &Result<(), StoreError>| {
                // What went wrong with the request itself says more than that all was rolled back. A caller who has
                // left needs no answer.
                let _left = reply.send(done.and_then(|done| fate.clone().map(|()| done)));
            }))
        });
        let asked = async {
            let request = Request { kind, run };
            self.line.send(request).await.map_err(|_| StoreError::new("sqlite", "the store's thread has ended"))?;
            answer.await.map_err(|_| StoreError::new("sqlite", "the store's thread has ended"))?
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answered) => answered,
            Err(_) => Err(StoreError::new("sqlite", format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }
}

fn serve(connection: &Connection, reserve: &Reserve, mut requests: mpsc::Receiver<Request>) {
    reserve.fill();
    while let Some(first) = requests.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match requests.try_recv() {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        // Whoever waited for a write and reads now comes in a later batch: reads may go first, and
        // do not suffer from a disk that takes no writes.
        let (writes, reads): (Vec<_>, Vec<_>) = batch.into_iter().partition(|request| request.kind != Kind::Read);
        let (forgets, writes): (Vec<_>, Vec<_>) = writes.into_iter().partition(|request| request.kind == Kind::Forget);
        for request in reads {
            answer_all((request.run)(Ok(connection)), &Ok(()));
        }
        if !forgets.is_empty() {
            reserve.give();
            // What waits in the journal goes to its place, and the journal begins anew: its own room is used again.
            let _as_far_as_it_goes = connection.query_one("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
            run_as_one(connection, forgets);
            reserve.fill();
        }
        if !writes.is_empty() {
            run_as_one(connection, writes);
        }
    }
}

/// One transaction for all `writes`. A statement that fails undoes only itself (`ON CONFLICT
/// ABORT`); nobody is told of success before the commit.
fn run_as_one(connection: &Connection, writes: Vec<Request>) {
    let begun = connection.execute_batch("BEGIN IMMEDIATE").map_err(failed);
    let mut answers = Vec::with_capacity(writes.len());
    for request in writes {
        let open = match &begun {
            Err(why) => Err(why.clone()),
            // A full disk or an I/O error rolls back at once: what follows must not commit by itself.
            Ok(()) if connection.is_autocommit() => Err(rolled_back()),
            Ok(()) => Ok(connection),
        };
        answers.extend((request.run)(open.as_ref().copied()));
    }
    let fate = match begun {
        Err(why) => Err(why),
        Ok(()) if connection.is_autocommit() => Err(rolled_back()),
        Ok(()) => connection.execute_batch("COMMIT").map_err(failed),
    };
    if !connection.is_autocommit() {
        // Nothing to do about a rollback that fails: the next BEGIN says so.
        let _unsaid = connection.execute_batch("ROLLBACK");
    }
    if let Err(error) = &fate {
        tracing::warn!(%error, "the session store cannot write");
    }
    answer_all(answers, &fate);
}

fn answer_all(answers: impl IntoIterator<Item = Answer>, fate: &Result<(), StoreError>) {
    for answer in answers {
        answer(fate);
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: rusqlite::Error) -> StoreError {
    // A quota, or a bound on the size of files, comes as the latter.
    let full = [rusqlite::ffi::SQLITE_FULL, rusqlite::ffi::SQLITE_IOERR_WRITE];
    if error.sqlite_error().is_some_and(|known| full.contains(&known.extended_code)) {
        StoreError::full("sqlite", error)
    } else {
        StoreError::new("sqlite", error)
    }
}

fn rolled_back() -> StoreError {
    StoreError::full("sqlite", "the transaction was rolled back: the disk is full or failing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(connection: &Connection, size: usize) -> rusqlite::Result<usize> {
        connection.execute("INSERT INTO t VALUES (?1)", [vec![0_u8; size]])
    }

    fn rows(connection: &Connection) -> rusqlite::Result<i64> {
        connection.query_one("SELECT count(*) FROM t", [], |row| row.get(0))
    }

    fn limited(path: &std::path::Path) -> Connection {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x BLOB)").unwrap();
        connection.pragma_update(None, "max_page_count", 20).unwrap();
        connection
    }

    fn started(path: &std::path::Path) -> Thread {
        Thread::start(limited(path), Reserve::beside(path)).unwrap()
    }

    #[tokio::test]
    async fn a_full_disk_refuses_writes_and_serves_reads() {
        let folder = tempfile::tempdir().unwrap();
        let thread = started(&folder.path().join("small.db"));
        thread.ask(Kind::Write, |connection| put(connection, 10)).await.unwrap();
        let full = thread.ask(Kind::Write, |connection| put(connection, 1_000_000)).await.unwrap_err();
        assert!(full.full && full.reason.contains("full"), "{full}");
        assert_eq!(thread.ask(Kind::Read, rows).await.unwrap(), 1);
        thread.ask(Kind::Write, |connection| put(connection, 10)).await.unwrap();
        assert_eq!(thread.ask(Kind::Read, rows).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn who_shares_a_failed_transaction_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let connection = limited(&folder.path().join("small.db"));
        let (reply_one, one) = oneshot::channel();
        let (reply_two, two) = oneshot::channel();
        let request = |reply: oneshot::Sender<Result<usize, StoreError>>, rolls_back: bool| Request {
            kind: Kind::Write,
            run: Box::new(move |open| {
                let done = open.map_err(Clone::clone).and_then(|connection| {
                    if rolls_back {
                        connection.execute_batch("ROLLBACK").unwrap();
                    }
                    put(connection, 10).map_err(|error| StoreError::new("sqlite", error))
                });
                Some(Box::new(move |fate: &Result<(), StoreError>| reply.send(fate.clone().and(done)).unwrap()))
            }),
        };
        run_as_one(&connection, vec![request(reply_one, false)]);
        one.await.unwrap().unwrap();
        // The disk fails under the first of two: the second must neither commit alone nor be told it did.
        let (reply_one, one) = oneshot::channel();
        run_as_one(&connection, vec![request(reply_one, true), request(reply_two, false)]);
        assert!(one.await.unwrap().is_err() && two.await.unwrap().is_err());
        assert_eq!(rows(&connection).unwrap(), 2, "only what the test itself wrote outside");
    }

    #[tokio::test]
    async fn who_has_left_takes_nothing_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let thread = started(&folder.path().join("small.db"));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let busy = thread.ask(Kind::Read, move |_| {
            held.recv().unwrap();
            Ok(())
        });
        let take = thread.ask(Kind::Take, |connection| put(connection, 10));
        let write = thread.ask(Kind::Write, |connection| put(connection, 20));
        // All three are in line when the callers leave.
        let left = tokio::time::timeout(Duration::from_millis(50), futures::future::join3(busy, take, write)).await;
        assert!(left.is_err());
        release.send(()).unwrap();
        let sizes =
            |connection: &Connection| connection.query_one("SELECT sum(length(x)) FROM t", [], |row| row.get(0));
        assert_eq!(thread.ask(Kind::Read, |_| Ok(())).await, Ok(()));
        assert_eq!(thread.ask::<i64, _>(Kind::Read, sizes).await.unwrap(), 20, "the logout is written, the note stays");
    }
}
