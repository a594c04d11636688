//! The only place that reads the wall clock, so that expiry can be tested without sleeping.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;

/// Seconds since 1970-01-01T00:00:00Z, the unit of `NumericDate` (RFC 7519 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// This instant moved forward; saturates instead of overflowing.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_secs()).unwrap_or(i64::MAX)))
    }

    /// How long until `later`; zero when it has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a client is told to wait: rounded up, so that whoever comes back then is not too early, and at least 1.
#[must_use]
pub fn whole_seconds(span: Duration) -> u64 {
    (span.as_secs() + u64::from(span.subsec_nanos() > 0)).max(1)
}

/// Tells the time. Shared as `Arc<dyn Clock>`.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The current wall-clock time.
    fn now(&self) -> UnixTime;
    /// The same in milliseconds, where a clock knows them.
    fn millis(&self) -> i64 {
        self.now().0.saturating_mul(1_000)
    }
    /// What time it is, since 1970 and up to `within` later (the way took that long), by somebody whose
    /// clock counts more; most clocks know better.
    fn set(&self, _now: Duration, _within: Duration) {}
    /// Whether [`Self::now`] is to be gone by: not while somebody's word is awaited that counts more.
    fn is_told(&self) -> bool {
        true
    }
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl SystemClock {
    /// The current time to less than a second: as the engine's cache reads it, whose freshness has no injected clock.
    #[must_use]
    pub fn moment() -> SystemTime {
        SystemTime::now()
    }

    /// The current time as `Date` tells it (RFC 9110 §5.6.7).
    #[must_use]
    pub fn http_date() -> String {
        httpdate::fmt_http_date(SystemTime::now())
    }

    /// The current time as RFC 3339 in UTC, with milliseconds: for log lines.
    #[must_use]
    pub fn timestamp() -> Timestamp {
        Timestamp::of(SystemTime::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.millis().div_euclid(1_000))
    }

    fn millis(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The clock of all who share one store: replicas that disagree about the time would end each other's sessions.
///
/// Until it is told what time it is at the store ([`Clock::set`]), it is the machine's. From then on it goes on from what
/// it was told, whatever the machine's clock does. One that will be told ([`FleetClock::awaiting`]) says whether it
/// has been ([`Clock::is_told`]).
#[derive(Debug)]
pub struct FleetClock {
    started: Instant,
    /// Somebody will tell.
    awaiting: bool,
    /// Milliseconds since 1970 when it was started; [`UNTOLD`] before the first word.
    epoch: AtomicI64,
    /// The same, by a word that nobody has repeated yet.
    unlikely: AtomicI64,
    warned: AtomicBool,
}

const UNTOLD: i64 = i64::MIN;
/// More than this is worth a line in the log, and is believed only when it is said twice in a row.
const ASTRAY: i64 = 5_000;

impl Default for FleetClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            awaiting: false,
            epoch: AtomicI64::new(UNTOLD),
            unlikely: AtomicI64::new(UNTOLD),
            warned: AtomicBool::new(false),
        }
    }
}

