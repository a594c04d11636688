//! A moment that is kept in the store, to be compared by whoever reads it.

use std::fmt;
use std::str;
use std::sync::LazyLock;

use crate::resilience::{SystemClock, UnixTime};

/// Tells the moments of this process from those of others.
static PROCESS: LazyLock<u64> = LazyLock::new(|| fastrand::u64(..));

/// By the clock of whoever noted it, and by the one of all who share the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    process: u64,
    millis: u128,
    shared: UnixTime,
}

impl Moment {
    pub(super) fn now(shared: UnixTime) -> Self {
        let millis = SystemClock::moment().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
        Self { process: *PROCESS, millis, shared }
    }

    /// As written by `Display`; `None`: it is something else.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut parts = str::from_utf8(text).ok()?.strip_prefix("told ")?.split(' ');
        let process = parts.next()?.parse().ok()?;
        let millis = parts.next()?.parse().ok()?;
        Some(Self { process, millis, shared: UnixTime(parts.next()?.parse().ok()?) })
    }

    /// Two processes compare by the clock they share; one process with itself by its own, which is finer. There a logout
    /// told in the millisecond in which a login began counts as later; in the same second of two, it would end logins
    /// that began after it.
    pub(super) fn is_after(self, other: Self) -> bool {
        if self.process == other.process { self.millis >= other.millis } else { self.shared > other.shared }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "told {} {} {}", self.process, self.millis, self.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_one_process_are_compared_finely_and_of_two_by_what_they_share() {
        let moment = |process, millis, shared| Moment { process, millis, shared: UnixTime(shared) };
        let told = moment(1, 5_500, 5);
        assert_eq!(Moment::read(told.to_string().as_bytes()), Some(told));
        assert_eq!(Moment::read(b"claimed abc"), None);
        assert!(told.is_after(moment(1, 5_400, 5)) && !told.is_after(moment(1, 5_600, 5)));
        // Whatever the other's own clock says.
        assert!(told.is_after(moment(2, 90_000, 4)) && !told.is_after(moment(2, 1_000, 5)));
    }
}
