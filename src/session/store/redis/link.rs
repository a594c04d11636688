//! One connection to one server, kept: dropped at the first sign of trouble, made again at once and
//! then with back-off, and asked four times a second whether it still answers. Commands and the news
//! of changes share it, so that an answer proves the news to have arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::copies::{Copies, followers};
use super::dial::{Greeted, NoConnection, PATIENCE, forgets, is_there, time_of};
use crate::config::RedisAddress;

/// How often the server is asked whether it answers; bounds how long a silent loss goes unseen.
const BEAT: Duration = Duration::from_millis(250);
/// How often it is asked whether it still throws nothing away.
const LOOK: Duration = Duration::from_secs(10);
/// A question waits so long for a connection that was lost a moment ago; after that it fails at once.
const LOST_A_MOMENT_AGO: Duration = Duration::from_millis(450);
/// Between attempts to connect: doubled up to the second, so that recovery stays below a second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));
/// A connection that lasted so long is made again at once.
const WORTH_A_TRY: Duration = Duration::from_millis(50);
/// An attempt to connect takes no longer, also where nothing answers at all.
const ATTEMPT: Duration = PATIENCE.saturating_mul(2);
/// Between being back and having saved what could not be saved before.
const SLACK: Duration = Duration::from_millis(250);
/// By then every replica is back, too: one that began its last vain attempt just before the server answered again waits for
/// the end of it, and for the next.
const SETTLED: Duration = ATTEMPT.saturating_add(BACK_OFF.1).saturating_add(SLACK);

/// A connection that works as far as anybody knows.
#[derive(Clone)]
pub(super) struct Connection {
    /// Grows with every connection of the link.
    pub(super) number: u64,
    /// Of whoever answers.
    pub(super) address: RedisAddress,
    pub(super) inner: MultiplexedConnection,
}

#[derive(Clone)]
enum State {
    Up(Connection),
    Down { since: Instant, why: NoConnection },
}

/// One server, or whatever server is the master.
pub(super) struct Link {
    /// For the log.
    pub(super) name: String,
    state: watch::Sender<State>,
    trouble: Notify,
    numbers: AtomicU64,
    /// When the last answered question was asked.
    proved: Mutex<Instant>,
    /// When it came back last; `None`: it was there at the first attempt, and ever since.
    back: Mutex<Option<Instant>>,
    pub(super) copies: Copies,
}

/// What a link needs of its surroundings.
pub(super) trait Surroundings: Send + Sync + 'static {
    /// Makes the connection.
    fn dial(
        &self,
        heard: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> impl Future<Output = Result<(RedisAddress, Greeted), NoConnection>> + Send;
    /// The server told what time it is: since 1970, up to `within` later.
    fn time(&self, now: Duration, within: Duration);
    /// A message came.
    fn heard(&self, push: PushInfo);
    /// The link went up or down.
    fn turned(&self);
}

impl Link {
    pub(super) fn new(name: String) -> Arc<Self> {
        let why = NoConnection::Unreachable("not connected yet".to_owned());
        let (state, _) = watch::channel(State::Down { since: Instant::now(), why });
        let (trouble, numbers, proved) = (Notify::new(), AtomicU64::new(0), Mutex::new(Instant::now()));
        Arc::new(Self { name, state, trouble, numbers, proved, back: Mutex::new(None), copies: Copies::default() })
    }

