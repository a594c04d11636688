//! One question to Redis: bounded in time, measured, run to its end whoever waits for it, asked again
//! where that is harmless, and answered by nothing but its own answer.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec};
use redis::{Cmd, ServerErrorKind, ToRedisArgs, Value, cmd};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::StoreError;
use super::link::{Connection, Link};
use super::nodes::Nodes;
use crate::telemetry::Metrics;

/// For everything: finding a connection, asking, asking again.
const LIMIT: Duration = Duration::from_millis(550);
/// Before a server that is busy with itself is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// What to ask.
pub(super) struct Question {
    operation: &'static str,
    script: &'static str,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
    again: bool,
}

impl Question {
    /// `script` on `key`. `operation` is a metric label.
    pub(super) fn new(operation: &'static str, script: &'static str, key: String) -> Self {
        Self { operation, script, keys: vec![key], args: Vec::new(), again: true }
    }

    /// One more key, with the hash tag of the first.
    pub(super) fn key(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    /// One more argument.
    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.args.extend(arg.to_redis_args());
        self
    }

    /// Never asked twice: the first answer may have been lost after the deed.
    pub(super) fn once(mut self) -> Self {
        self.again = false;
        self
    }

    fn command(&self, number: u64) -> Cmd {
        let mut command = cmd("EVAL");
        command.arg(self.script).arg(self.keys.len()).arg(&self.keys).arg(number);
        for arg in &self.args {
            command.arg(arg.as_slice());
        }
        command
    }
}

/// Asks; answers with what the script gave behind the number of the question.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) nodes: Arc<Nodes>,
    operations: IntCounterVec,
    latency: HistogramVec,
}

/// Why there is no answer.
enum Fault {
    Timeout,
    Full(String),
    Error(String),
}

/// What to do after an attempt.
enum Next {
    Done(Result<Vec<Value>, Fault>),
    Again(Option<Arc<Link>>, String),
}

impl Asker {
    pub(super) fn new(nodes: Arc<Nodes>, metrics: &Metrics) -> Self {
        Self { nodes, operations: metrics.redis_operations.clone(), latency: metrics.redis_latency.clone() }
    }

