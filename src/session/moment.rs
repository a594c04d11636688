//! A moment that is kept in the store, to be compared by whoever reads it.

use std::fmt;
use std::str;
use std::sync::LazyLock;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::resilience::Clock;

/// Which process this is, and when it noted its first moment.
static PROCESS: LazyLock<(u64, Instant)> = LazyLock::new(|| (fastrand::u64(..), Instant::now()));

/// By the clock of whoever noted it, which nobody corrects: by that a process compares its own. And by the one of all
/// who share the store: by that two processes compare. In milliseconds, for what is compared is often not a second apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    process: u64,
    own: u128,
    shared: i64,
}

impl Moment {
    pub(super) fn now(shared: &dyn Clock) -> Self {
        let (process, begun) = *PROCESS;
        Self { process, own: begun.elapsed().as_millis(), shared: shared.millis() }
    }

    /// As written by `Display`; `None`: it is something else.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut parts = str::from_utf8(text).ok()?.strip_prefix("told ")?.split(' ');
        let process = parts.next()?.parse().ok()?;
        let own = parts.next()?.parse().ok()?;
        Some(Self { process, own, shared: parts.next()?.parse().ok()? })
    }

    /// The first that is certainly later.
    #[must_use]
    pub fn next_after(self) -> Self {
        Self { own: self.own.saturating_add(1), shared: self.shared.saturating_add(1), ..self }
    }

    /// Or at the same time: who knows what came first?
    pub(super) fn is_after(self, other: Self) -> bool {
        if self.process == other.process { self.own >= other.own } else { self.shared >= other.shared }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "told {} {} {}", self.process, self.own, self.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_one_process_are_compared_by_its_clock_and_of_two_by_what_they_share() {
        let moment = |process, own, shared| Moment { process, own, shared };
        let told = moment(1, 5_500, 7_500);
        assert_eq!(Moment::read(told.to_string().as_bytes()), Some(told));
        assert_eq!(Moment::read(b"claimed abc"), None);
        assert!(told.is_after(moment(1, 5_400, 7_600)) && !told.is_after(moment(1, 5_600, 7_400)));
        assert!(told.is_after(told) && !told.is_after(told.next_after()));
        // Whatever the other's own clock says, and within one second, too.
        assert!(told.is_after(moment(2, 90_000, 7_400)) && !told.is_after(moment(2, 1_000, 7_600)));
    }
}
