//! Flights that failed: requests that wait for one that asks the service share its failure, instead of
//! asking one after the other until the circuit opens.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    pub(super) fn get(&self) -> Option<Fault> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last failures of one flight.
#[derive(Debug, Clone, Copy)]
struct Fallen {
    fault: Fault,
    last: Instant,
    before: Option<Instant>,
}

/// What failed lately, by the key of the lock that others wait at: a flight of one caller is nobody else's.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<HashBinary, Fallen>>);

impl Flights {
    /// Before those who wait are told.
    pub(super) fn record_failure(&self, key: &CacheKey, fault: Fault) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.retain(|_, fallen| fallen.last.elapsed() < MEMORY);
        }
        if all.len() >= REMEMBERED {
            // They would each ask by themselves, as one that comes now.
            all.clear();
        }
        let key = key.combined_bin();
        let before = all.get(&key).map(|fallen| fallen.last);
        all.insert(key, Fallen { fault, last: Instant::now(), before });
    }

    /// What a request that was asked then, and has waited since, has to take for its answer.
    pub(super) fn shared(&self, key: &CacheKey, asked: Instant) -> Option<Fault> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fallen = all.get(&key.combined_bin()).filter(|fallen| fallen.last > asked)?;
        let enough = fallen.fault == Fault::Late || fallen.before.is_some_and(|before| before > asked);
        enough.then_some(fallen.fault)
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
        assert_eq!(flights.shared(&mine, asked), None);
        flights.record_failure(&mine, Fault::Broken);
        assert_eq!(flights.shared(&mine, asked), None);
        flights.record_failure(&mine, Fault::Broken);
        assert_eq!(flights.shared(&mine, asked), Some(Fault::Broken));
        assert_eq!(flights.shared(&key("another's"), asked), None);
        assert_eq!(flights.shared(&mine, Instant::now()), None, "who comes afterwards asks");
        flights.record_failure(&mine, Fault::Late);
        assert_eq!(flights.shared(&mine, asked), Some(Fault::Late));
    }

    #[test]
    fn a_timeout_is_shared_at_once_and_memory_is_bounded() {
        let (flights, asked) = (Flights::default(), Instant::now());
        for number in 0..REMEMBERED * 3 {
            let key = key(&number.to_string());
            flights.record_failure(&key, Fault::Late);
            assert_eq!(flights.shared(&key, asked), Some(Fault::Late));
        }
        assert!(flights.0.lock().unwrap().len() <= REMEMBERED);
    }
}