    /// Completes on the thread of the store even when the caller is dropped.
    pub(super) async fn ask(&self, question: Question) -> Result<Vec<Value>, StoreError> {
        let (asker, operation) = (self.clone(), question.operation);
        let task = self.nodes.runtime().spawn(async move {
            let begun = Instant::now();
            let answer = asker.answer(&question).await;
            let status = match &answer {
                Ok(_) => "success",
                Err(Fault::Timeout) => "timeout",
                Err(Fault::Full(_) | Fault::Error(_)) => "error",
            };
            asker.operations.with_label_values(&[operation, status]).inc();
            asker.latency.with_label_values(&[operation]).observe(begun.elapsed().as_secs_f64());
            answer
        });
        match task.await {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(Fault::Timeout)) => Err(StoreError::new("redis", format!("no answer to {operation} in time"))),
            Ok(Err(Fault::Full(reason))) => Err(StoreError::full("redis", reason)),
            Ok(Err(Fault::Error(reason))) => Err(StoreError::new("redis", reason)),
            Err(stopped) => Err(StoreError::new("redis", stopped)),
        }
    }

    async fn answer(&self, question: &Question) -> Result<Vec<Value>, Fault> {
        let deadline = Instant::now() + LIMIT;
        let mut redirected = None;
        let mut reason = "nobody knows who has this key".to_owned();
        while Instant::now() < deadline {
            let key = question.keys.first().map(String::as_str).unwrap_or_default();
            let asking = redirected.is_some();
            let Some(link) = redirected.take().or_else(|| self.nodes.link_of(key)) else {
                // Before the first map, or in a gap of it.
                let mut maps = self.nodes.maps.subscribe();
                self.nodes.lost.notify_one();
                if !matches!(timeout_at(deadline.min(Instant::now() + LIMIT / 2), maps.changed()).await, Ok(Ok(()))) {
                    return Err(Fault::Error(reason));
                }
                continue;
            };
            let connection = link.connection(deadline).await.map_err(|why| Fault::Error(why.reason().to_owned()))?;
            match self.attempt(question, &link, connection, asking, deadline).await {
                Next::Done(answer) => return answer,
                Next::Again(other, why) => {
                    redirected = other;
                    reason = why;
                }
            }
        }
        Err(Fault::Error(reason))
    }

    async fn attempt(
        &self,
        question: &Question,
        link: &Arc<Link>,
        connection: Connection,
        asking: bool,
        deadline: Instant,
    ) -> Next {
        let number = self.nodes.next_question();
        let sent = send(connection.inner.clone(), question.command(number), asking);
        let Ok(answer) = timeout_at(deadline, sent).await else {
            link.fail(connection.number, "no answer in time");
            return Next::Done(Err(Fault::Timeout));
        };
        let error = match answer.and_then(Value::extract_error) {
            Ok(value) => {
                let values = own_answer(value, number);
                if values.is_none() {
                    // Whatever was read belongs to somebody else: nothing on this connection is to be trusted.
                    link.fail(connection.number, "an answer belongs to another question");
                }
                let answer = values.ok_or_else(|| Fault::Error("the answers were mixed up".to_owned()));
                return Next::Done(answer);
            }
            Err(error) => error,
        };
        let reason = error.to_string();
        match error.kind() {
            redis::ErrorKind::Server(ServerErrorKind::Moved) => {
                self.find_out(deadline).await;
                Next::Again(None, reason)
            }
            redis::ErrorKind::Server(ServerErrorKind::Ask) => {
                let other = error.redirect_node().and_then(|(address, _)| self.nodes.link_at(address));
                if other.is_none() {
                    self.find_out(deadline).await;
                }
                Next::Again(other, reason)
            }
            redis::ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::TryAgain,
            ) => {
                self.nodes.lost.notify_one();
                sleep(PAUSE).await;
                Next::Again(None, reason)
            }
            redis::ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                // No master any more: nothing was done.
                link.fail(connection.number, &reason);
                self.nodes.lost.notify_one();
                Next::Again(None, reason)
            }
            redis::ErrorKind::Server(_) | redis::ErrorKind::Extension => Next::Done(Err(refused(&error, reason))),
            _ => {
                link.fail(connection.number, &reason);
                if error.is_timeout() {
                    Next::Done(Err(Fault::Timeout))
                } else if question.again {
                    Next::Again(None, reason)
                } else {
                    Next::Done(Err(Fault::Error(reason)))
                }
            }
        }
    }

    /// Waits for the next map of the cluster, a moment at the most.
    async fn find_out(&self, deadline: Instant) {
        let mut maps = self.nodes.maps.subscribe();
        self.nodes.lost.notify_one();
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = timeout(left.min(LIMIT / 4), maps.changed()).await;
    }
}

/// It has no room, or its disk has none (MISCONF). Redis 6 says so within the error of the script.
fn refused(error: &redis::RedisError, reason: String) -> Fault {
    let full =
        ["OOM", "MISCONF"].iter().any(|code| error.code() == Some(code) || reason.contains(&format!("-{code} ")));
    if full { Fault::Full(reason) } else { Fault::Error(reason) }
}

async fn send(
    mut connection: redis::aio::MultiplexedConnection,
    command: Cmd,
    asking: bool,
) -> redis::RedisResult<Value> {
    if !asking {
        return connection.send_packed_command(&command).await;
    }
    let pipeline = redis::pipe().cmd("ASKING").add_command(command).to_owned();
    let answers = connection.send_packed_commands(&pipeline, 1, 1).await?;
    Ok(answers.into_iter().next().unwrap_or(Value::Nil))
}

/// What stands behind the number, if it is ours.
fn own_answer(value: Value, number: u64) -> Option<Vec<Value>> {
    let Value::Array(values) = value else { return None };
    let mut values = values.into_iter();
    let Some(Value::BulkString(echo)) = values.next() else { return None };
    (echo == number.to_string().as_bytes()).then(|| values.collect())
}
