//! What time it is for everybody who shares the store, and what it knows of ends that move.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::key::SessionKey;
use super::model::Session;
use super::sessions::Sessions;
use super::slide::Slide;
use super::store::StoreError;
use crate::resilience::UnixTime;

/// How long a session is new. Less than the eight seconds for which every token of a login is used, whatever it says: what
/// needs another login is none of these.
const NEW: Duration = Duration::from_secs(5);
/// After which a store that failed is first told again; each time twice as long.
const AGAIN: Duration = Duration::from_secs(1);

impl Sessions {
    /// What time it is for all who share the store; an error as long as it has not told. By a clock of our own that
    /// is wrong, everybody's session would be over.
    pub(super) fn now(&self) -> Result<UnixTime, StoreError> {
        let told = self.knows_time().then(|| self.clock.now());
        told.ok_or_else(|| StoreError::new("clock", "the session store has not told the time yet"))
    }

    /// Whether the time is known by which sessions end.
    #[must_use]
    pub fn knows_time(&self) -> bool {
        self.clock.is_told()
    }

    /// Whether it was begun a moment ago.
    #[must_use]
    pub fn is_new(&self, session: &Session) -> bool {
        self.now().is_ok_and(|now| now < session.created_at.plus(NEW))
    }

    /// Tells the store where a session ends by now, in the background. A store that fails is told again, until the next step
    /// of the end would be told: for everybody else the session ends where it did, and nobody may use it again before that.
    pub(super) fn tell_store(&self, key: SessionKey, end: UnixTime) {
        let Ok(runtime) = Handle::try_current() else { return };
        let (near, live, store) = (Arc::clone(&self.near), Arc::clone(&self.live), Arc::clone(&self.store));
        let last = Slide::lag(self.lifetime);
        runtime.spawn(async move {
            let mut pause = AGAIN;
            loop {
                match store.touch(&key, end).await {
                    Ok(true) => return,
                    // Ended by another process: what is here is not to be trusted.
                    Ok(false) => {
                        near.remove(&key);
                        live.doubt(&key);
                        return;
                    }
                    Err(_) if pause > last => return,
                    Err(error) if pause == AGAIN => {
                        tracing::warn!(session = %key.short(), %error, "a session's new end is not stored yet");
                    }
                    Err(_) => {}
                }
                sleep(pause).await;
                pause *= 2;
            }
        });
    }

    /// The store knows each end as it was a little ago: what is over for it at `now` may not be over.
    pub(super) fn as_told(&self, now: UnixTime) -> UnixTime {
        let lag = i64::try_from(Slide::lag(self.lifetime).as_secs()).unwrap_or(0);
        UnixTime(now.0.saturating_sub(lag))
    }
}
