//! The one thread that holds the connection. Requests come through a channel; writes that queue up
//! while one transaction is being written share the next.

use std::fmt;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

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
}

/// Given the fate of the transaction, answers the caller.
type Answer = Box<dyn FnOnce(&Result<(), StoreError>) + Send>;

struct Request {
    writes: bool,
    /// `Err`: tell the caller why not. `None`: nobody waits for an answer (any more).
    run: Box<dyn FnOnce(Result<&Connection, &StoreError>) -> Option<Answer> + Send>,
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
    pub fn start(connection: Connection) -> Result<Self, StoreError> {
        let (line, requests) = mpsc::channel(LINE);
        std::thread::Builder::new()
            .name("session-store".to_owned())
            .spawn(move || serve(&connection, requests))
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
            if kind != Kind::Write && reply.is_closed() {
                return None;
            }
            let done = match connection {
                Ok(connection) => work(connection).map_err(|error| StoreError::new("sqlite", error)),
                Err(why) => Err(why.clone()),
            };
            Some(Box::new(move |fate: &Result<(), StoreError>| {
                // A caller who has left needs no answer.
                let _left = reply.send(fate.clone().and(done));
            }))
        });
        let asked = async {
            let request = Request { writes: kind != Kind::Read, run };
            self.line.send(request).await.map_err(|_| StoreError::new("sqlite", "the store's thread has ended"))?;
            answer.await.map_err(|_| StoreError::new("sqlite", "the store's thread has ended"))?
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answered) => answered,
            Err(_) => Err(StoreError::new("sqlite", format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }
}

fn serve(connection: &Connection, mut requests: mpsc::Receiver<Request>) {
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
        let (writes, reads): (Vec<_>, Vec<_>) = batch.into_iter().partition(|request| request.writes);
        for request in reads {
            answer_all((request.run)(Ok(connection)), &Ok(()));
        }
        if !writes.is_empty() {
            run_as_one(connection, writes);
        }
    }
}

/// One transaction for all `writes`. A statement that fails undoes only itself (`ON CONFLICT
/// ABORT`); nobody is told of success before the commit.
fn run_as_one(connection: &Connection, writes: Vec<Request>) {
    let begun = connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| StoreError::new("sqlite", error));
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
        Ok(()) => connection.execute_batch("COMMIT").map_err(|error| StoreError::new("sqlite", error)),
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

fn rolled_back() -> StoreError {
    StoreError::new("sqlite", "the transaction was rolled back: the disk is full or failing")
}