    /// Runs until it is aborted. `lost`: another server had the keys before.
    pub(super) async fn keep(self: Arc<Self>, around: Arc<impl Surroundings>, mut lost: bool) {
        let mut pause = BACK_OFF.0;
        loop {
            let begun = Instant::now();
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let (link, ear) = (Arc::clone(&self), Arc::clone(&around));
            let heard = move |push: PushInfo| match push.kind {
                redis::PushKind::Disconnection => link.fail(number, "the connection was closed"),
                _ => ear.heard(push),
            };
            let dialled = timeout(ATTEMPT, around.dial(heard)).await;
            match dialled.unwrap_or_else(|_| Err(NoConnection::Unreachable("no answer in time".to_owned()))) {
                Ok((address, Greeted { connection: inner, times })) => {
                    self.prove(begun);
                    if lost {
                        *self.back.lock() = Some(Instant::now());
                    }
                    self.state.send_replace(State::Up(Connection { number, address, inner: inner.clone() }));
                    tracing::info!(redis = self.name, "connected");
                    // Before anybody asks: what is over is judged by this.
                    for (time, asked) in times {
                        around.time(time, asked.elapsed());
                    }
                    around.turned();
                    self.watch_over(number, inner, &*around).await;
                    lost = true;
                    around.turned();
                    if begun.elapsed() > WORTH_A_TRY {
                        pause = BACK_OFF.0;
                        continue;
                    }
                }
                Err(why) => {
                    self.stay_down(&why, &*around);
                    lost = true;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    /// Returns when the connection is of no use any more.
    async fn watch_over(&self, number: u64, mut connection: MultiplexedConnection, around: &impl Surroundings) {
        let mut beat = redis::pipe();
        beat.cmd("PING").cmd("TIME").cmd("ROLE");
        let (mut looked, mut no_writing, mut forgetful) = (Instant::now(), None, None);
        while self.is_up_as(number) {
            let asked = Instant::now();
            tokio::select! {
                () = self.trouble.notified() => continue,
                answer = timeout(PATIENCE, connection.send_packed_commands(&beat, 0, 3)) => {
                    match answer.as_ref().map(|told| told.as_deref()) {
                        Ok(Ok([pong, time, role])) if is_there(pong) => {
                            self.prove(asked);
                            self.learn(time, asked.elapsed(), role, around);
                            let error = pong.clone().extract_error().err();
                            self.complain(&mut no_writing, error.map(|error| error.to_string()));
                        }
                        Ok(Ok(_)) => self.fail(number, "it answers PING with something else"),
                        Ok(Err(error)) => self.fail(number, &error.to_string()),
                        Err(_) => self.fail(number, "it does not answer"),
                    }
                }
            }
            if looked.elapsed() > LOOK
                && let Some(Connection { address, .. }) = self.up()
            {
                looked = Instant::now();
                self.complain(&mut forgetful, forgets(&mut connection, &address).await);
            }
            let _ = timeout(BEAT, self.trouble.notified()).await;
        }
    }

    /// Says once what somebody has to change, though the server answers.
    fn complain(&self, before: &mut Option<String>, now: Option<String>) {
        if let Some(reason) = now.as_deref().filter(|now| before.as_deref() != Some(now)) {
            tracing::error!(redis = self.name, reason, "it answers, and is not fit to keep sessions");
        }
        *before = now;
    }

    fn learn(&self, time: &Value, took: Duration, role: &Value, around: &impl Surroundings) {
        if let Some(now) = time_of(time) {
            around.time(now, took);
        }
        if let Some(followers) = followers(role) {
            self.copies.told(&self.name, followers);
        }
    }

    fn stay_down(&self, why: &NoConnection, around: &impl Surroundings) {
        let mut news = false;
        self.state.send_modify(|state| {
            if let State::Down { why: before, .. } = state {
                news = before != why;
                before.clone_from(why);
            }
        });
        if news {
            tracing::error!(redis = self.name, reason = why.reason(), "no connection; trying again");
            around.turned();
        }
    }

    /// Drops the connection of that number: nobody uses it from now on.
    pub(super) fn fail(&self, number: u64, why: &str) {
        let dropped = self.state.send_if_modified(|state| {
            let current = matches!(state, State::Up(connection) if connection.number == number);
            if current {
                let why = NoConnection::Unreachable(why.to_owned());
                *state = State::Down { since: Instant::now(), why };
            }
            current
        });
        if dropped {
            tracing::warn!(redis = self.name, reason = why, "connection lost");
            self.trouble.notify_one();
        }
    }

    fn is_up_as(&self, number: u64) -> bool {
        matches!(&*self.state.borrow(), State::Up(connection) if connection.number == number)
    }

    pub(super) fn is_up(&self) -> bool {
        self.up().is_some()
    }

    /// The connection, if there is one.
    pub(super) fn up(&self) -> Option<Connection> {
        match &*self.state.borrow() {
            State::Up(connection) => Some(connection.clone()),
            State::Down { .. } => None,
        }
    }

    /// Why there is no connection.
    pub(super) fn down(&self) -> Option<NoConnection> {
        match &*self.state.borrow() {
            State::Up(_) => None,
            State::Down { why, .. } => Some(why.clone()),
        }
    }

    /// The connection; waits a moment for one that was just lost.
    pub(super) async fn connection(&self, deadline: Instant) -> Result<Connection, NoConnection> {
        let mut state = self.state.subscribe();
        let until = match &*state.borrow() {
            State::Up(connection) => return Ok(connection.clone()),
            State::Down { since, .. } => deadline.min(*since + LOST_A_MOMENT_AGO),
        };
        let _ = timeout_at(until, state.wait_for(|state| matches!(state, State::Up(_)))).await;
        match &*self.state.borrow() {
            State::Up(connection) => Ok(connection.clone()),
            State::Down { why, .. } => Err(why.clone()),
        }
    }

    fn prove(&self, asked: Instant) {
        *self.proved.lock() = asked;
    }

    /// How long until the link has been back for [`SETTLED`].
    pub(super) fn unsettled(&self) -> Duration {
        let back = *self.back.lock();
        back.map_or(Duration::ZERO, |back| SETTLED.saturating_sub(back.elapsed()))
    }

    /// How long ago the link was certainly in order.
    pub(super) fn proved(&self) -> Duration {
        self.proved.lock().elapsed()
    }
}
