//! Redis says yes before a replica has heard of it, and a master that dies then takes its yes along.
//! What nobody could forgive (a login, a rotated refresh token, a logout) is therefore waited for, a
//! moment at the most, with WAIT: on a connection of its own, because it holds up what stands behind it,
//! and once for all who wait at the same time. A replica that is gone may have been made the master, while this server
//! still takes itself for one: the sentinels are asked before anything is acknowledged without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Value, cmd, from_redis_value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::StoreError;
use super::RedisStore;
use super::dial::PATIENCE;
use super::link::Link;
use super::nodes::Nodes;

/// What is known of the replicas of one server, and whoever waits for them.
#[derive(Default)]
pub(super) struct Copies {
    /// Replicas that follow, as the server told last.
    known: AtomicUsize,
    /// The most there were since it was certain that none of them was about to become the master.
    most: AtomicUsize,
    /// Counts those who want to know.
    tickets: AtomicU64,
    turn: Mutex<Turn>,
}

/// The last WAIT: one at a time.
#[derive(Default)]
struct Turn {
    /// Tickets up to this one were given out before it was sent.
    upto: u64,
    /// What came of it.
    outcome: Option<Result<(), String>>,
    /// To the server that the link was connected to with that number.
    connection: Option<(u64, MultiplexedConnection)>,
}

impl Copies {
    /// The server called `name` told how many follow it.
    pub(super) fn told(&self, name: &str, replicas: usize) {
        self.most.fetch_max(replicas, Ordering::AcqRel);
        let before = self.known.swap(replicas, Ordering::AcqRel);
        if before > 0 && replicas == 0 {
            tracing::warn!(redis = name, "no replica follows it any more: if it dies now, what is written is lost");
        }
    }
}

/// A server that is about to be written to, and the connection it had then.
struct Before {
    link: Arc<Link>,
    number: u64,
}

impl RedisStore {
    /// Runs `write`, which touches `keys`; where there are replicas, one has it too before this returns.
    /// An error says that the write may be lost, not that it is.
    pub(super) async fn copied<T>(
        &self,
        keys: &[String],
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let nodes = &self.asker.nodes;
        let before = before(nodes, keys).await;
        let done = write.await?;
        for server in before {
            let nodes = Arc::clone(nodes);
            let waited = self.asker.nodes.runtime().spawn(async move { wait(&nodes, &server).await });
            waited.await.map_err(|stopped| StoreError::new("redis", stopped))??;
        }
        Ok(done)
    }
}

/// The servers with replicas among those that have these keys.
async fn before(nodes: &Nodes, keys: &[String]) -> Vec<Before> {
    if nodes.dial.replica_wait.is_zero() {
        return Vec::new();
    }
    let mut found: Vec<Before> = Vec::new();
    for link in keys.iter().filter_map(|key| nodes.link_of(key)) {
        if link.copies.most.load(Ordering::Acquire) == 0 || found.iter().any(|there| Arc::ptr_eq(&there.link, &link)) {
            continue;
        }
        // Without a connection the write fails as well, and says why.
        if let Ok(connection) = link.connection(Instant::now() + PATIENCE).await {
            found.push(Before { number: connection.number, link });
        }
    }
    found
}

async fn wait(nodes: &Nodes, server: &Before) -> Result<(), StoreError> {
    let copies = &server.link.copies;
    let ticket = copies.tickets.fetch_add(1, Ordering::AcqRel) + 1;
    let mut turn = copies.turn.lock().await;
    if turn.upto < ticket {
        turn.upto = copies.tickets.load(Ordering::Acquire);
        turn.outcome = Some(ask(nodes, &server.link, &mut turn.connection).await);
    }
    let outcome = turn.outcome.clone().unwrap_or(Ok(()));
    // Another server cannot tell what became of what the first was told.
    let same = server.link.up().is_some_and(|connection| connection.number == server.number);
    match outcome {
        Ok(()) if same => Ok(()),
        Ok(()) => Err(StoreError::new("redis", "the server changed before a replica had what was written")),
        Err(reason) => Err(StoreError::new("redis", reason)),
    }
}

/// A replica that takes too long is no error: the write is where it would be without any.
async fn ask(nodes: &Nodes, link: &Link, kept: &mut Option<(u64, MultiplexedConnection)>) -> Result<(), String> {
    let current = link.up().ok_or("the connection was lost before a replica had what was written")?;
    let span = nodes.dial.replica_wait;
    let still_there = kept.take().filter(|(number, _)| *number == current.number);
    let answered = match still_there {
        Some((_, connection)) => question(connection, span).await.ok(),
        None => None,
    };
    // One that nobody used for a while may have been forgotten by the server or on the way, which says nothing of the
    // write.
    let (connection, last) = if let Some(answered) = answered {
        answered
    } else {
        let connection = nodes.dial.plain(&current.address).await.map_err(|why| why.reason().to_owned())?;
        let answered = question(connection, span).await?;
        same_server(current.inner.clone()).await?;
        answered
    };
    let [reached, role] = last;
    let reached: usize = match reached.extract_error() {
        Ok(value) => from_redis_value(value).map_err(|error| error.to_string())?,
        Err(error) if error.code() == Some("NOPERM") => {
            tracing::warn!(redis = link.name, "the user may not WAIT: a master that dies may take new logins along");
            1
        }
        Err(error) => return Err(error.to_string()),
    };
    *kept = Some((current.number, connection));
    let followers = followers(&role);
    if let Some(followers) = followers {
        link.copies.told(&link.name, followers);
    }
    let fewer = followers.filter(|followers| *followers < link.copies.most.load(Ordering::Acquire));
    if reached == 0 || fewer.is_some() {
        nodes.confirm(&current.address).await?;
    }
    if let Some(followers) = fewer {
        link.copies.most.store(followers, Ordering::Release);
    }
    if reached == 0 {
        tracing::warn!(redis = link.name, "no replica has a write yet; if the master dies now, it is lost");
    }
    Ok(())
}

/// The connection back, and what it said to WAIT, and to ROLE right after it.
async fn question(
    mut connection: MultiplexedConnection,
    span: Duration,
) -> Result<(MultiplexedConnection, [Value; 2]), String> {
    let told = |error: redis::RedisError| error.to_string();
    // Any command makes WAIT mean everything that was written before it, by whomever. By itself, it tells soon whether
    // anybody is there.
    connection.send_packed_command(&cmd("PING")).await.map_err(told)?;
    let mut patient = connection.clone();
    patient.set_response_timeout(span + PATIENCE);
    let mut questions = redis::pipe();
    questions.cmd("WAIT").arg(1).arg(u64::try_from(span.as_millis()).unwrap_or(1)).cmd("ROLE");
    let mut answers = patient.send_packed_commands(&questions, 0, 2).await.map_err(told)?.into_iter();
    Ok((connection, [(); 2].map(|()| answers.next().unwrap_or(Value::Nil))))
}

/// How many replicas follow a master, by its ROLE. A user who may not ask gets an error there, which tells nothing.
pub(super) fn followers(role: &Value) -> Option<usize> {
    let Value::Array(words) = role else { return None };
    let [_master, _offset, Value::Array(replicas)] = words.as_slice() else { return None };
    Some(replicas.len())
}

/// The address may be another server's by now, which never heard of the write.
async fn same_server(mut written_to: MultiplexedConnection) -> Result<(), String> {
    let answer = written_to.send_packed_command(&cmd("PING")).await;
    answer.map(drop).map_err(|error| format!("the server changed before a replica had what was written: {error}"))
}