impl FleetClock {
    /// One that will be told: until then nothing of the store's is to be judged by it.
    #[must_use]
    pub fn awaiting() -> Self {
        Self { awaiting: true, ..Self::default() }
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

impl Clock for FleetClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.millis().div_euclid(1_000))
    }

    fn millis(&self) -> i64 {
        match self.epoch.load(Ordering::Relaxed) {
            UNTOLD => SystemClock.millis(),
            epoch => epoch.saturating_add(self.elapsed()),
        }
    }

    fn is_told(&self) -> bool {
        !self.awaiting || self.epoch.load(Ordering::Relaxed) != UNTOLD
    }

    fn set(&self, now: Duration, within: Duration) {
        let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let latest = millis.saturating_add(i64::try_from(within.as_millis()).unwrap_or(i64::MAX));
        let elapsed = self.elapsed();
        // What is possible stays: it is nearer to the truth than an answer that was long on its way.
        let here = SystemClock.millis();
        let before = match self.epoch.load(Ordering::Relaxed) {
            UNTOLD => here,
            epoch => epoch.saturating_add(elapsed),
        };
        let known = before.clamp(millis, latest.max(millis));
        if known.abs_diff(before) > ASTRAY.unsigned_abs() {
            // One wrong byte must not end every session there is.
            let word = known.saturating_sub(elapsed);
            let last = self.unlikely.swap(word, Ordering::Relaxed);
            if last.abs_diff(word) > ASTRAY.unsigned_abs() {
                return;
            }
        } else {
            self.unlikely.store(UNTOLD, Ordering::Relaxed);
        }
        self.epoch.store(known.saturating_sub(elapsed), Ordering::Relaxed);
        let ahead = here.saturating_sub(known);
        let astray = ahead.abs() > ASTRAY;
        if astray && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(ahead_ms = ahead, "this machine's clock is not that of the session store, which counts");
        } else if !astray {
            self.warned.store(false, Ordering::Relaxed);
        }
    }
}

/// A clock that moves only when told to; for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `seconds` since the epoch.
    #[must_use]
    pub fn at(seconds: i64) -> Self {
        Self(AtomicI64::new(seconds))
    }

    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(i64::try_from(span.as_secs()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_awaits_a_word_says_so_until_it_believes_one() {
        assert!(FleetClock::default().is_told(), "nobody will tell");
        let clock = FleetClock::awaiting();
        assert!(!clock.is_told());
        clock.set(Duration::from_secs(1_000), Duration::ZERO);
        assert!(!clock.is_told(), "an unlikely word, said once");
        clock.set(Duration::from_secs(1_000), Duration::ZERO);
        assert!(clock.is_told());
        let likely = FleetClock::awaiting();
        likely.set(Duration::from_secs(u64::try_from(SystemClock.now().0).unwrap()), Duration::from_secs(1));
        assert!(likely.is_told(), "a likely one is believed at once");
    }

    #[test]
    fn an_unlikely_word_that_was_contradicted_is_not_believed_when_it_comes_again() {
        let (clock, wrong) = (FleetClock::default(), Duration::from_secs(1_000));
        let right = Duration::from_secs(u64::try_from(SystemClock.now().0).unwrap());
        clock.set(wrong, Duration::ZERO);
        clock.set(right, Duration::from_secs(1));
        clock.set(wrong, Duration::ZERO);
        assert!(clock.now().0 > 10_000, "said once since it was told better");
        clock.set(wrong, Duration::ZERO);
        assert!((1_000..=1_010).contains(&clock.now().0), "said twice in a row");
    }

    #[test]
    fn a_fleet_clock_is_the_machines_until_it_is_told() {
        let clock = FleetClock::default();
        assert!(SystemClock.now().until(clock.now()) <= Duration::from_secs(1));
        clock.set(Duration::from_millis(1_000_999), Duration::ZERO);
        assert!(SystemClock.now().until(clock.now()) <= Duration::from_secs(1), "said once");
        clock.set(Duration::from_secs(77), Duration::ZERO);
        clock.set(Duration::from_millis(1_000_999), Duration::ZERO);
        assert!(clock.now().0 > 10_000, "said twice, but not in a row");
        clock.set(Duration::from_millis(1_000_999), Duration::ZERO);
        assert!((1_000..=1_010).contains(&clock.now().0));
        assert!((1_000_999..=1_010_999).contains(&clock.millis()), "{}", clock.millis());
        clock.set(Duration::from_secs(500), Duration::ZERO);
        clock.set(Duration::from_secs(500), Duration::ZERO);
        assert!((500..=510).contains(&clock.now().0), "also backwards");
        clock.set(Duration::from_secs(470), Duration::from_secs(100));
        assert!((500..=510).contains(&clock.now().0), "what may be true stays");
        clock.set(Duration::from_secs(600), Duration::from_secs(100));
        clock.set(Duration::from_secs(600), Duration::from_secs(100));
        assert!((600..=610).contains(&clock.now().0));
    }
}
