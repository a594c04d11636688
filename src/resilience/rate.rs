//! So many in a span of time, for each of many keys. Two rules: without a burst a sliding window, so
//! that no span of that length, wherever it begins, sees more; with one a bucket (GCRA) that holds
//! the burst and fills at the rate.
//!
//! Not `pingora-limits::rate`: its sketch lets strangers share a counter, and refuses one for the
//! other; its windows stand side by side, so that twice the rate passes where two meet; and a lost
//! race in it ends in an `assert!`.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::sync::Cache;

/// Parts of a window. What was counted leaves with its part, a `period` after the last of that part came:
/// a span of `period` never sees more than the rate, a fiftieth less at the worst, and nobody waits longer.
const PARTS: u64 = 50;
/// Keys remembered at once; beyond that the one asked least is forgotten, and begins anew.
const KEYS: usize = 65_536;

/// `requests` in a `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub requests: u32,
    /// At least a millisecond.
    pub period: Duration,
    /// So many may come at once, and `requests` in each `period` from then on. `None`: a window.
    pub burst: Option<u32>,
}

impl Rate {
    /// Microseconds of a part of the window.
    #[must_use]
    pub fn part(&self) -> u64 {
        (micros(self.period) / PARTS).max(1)
    }

    /// Microseconds in which the bucket gains one.
    #[must_use]
    pub fn interval(&self) -> u64 {
        (micros(self.period) / u64::from(self.requests.max(1))).max(1)
    }
}

/// Microseconds, as rates are counted in.
#[must_use]
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// How somebody stands after having asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// `None`: welcome. Else how long until the next one is.
    pub refused: Option<Duration>,
    /// What is left now.
    pub remaining: u32,
    /// Until there is more again.
    pub reset: Duration,
}

/// Who is counted: a hash of whatever tells them apart.
pub type RateKey = [u8; 16];

/// The counts of this process. Bounded.
#[derive(Debug)]
pub struct RateCounts {
    begun: Instant,
    counts: Cache<RateKey, Arc<Mutex<Count>>>,
}

impl Default for RateCounts {
    fn default() -> Self {
        Self { begun: Instant::now(), counts: Cache::new(KEYS) }
    }
}

impl RateCounts {
    /// Counts one, if it is welcome.
    pub fn count(&self, key: RateKey, rate: &Rate, now: Instant) -> Standing {
        let at = micros(now.saturating_duration_since(self.begun));
        self.with(key, |count| count.count(rate, at))
    }

    /// What somebody who counts for all said of this key: remembered, so that a refusal need not be
    /// asked for again before its time, and that counting here goes on from there.
    pub fn learn(&self, key: RateKey, rate: &Rate, told: &Standing, now: Instant) {
        let at = micros(now.saturating_duration_since(self.begun));
        self.with(key, |count| match told.refused {
            Some(wait) => count.closed_until = at.saturating_add(micros(wait)),
            None => drop(count.count(rate, at)),
        });
    }

    /// Until when everybody refuses this key, as learnt.
    pub fn closed(&self, key: &RateKey, now: Instant) -> Option<Standing> {
        let at = micros(now.saturating_duration_since(self.begun));
        let count = self.counts.get(key)?;
        let until = count.lock().closed_until;
        (at < until).then(|| refused(until - at))
    }

    fn with<T>(&self, key: RateKey, work: impl FnOnce(&mut Count) -> T) -> T {
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(count) = self.counts.get_or_insert_with(&key, fresh);
        work(&mut count.lock())
    }
}

fn refused(wait: u64) -> Standing {
    let wait = Duration::from_micros(wait.max(1));
    Standing { refused: Some(wait), remaining: 0, reset: wait }
}

/// What a part of a window saw.
#[derive(Debug)]
struct Part {
    /// When the last came.
    last: u64,
    seen: u32,
}

/// One key. All times in microseconds since the counts began.
#[derive(Debug, Default)]
struct Count {
    /// The window: the parts that saw something, in their order.
    parts: VecDeque<Part>,
    sum: u32,
    /// The bucket: when it will be full again.
    full_at: u64,
    closed_until: u64,
}

impl Count {
    fn count(&mut self, rate: &Rate, now: u64) -> Standing {
        match rate.burst {
            None => self.in_window(rate, now),
            Some(burst) => self.in_bucket(rate.interval(), burst.max(1), now),
        }
    }

