//! The moving end of one session, shared by all its versions in this process.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::resilience::UnixTime;

/// When a session ends if nobody uses it again. Moved by every request without a lock.
#[derive(Debug)]
pub(super) struct Slide {
    /// Exclusive: at this second the session is over.
    end: AtomicI64,
    /// The end that the store knows of.
    written: AtomicI64,
}

/// What a request did to the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slid {
    /// The session is over.
    Over,
    /// Moved here; the store need not know yet.
    Here,
    /// Moved far enough, by this caller, that the store should be told this end.
    Tell(UnixTime),
}

impl Slide {
    /// The end as the store has it.
    pub fn stored(end: UnixTime) -> Self {
        Self { end: AtomicI64::new(end.0), written: AtomicI64::new(end.0) }
    }

    /// How far the store's end may lag behind ours: at most one write a session in this span.
    pub fn lag(lifetime: Duration) -> Duration {
        Duration::from_secs((lifetime.as_secs() / 20).max(1))
    }

    /// The end as known here.
    pub fn end(&self) -> UnixTime {
        UnixTime(self.end.load(Ordering::Relaxed))
    }

    /// Takes note of an end that was read from the store: another process may have moved it.
    pub fn learn(&self, end: UnixTime) {
        self.end.fetch_max(end.0, Ordering::Relaxed);
    }

    /// Uses the session at `now`: moves its end to `lifetime` from now, never beyond `ends_at`.
    pub fn touch(&self, now: UnixTime, lifetime: Duration, ends_at: UnixTime) -> Slid {
        if now >= self.end() || now >= ends_at {
            return Slid::Over;
        }
        let end = now.plus(lifetime).min(ends_at);
        if end > self.end() {
            self.end.fetch_max(end.0, Ordering::Relaxed);
        }
        let written = self.written.load(Ordering::Relaxed);
        let ahead = end.0.saturating_sub(written);
        let step = i64::try_from(Self::lag(lifetime).as_secs()).unwrap_or(i64::MAX);
        // The absolute end is written exactly, however small the step to it.
        if ahead < step && (ahead <= 0 || end != ends_at) {
            return Slid::Here;
        }
        match self.written.compare_exchange(written, end.0, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Slid::Tell(end),
            Err(_another_caller_tells) => Slid::Here,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_tells_rarely_and_stops_at_the_absolute_end() {
        let slide = Slide::stored(UnixTime(1_100));
        let (lifetime, ends_at) = (Duration::from_secs(100), UnixTime(1_203));
        assert_eq!(slide.touch(UnixTime(1_000), lifetime, ends_at), Slid::Here);
        assert_eq!(slide.touch(UnixTime(1_004), lifetime, ends_at), Slid::Here);
        assert_eq!(slide.end(), UnixTime(1_104));
        assert_eq!(slide.touch(UnixTime(1_005), lifetime, ends_at), Slid::Tell(UnixTime(1_105)));
        assert_eq!(slide.touch(UnixTime(1_005), lifetime, ends_at), Slid::Here);
        assert_eq!(slide.touch(UnixTime(1_102), lifetime, ends_at), Slid::Tell(UnixTime(1_202)));
        assert_eq!(slide.touch(UnixTime(1_150), lifetime, ends_at), Slid::Tell(UnixTime(1_203)));
        assert_eq!(slide.touch(UnixTime(1_151), lifetime, ends_at), Slid::Here);
        assert_eq!(slide.touch(UnixTime(1_203), lifetime, ends_at), Slid::Over);
    }

    #[test]
    fn an_unused_session_ends() {
        let slide = Slide::stored(UnixTime(1_100));
        assert_eq!(slide.touch(UnixTime(1_100), Duration::from_secs(100), UnixTime(9_000)), Slid::Over);
        assert_eq!(slide.end(), UnixTime(1_100));
    }
}
