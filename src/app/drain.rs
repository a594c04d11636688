//! Stopping. On SIGTERM readiness ends at once while the listeners stay open for `server.drain_delay`, so
//! that a balancer can notice; every answer closes its connection from then on. After that nobody is
//! accepted any more, event streams and `WebSocket`s are ended in the words of their protocol, and what
//! is in flight finishes, renewals and revocations of tokens too, within `server.shutdown_grace` of the signal. SIGINT is
//! a person at a terminal: the same without the delay, and a second one ends it at once. On SIGQUIT the
//! listening sockets go to a process that waits for them (see `handover`).
//!
//! The engine by itself would sleep its whole grace: it is told to sleep a little longer than ours, and
//! the process ends when it is done (see `serve`). Its fast end is never asked for, since that does not
//! tell the listeners: accepting on a runtime that shuts down, they fail in a loop without a pause.

use std::io::{IsTerminal as _, stdin};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::{ExecutionPhase, ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep};

use super::{handover, start};
use crate::proxy::Bff;

const LOOK: Duration = Duration::from_millis(20);
/// So many looks in a row must find nothing to do: the last bytes of an answer leave after its request.
const QUIET: u32 = 5;
/// How long a successor is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// What streams that outlived the hand-over get to end in, before the grace is over.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub(super) struct Drain {
    pub(super) bff: Bff,
    pub(super) delay: Duration,
    pub(super) grace: Duration,
    pub(super) upgrade_sock: PathBuf,
    pub(super) phases: Mutex<Option<Receiver<ExecutionPhase>>>,
    /// Told when the process may end.
    pub(super) over: SyncSender<()>,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hand_over: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

#[async_trait]
impl ShutdownSignalWatch for Drain {
    async fn recv(&self) -> ShutdownSignal {
        let Ok(mut signals) = Signals::listen() else {
            tracing::error!("signals cannot be received; stopping");
            let _ = self.over.try_send(());
            return ShutdownSignal::GracefulTerminate;
        };
        start::heard_elsewhere();
        let attended = stdin().is_terminal();
        loop {
            tokio::select! {
                // A reload (see `reload`), unless the terminal went: nobody could stop us there any more.
                _ = signals.hang_up.recv() => if attended && !stdin().is_terminal() {
                    return self.terminate(signals, Duration::ZERO).await;
                },
                _ = signals.terminate.recv() => return self.terminate(signals, self.delay).await,
                _ = signals.interrupt.recv() => return self.terminate(signals, Duration::ZERO).await,
                _ = signals.hand_over.recv() => match self.await_successor().await {
                    Ok(()) => return self.hand_over(signals),
                    // The engine would stop although nobody goes on.
                    Err(reason) => tracing::error!(reason, "nothing is handed over; serving on"),
                },
            }
        }
    }
}

impl Drain {
    async fn terminate(&self, mut signals: Signals, delay: Duration) -> ShutdownSignal {
        let deadline = Instant::now() + self.grace;
        self.bff.gateway().endpoints.draining.store(true, Ordering::SeqCst);
        self.bff.gateway().leaving.store(true, Ordering::SeqCst);
        let in_flight = self.bff.gateway().metrics.http_in_flight.get();
        tracing::info!(
            in_flight,
            delay_seconds = delay.as_secs_f64(),
            grace_seconds = self.grace.as_secs_f64(),
            "stopping"
        );
        tokio::select! {
            () = sleep(delay) => {}
            _ = signals.interrupt.recv() => {}
        }
        self.bff.gateway().endpoints.sessions.live().close();
        tokio::spawn(self.draining(deadline).finish(signals));
        ShutdownSignal::GracefulTerminate
    }

    /// It may have been started just now.
    async fn await_successor(&self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            match handover::successor(&self.upgrade_sock) {
                Err(_) if Instant::now() < until => sleep(LOOK).await,
                found => return found,
            }
        }
    }

    /// Readiness stays: the balancer asks on the sockets that the successor has, too, and may meet us.
    fn hand_over(&self, signals: Signals) -> ShutdownSignal {
        self.bff.gateway().leaving.store(true, Ordering::SeqCst);
        tracing::info!(path = %self.upgrade_sock.display(), "handing the listening sockets over");
        let phases = self.phases.lock().take();
        let (grace, mut draining) = (self.grace, self.draining(Instant::now()));
        tokio::spawn(async move {
            accepted_nowhere(phases).await;
            tracing::info!(in_flight = draining.bff.gateway().metrics.http_in_flight.get(), "handed over");
            draining.deadline = Instant::now() + grace;
            draining.finish(signals).await;
        });
        ShutdownSignal::GracefulUpgrade
    }

    fn draining(&self, deadline: Instant) -> Draining {
        Draining { bff: self.bff.clone(), deadline, over: self.over.clone() }
    }
}

/// Until the engine has stopped accepting.
async fn accepted_nowhere(phases: Option<Receiver<ExecutionPhase>>) {
    let Some(mut phases) = phases else { return };
    loop {
        match phases.recv().await {
            Ok(ExecutionPhase::ShutdownStarted | ExecutionPhase::ShutdownGracePeriod) | Err(RecvError::Closed) => {
                return;
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
        }
    }
}

/// What is left to do once nobody is accepted any more.
struct Draining {
    bff: Bff,
    deadline: Instant,
    over: SyncSender<()>,
}

impl Draining {
    async fn finish(self, mut signals: Signals) {
        let gateway = self.bff.gateway();
        let live = gateway.endpoints.sessions.live();
        let mut quiet = 0;
        while quiet < QUIET {
            let now = Instant::now();
            if now + LAST_WORDS >= self.deadline {
                live.close();
            }
            if now >= self.deadline {
                let (in_flight, unfinished) = self.left();
                tracing::warn!(in_flight, unfinished, "server.shutdown_grace is over; requests are cut off");
                break;
            }
            quiet = if self.left() == (0, 0) { quiet + 1 } else { 0 };
            tokio::select! {
                () = sleep(LOOK) => {}
                _ = signals.terminate.recv() => live.close(),
                _ = signals.interrupt.recv() => break,
            }
        }
        tracing::info!("stopped");
        let _ = self.over.try_send(());
    }

    /// A renewal outlives its requests: cut off, it takes a refresh token with it that was rotated already. So does the
    /// revocation of a logout, which is not known to the provider before it is over.
    fn left(&self) -> (i64, usize) {
        (self.bff.gateway().metrics.http_in_flight.get().max(0), self.bff.gateway().broker.unfinished())
    }
}
