//! Stopping: on SIGTERM or SIGINT readiness ends at once, requests and renewals of tokens in flight
//! finish, then the process does. The engine by itself would sleep its whole grace, or cut everything. Its fast end is
//! never asked for, since that does not tell the listeners: accepting on a runtime that shuts down, they
//! fail in a loop without a pause, and the process never ends. With a grace of zero (`serve`) the graceful
//! end is as quick.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::proxy::Gateway;

const LOOK: Duration = Duration::from_millis(20);

pub(super) struct Drain {
    pub(super) gateway: Arc<Gateway>,
    pub(super) grace: Duration,
}

#[async_trait]
impl ShutdownSignalWatch for Drain {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut upgrade)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::quit()))
        else {
            tracing::error!("signals cannot be received; stopping");
            return ShutdownSignal::GracefulTerminate;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = upgrade.recv() => return ShutdownSignal::GracefulUpgrade,
        }
        self.drain(&mut interrupt).await
    }
}

impl Drain {
    async fn drain(&self, interrupt: &mut Signal) -> ShutdownSignal {
        self.gateway.draining.store(true, Ordering::SeqCst);
        let in_flight = &self.gateway.metrics.http_in_flight;
        tracing::info!(in_flight = in_flight.get(), grace_seconds = self.grace.as_secs(), "stopping");
        let deadline = Instant::now() + self.grace;
        // A renewal outlives its requests: cut off, it takes a refresh token with it that was rotated already.
        let renewing = || self.gateway.broker.renewing();
        while in_flight.get() > 0 || renewing() > 0 {
            if Instant::now() >= deadline {
                let (in_flight, renewing) = (in_flight.get(), renewing());
                tracing::warn!(in_flight, renewing, "server.shutdown_grace is over; requests are cut off");
                return ShutdownSignal::GracefulTerminate;
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                _ = interrupt.recv() => return ShutdownSignal::GracefulTerminate,
            }
        }
        tracing::info!("stopped");
        ShutdownSignal::GracefulTerminate
    }
}