    fn in_window(&mut self, rate: &Rate, now: u64) -> Standing {
        let (period, number) = (micros(rate.period), now / rate.part());
        while let Some(old) = self.parts.front().filter(|part| part.last.saturating_add(period) <= now) {
            self.sum -= old.seen;
            self.parts.pop_front();
        }
        let admitted = self.sum < rate.requests;
        if admitted {
            self.sum += 1;
            match self.parts.back_mut() {
                // Who asked the clock earlier may come later.
                Some(part) if part.last / rate.part() >= number => {
                    (part.seen, part.last) = (part.seen + 1, part.last.max(now));
                }
                _ => {
                    // Not twice as many places each time: there may be many keys.
                    self.parts.reserve_exact(1);
                    self.parts.push_back(Part { last: now, seen: 1 });
                }
            }
        }
        let leaves = self.parts.front().map_or(0, |oldest| oldest.last.saturating_add(period) - now);
        if !admitted {
            return refused(leaves);
        }
        Standing { refused: None, remaining: rate.requests - self.sum, reset: Duration::from_micros(leaves) }
    }

    fn in_bucket(&mut self, interval: u64, burst: u32, now: u64) -> Standing {
        let depth = interval.saturating_mul(u64::from(burst));
        let full_at = self.full_at.max(now) + interval;
        if full_at - now > depth {
            return refused(full_at - now - depth);
        }
        self.full_at = full_at;
        let left = (depth - (full_at - now)) / interval;
        let remaining = u32::try_from(left).unwrap_or(u32::MAX);
        Standing { refused: None, remaining, reset: Duration::from_micros(full_at - now) }
    }
}

/// Whose address this is, as far as counting goes: who has one IPv6 address has the /64 around it
/// (RFC 6177 §2), and could otherwise be a stranger with every request.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: RateKey = [7; 16];

    fn rate(requests: u32, millis: u64, burst: Option<u32>) -> Rate {
        Rate { requests, period: Duration::from_millis(millis), burst }
    }

    /// The milliseconds at which one was welcome, of one asking every `step` for `long`.
    fn welcome(rate: &Rate, step: u64, long: u64) -> Vec<u64> {
        let (counts, begun) = (RateCounts::default(), Instant::now());
        let at = |millis: u64| begun + Duration::from_millis(millis);
        let asked = (0..long).step_by(usize::try_from(step).unwrap());
        asked.filter(|millis| counts.count(KEY, rate, at(*millis)).refused.is_none()).collect()
    }

    #[test]
    fn no_window_sees_more_than_the_rate_and_hardly_less() {
        for (requests, step) in [(100, 1), (100, 5), (7, 1), (1, 10), (1_000, 1)] {
            let seen = welcome(&rate(requests, 1_000, None), step, 10_000);
            let within = |from: u64| seen.iter().filter(|at| (from..from + 1_000).contains(at)).count();
            let most = (0..9_000).step_by(7).map(within).max().unwrap();
            assert!(most <= requests as usize, "{requests} every {step} ms: {most} in a second");
            let demanded = (10_000 / step).min(u64::from(requests) * 10);
            let enough = demanded * 95 / 100;
            assert!(seen.len() as u64 >= enough, "{requests} every {step} ms: {} of {demanded}", seen.len());
        }
    }

    #[test]
    fn a_bucket_takes_its_burst_at_once_and_then_its_rate() {
        let seen = welcome(&rate(10, 1_000, Some(30)), 1, 10_000);
        assert_eq!(seen.iter().filter(|at| **at < 50).count(), 30);
        assert_eq!(seen.len(), 30 + 99, "ten a second from then on");
        assert_eq!(welcome(&rate(10, 1_000, Some(0)), 1, 1_000).len(), 10, "never nobody");
    }

    #[test]
    fn who_comes_back_when_told_is_welcome() {
        let begun = Instant::now();
        for rate in [rate(3, 1_000, None), rate(3, 1_000, Some(2)), rate(1, 86_400_000, None)] {
            let counts = RateCounts::default();
            let mut now = begun + Duration::from_millis(123);
            for _ in 0..20 {
                let standing = counts.count(KEY, &rate, now);
                if let Some(wait) = standing.refused {
                    assert!(wait <= rate.period, "{rate:?}: {wait:?}");
                    now += wait;
                    assert_eq!(counts.count(KEY, &rate, now).refused, None, "{rate:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_left_is_told() {
        let (counts, now, rate) = (RateCounts::default(), Instant::now(), rate(3, 1_000, None));
        let left: Vec<u32> = (0..3).map(|_| counts.count(KEY, &rate, now).remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        assert_eq!(counts.count([8; 16], &rate, now).remaining, 2, "others are counted apart");
    }

    #[test]
    fn a_refusal_by_another_is_remembered_for_its_time() {
        let (counts, now, rate) = (RateCounts::default(), Instant::now(), rate(3, 1_000, None));
        assert_eq!(counts.closed(&KEY, now), None);
        counts.learn(KEY, &rate, &refused(500_000), now);
        let still = counts.closed(&KEY, now + Duration::from_millis(300)).and_then(|standing| standing.refused);
        assert_eq!(still, Some(Duration::from_millis(200)));
        assert_eq!(counts.closed(&KEY, now + Duration::from_millis(500)), None);
    }

    #[test]
    fn neighbours_in_a_six_network_are_one() {
        let network = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
