//! Housekeeping, to be called by a background task: every [`Sessions::WATCH`] and every [`Sessions::SWEEP`].

use std::time::Duration;

use super::sessions::Sessions;
use super::store::StoreError;

impl Sessions {
    /// How often [`Self::watch_round`] is due: bounds how long another process's logout is unknown here.
    pub const WATCH: Duration = Duration::from_millis(250);
    /// How often [`Self::sweep_round`] is due.
    pub const SWEEP: Duration = Duration::from_secs(60);

    /// Forgets what is close at hand when another process wrote to the store.
    pub async fn watch_round(&self) {
        match self.store.changed_elsewhere().await {
            Ok(true) => self.near.clear(),
            Ok(false) => {}
            // Sessions close at hand stay: nobody is logged out because a disk is slow.
            Err(error) => tracing::debug!(%error, "the session store cannot be watched"),
        }
    }

    /// Removes what has expired and counts what lives.
    pub async fn sweep_round(&self) {
        if let Err(error) = self.sweep().await {
            tracing::warn!(%error, "the session store cannot be swept");
        }
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let gone = self.store.sweep(self.as_told(now)).await?;
        self.metrics.sessions_destroyed.with_label_values(&["expired"]).inc_by(gone);
        let live = self.store.count(now).await?;
        self.metrics.sessions_active.set(i64::try_from(live).unwrap_or(i64::MAX));
        Ok(())
    }

    /// One round of all housekeeping.
    pub async fn tend(&self) {
        self.watch_round().await;
        self.sweep_round().await;
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }
}
