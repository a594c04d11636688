//! Flights that failed: requests that wait for one that asks the service share its failure, instead of
//! asking one after the other until the circuit opens.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora::cache::CacheKey;
use pingora::cache::key::{CacheHashKey, HashBinary};

/// Failures remembered at once.
const REMEMBERED: usize = 1024;
/// Longer than anybody waits.
const MEMORY: Duration = Duration::from_secs(30);

/// How the service failed a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It failed before its time was over; perhaps only this connection: one more flight is tried.
    Broken,
    /// It took its whole time. Whoever waited for it has had theirs, too.
    Late,
}

/// The fault of one request so far.
#[derive(Debug, Default)]
pub(super) struct FaultCell(Mutex<Option<Fault>>);

impl FaultCell {
    pub(super) fn set(&self, fault: Option<Fault>) {
        *self.0.lock() = fault;
    }

    pub(super) fn get(&self) -> Option<Fault> {
        *self.0.lock()
    }
}

/// The last failures of one flight.
#[derive(Debug, Clone, Copy)]
struct Fallen {
    /// Of whatever kind: the service may have answered with an error, or whoever asked it may be gone.
    last: Instant,
    fault: Option<(Fault, Instant)>,
    /// When there was a fault before that one.
    before: Option<Instant>,
}

/// What failed lately, by the key of the lock that others wait at: a flight of one caller is nobody else's.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<HashBinary, Fallen>>);

impl Flights {
    /// Before those who wait are told.
    pub(super) fn record_failure(&self, key: &CacheKey, fault: Option<Fault>) {
        let mut all = self.0.lock();
        if all.len() >= REMEMBERED {
            all.retain(|_, fallen| fallen.last.elapsed() < MEMORY);
        }
        if all.len() >= REMEMBERED {
            // They would each ask by themselves, as one that comes now.
            all.clear();
        }
        let key = key.combined_bin();
        let last = Instant::now();
        let fallen = all.entry(key).or_insert(Fallen { last, fault: None, before: None });
        fallen.last = last;
        if let Some(fault) = fault {
            fallen.before = fallen.fault.map(|(_, before)| before);
            fallen.fault = Some((fault, last));
        }
    }

    /// What a request that was asked then, and has waited since, has to take for its answer. `for_long`: for all the
    /// time that the service may take.
    pub(super) fn shared(&self, key: &CacheKey, asked: Instant, for_long: bool) -> Option<Fault> {
        let fallen = self.since(key, asked)?;
        let (fault, _) = fallen.fault.filter(|(_, then)| *then > asked)?;
        let again = fallen.before.is_some_and(|before| before > asked);
        (for_long || again || fault == Fault::Late).then_some(fault)
    }

    /// Whether whoever was waited for since then has failed, and not only taken long.
    pub(super) fn failed_since(&self, key: &CacheKey, asked: Instant) -> bool {
        self.since(key, asked).is_some()
    }

    fn since(&self, key: &CacheKey, asked: Instant) -> Option<Fallen> {
        let all = self.0.lock();
        all.get(&key.combined_bin()).filter(|fallen| fallen.last > asked).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> CacheKey {
        CacheKey::new(name, "")
    }

    #[test]
    fn one_break_is_tried_again_and_two_are_shared() {
        let (flights, mine) = (Flights::default(), key("mine"));
        let asked = Instant::now();
        assert_eq!(flights.shared(&mine, asked, false), None);
        flights.record_failure(&mine, Some(Fault::Broken));
        assert_eq!(flights.shared(&mine, asked, false), None);
        flights.record_failure(&mine, Some(Fault::Broken));
        assert_eq!(flights.shared(&mine, asked, false), Some(Fault::Broken));
        assert_eq!(flights.shared(&key("another's"), asked, false), None);
        assert_eq!(flights.shared(&mine, Instant::now(), false), None, "who comes afterwards asks");
        flights.record_failure(&mine, Some(Fault::Late));
        assert_eq!(flights.shared(&mine, asked, false), Some(Fault::Late));
    }

    #[test]
    fn one_break_is_enough_for_who_has_waited_long_and_what_is_no_fault_is_not_shared() {
        let (flights, mine) = (Flights::default(), key("mine"));
        let asked = Instant::now();
        assert!(!flights.failed_since(&mine, asked), "it may still be under way");
        flights.record_failure(&mine, None);
        assert_eq!((flights.shared(&mine, asked, true), flights.failed_since(&mine, asked)), (None, true));
        flights.record_failure(&mine, Some(Fault::Broken));
        let shared = |for_long| flights.shared(&mine, asked, for_long);
        assert_eq!((shared(false), shared(true)), (None, Some(Fault::Broken)));
        flights.record_failure(&mine, None);
        assert_eq!((shared(false), shared(true)), (None, Some(Fault::Broken)), "it is known still");
        flights.record_failure(&mine, Some(Fault::Broken));
        flights.record_failure(&mine, None);
        assert_eq!(shared(false), Some(Fault::Broken));
    }

    #[test]
    fn a_timeout_is_shared_at_once_and_memory_is_bounded() {
        let (flights, asked) = (Flights::default(), Instant::now());
        for number in 0..REMEMBERED * 3 {
            let key = key(&number.to_string());
            flights.record_failure(&key, Some(Fault::Late));
            assert_eq!(flights.shared(&key, asked, false), Some(Fault::Late));
        }
        assert!(flights.0.lock().len() <= REMEMBERED);
    }
}
