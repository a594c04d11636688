//! What time it is for everybody who shares the store, and what it knows of ends that move.

use std::time::Duration;

use super::model::Session;
use super::sessions::Sessions;
use super::slide::Slide;
use super::store::StoreError;
use crate::resilience::UnixTime;

/// How long a session is new. Less than the eight seconds for which every token of a login is used, whatever it says: what
/// needs another login is none of these.
const NEW: Duration = Duration::from_secs(5);

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

    /// The store knows each end as it was a little ago: what is over for it at `now` may not be over.
    pub(super) fn as_told(&self, now: UnixTime) -> UnixTime {
        let lag = i64::try_from(Slide::lag(self.lifetime).as_secs()).unwrap_or(0);
        UnixTime(now.0.saturating_sub(lag))
    }
}
