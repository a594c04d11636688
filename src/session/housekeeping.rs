//! Housekeeping, to be done by a background task ([`Sessions::keep_house`]).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio::time::{interval, sleep};

use super::live::{Cord, Held, LiveConnections};
use super::model::Session;
use super::sessions::Sessions;
use super::store::{AT_ONCE, StoreError};

impl Sessions {
    /// How often [`Self::watch_round`] is due: bounds how long another process's logout is unknown here.
    pub(super) const WATCH: Duration = Duration::from_millis(250);
    /// How often [`Self::sweep_round`] is due.
    const SWEEP: Duration = Duration::from_secs(60);

    /// Does all of it, for as long as it is polled; each beside the others, for a sweep of many sessions takes seconds.
    pub async fn keep_house(&self) {
        let watching = async {
            let mut watch = interval(Self::WATCH);
            loop {
                watch.tick().await;
                self.watch_round().await;
            }
        };
        let sweeping = async {
            // A shared store first tells its time: by a clock of our own that is ahead, the sessions of the whole fleet
            // would be swept away.
            while !self.knows_time() {
                sleep(Self::WATCH).await;
            }
            let mut sweep = interval(Self::SWEEP);
            loop {
                sweep.tick().await;
                self.sweep_round().await;
            }
        };
        tokio::join!(watching, sweeping, self.watch_live());
    }

    /// Forgets what is close at hand when another process wrote to the store.
    pub(super) async fn watch_round(&self) {
        match self.store.changed_elsewhere().await {
            Ok(true) => {
                self.near.clear();
                self.live.doubt_all();
            }
            Ok(false) => {}
            // Sessions close at hand stay: nobody is logged out because a disk is slow.
            Err(error) => tracing::debug!(%error, "the session store cannot be watched"),
        }
    }

    /// Registers a live connection, with the session that it ends with.
    pub fn hold(&self, session: Option<&Arc<Session>>) -> (Held, Cord) {
        let held = self.live.hold(session);
        // An end takes the session out of the near cache first and asks the register then: a session that
        // is no longer near may have ended between its look-up and this place.
        if let Some(session) = session
            && self.near.get(&session.token).is_none()
        {
            self.live.doubt(&session.key);
        }
        held
    }

    /// The register of live connections.
    #[must_use]
    pub fn live(&self) -> &Arc<LiveConnections> {
        &self.live
    }

    /// Ends live connections with their sessions, for as long as it is polled.
    async fn watch_live(&self) {
        loop {
            tokio::select! {
                () = self.live.doubted() => {}
                () = sleep(Self::WATCH) => {}
            }
            self.live_round().await;
        }
    }

    /// Asks the store for every live session that is in doubt, and ends what is over.
    pub(super) async fn live_round(&self) {
        if !self.change_feed.trusts() {
            // No change is told meanwhile: the store is asked for every live session.
            self.live.doubt_all();
        }
        let doubtful = stream::iter(self.live.take_doubts(self.clock.now()));
        doubtful.for_each_concurrent(AT_ONCE, |session| async move { self.look_at(&session).await }).await;
    }

    async fn look_at(&self, session: &Session) {
        match self.reread(session).await {
            Ok(Some(_)) => {}
            Ok(None) => self.live.end(&session.key),
            // As for requests: what cannot be asked for goes on for the grace and no longer.
            Err(_) if !self.change_feed.trusts() && !self.change_feed.bears(self.clock.now(), self.grace) => {
                self.live.end(&session.key);
            }
            Err(_) => self.live.doubt_later(&session.key),
        }
    }

    /// Removes what has expired, here and in the store, and counts what lives.
    pub(super) async fn sweep_round(&self) {
        self.near.sweep(self.clock.now());
        if let Err(error) = self.sweep().await {
            tracing::warn!(%error, "the session store cannot be swept");
        }
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.now()?;
        let gone = self.store.sweep(self.as_told(now)).await?;
        self.metrics.sessions_destroyed.with_label_values(&["expired"]).inc_by(gone);
        let live = self.store.count(now).await?;
        self.metrics.sessions_active.set(i64::try_from(live).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }
}
