//! A circuit breaker: closed → `threshold` consecutive failures → open for `reset_time` → half-open,
//! where exactly one trial goes through: its success closes, its failure opens again.
//!
//! Why these numbers: consecutive failures (not a rate) are what a small old service can be judged by
//! at any load, and one trial is all that a service that is just coming back should have to bear
//! (Hystrix and Polly do the same). A verdict of a call from before the circuit moved is not counted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a breaker shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Calls pass; this many failed in a row.
    Closed {
        /// Consecutive failures.
        failures: u32,
    },
    /// Calls are refused.
    Open {
        /// Until a trial is let through.
        remaining: Duration,
    },
    /// A trial may go, or is under way.
    HalfOpen {
        /// Whether it is under way.
        trial: bool,
    },
}

#[derive(Debug)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        /// When the trial under way counts as hung.
        trial: Option<Instant>,
    },
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Grows whenever the circuit opens or closes: old permits then judge nobody.
    generation: u64,
    opened: u64,
}

/// One circuit. Cheap to share as `Arc`.
#[derive(Debug)]
pub struct CircuitBreaker {
    threshold: u32,
    reset_time: Duration,
    trial_time: Duration,
    inner: Mutex<Inner>,
}

/// The right to make one call. Dropped without a verdict (the client left), it only gives its place back.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<CircuitBreaker>,
    generation: u64,
    trial: bool,
    judged: bool,
}

/// The circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Until a call may pass.
    pub retry_after: Duration,
}

impl CircuitBreaker {
    /// A closed circuit. A `threshold` of 0 counts as 1. A trial that is not over after `trial_time`
    /// counts as failed: whatever holds it must not keep the circuit from ever closing.
    #[must_use]
    pub fn new(threshold: u32, reset_time: Duration, trial_time: Duration) -> Arc<Self> {
        let inner = Inner { state: State::Closed { failures: 0 }, generation: 0, opened: 0 };
        Arc::new(Self { threshold: threshold.max(1), reset_time, trial_time, inner: Mutex::new(inner) })
    }

    /// Asks to make a call at `now`.
    pub fn permit(self: &Arc<Self>, now: Instant) -> Result<Permit, Refused> {
        let mut inner = self.lock();
        self.pass_time(&mut inner, now);
        if let State::Open { until } = inner.state
            && now >= until
        {
            inner.state = State::HalfOpen { trial: None };
        }
        let trial = match &mut inner.state {
            State::Closed { .. } => false,
            State::Open { until } => return Err(Refused { retry_after: until.saturating_duration_since(now) }),
            // How long the trial takes is not known: soon.
            State::HalfOpen { trial: Some(_) } => return Err(Refused { retry_after: Duration::from_secs(1) }),
            State::HalfOpen { trial } => {
                *trial = Some(now + self.trial_time);
                true
            }
        };
        Ok(Permit { breaker: Arc::clone(self), generation: inner.generation, trial, judged: false })
    }

    /// What the circuit looks like at `now`.
    #[must_use]
    pub fn phase(&self, now: Instant) -> Phase {
        let mut inner = self.lock();
        self.pass_time(&mut inner, now);
        match inner.state {
            State::Closed { failures } => Phase::Closed { failures },
            State::Open { until } if now < until => Phase::Open { remaining: until.saturating_duration_since(now) },
            State::Open { .. } => Phase::HalfOpen { trial: false },
            State::HalfOpen { trial } => Phase::HalfOpen { trial: trial.is_some() },
        }
    }

    /// How often the circuit has opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.lock().opened
    }

    /// A trial past its deadline has failed; what it says later is no longer asked for.
    fn pass_time(&self, inner: &mut Inner, now: Instant) {
        if let State::HalfOpen { trial: Some(deadline) } = inner.state
            && now >= deadline
        {
            inner.open(now + self.reset_time);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn move_to(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }

    fn open(&mut self, until: Instant) {
        self.opened += 1;
        self.move_to(State::Open { until });
    }
}

impl Permit {
    /// The call went well.
    pub fn succeed(mut self) {
        self.judged = true;
        let mut inner = self.breaker.lock();
        if inner.generation != self.generation {
            return;
        }
        match &mut inner.state {
            State::Closed { failures } => *failures = 0,
            State::HalfOpen { .. } if self.trial => inner.move_to(State::Closed { failures: 0 }),
            State::HalfOpen { .. } | State::Open { .. } => {}
        }
    }

    /// The call failed at `now`: connect error, timeout, reset, 5xx.
    pub fn fail(mut self, now: Instant) {
        self.judged = true;
        let mut inner = self.breaker.lock();
        if inner.generation != self.generation {
            return;
        }
        let until = now + self.breaker.reset_time;
        match &mut inner.state {
            State::Closed { failures } => {
                *failures += 1;
                if *failures >= self.breaker.threshold {
                    inner.open(until);
                }
            }
            State::HalfOpen { .. } if self.trial => inner.open(until),
            State::HalfOpen { .. } | State::Open { .. } => {}
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.judged || !self.trial {
            return;
        }
        let mut inner = self.breaker.lock();
        if inner.generation == self.generation
            && let State::HalfOpen { trial } = &mut inner.state
        {
            *trial = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THRESHOLD: u32 = 3;
    const RESET: u64 = 10;
    const TRIAL: u64 = 7;

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Call,
        Succeed(usize),
        Fail(usize),
        Leave(usize),
        Wait(u64),
    }

    /// The contract in thirty lines: calls carry the epoch in which they were let through.
    #[derive(Default)]
    struct Model {
        now: u64,
        failures: u32,
        open_until: Option<u64>,
        trial: Option<u64>,
        epoch: u64,
    }

    impl Model {
        fn call(&mut self) -> Option<(u64, bool)> {
            if self.trial.is_some_and(|deadline| self.now >= deadline) {
                (self.open_until, self.trial, self.epoch) = (Some(self.now + RESET), None, self.epoch + 1);
            }
            match self.open_until {
                None => Some((self.epoch, false)),
                Some(until) if self.now < until || self.trial.is_some() => None,
                Some(_) => {
                    self.trial = Some(self.now + TRIAL);
                    Some((self.epoch, true))
                }
            }
        }

        fn end(&mut self, (epoch, trial): (u64, bool), good: Option<bool>) {
            if epoch != self.epoch {
                return;
            }
            self.trial = self.trial.filter(|_| !trial);
            match good {
                Some(true) if trial => (self.open_until, self.failures, self.epoch) = (None, 0, self.epoch + 1),
                Some(true) => self.failures = 0,
                Some(false) => {
                    self.failures += 1;
                    if trial || self.failures >= THRESHOLD {
                        (self.open_until, self.epoch) = (Some(self.now + RESET), self.epoch + 1);
                    }
                }
                None => {}
            }
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Call),
            2 => (0..8_usize).prop_map(Event::Succeed),
            4 => (0..8_usize).prop_map(Event::Fail),
            1 => (0..8_usize).prop_map(Event::Leave),
            1 => (1..15_u64).prop_map(Event::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn it_does_what_the_model_does(events in prop::collection::vec(event(), 0..120)) {
            let start = Instant::now();
            let breaker = CircuitBreaker::new(THRESHOLD, Duration::from_secs(RESET), Duration::from_secs(TRIAL));
            let (mut model, mut calls) = (Model::default(), Vec::new());
            for event in events {
                let now = start + Duration::from_secs(model.now);
                let pick = |index: usize, len: usize| (len > 0).then(|| index % len);
                match event {
                    Event::Wait(seconds) => model.now += seconds,
                    Event::Call => match (breaker.permit(now), model.call()) {
                        (Ok(permit), Some(call)) => calls.push((permit, call)),
                        (Err(_), None) => {}
                        (real, expected) => prop_assert!(false, "{real:?} {expected:?}"),
                    },
                    Event::Succeed(index) => if let Some(index) = pick(index, calls.len()) {
                        let (permit, call) = calls.swap_remove(index);
                        permit.succeed();
                        model.end(call, Some(true));
                    },
                    Event::Fail(index) => if let Some(index) = pick(index, calls.len()) {
                        let (permit, call) = calls.swap_remove(index);
                        permit.fail(now);
                        model.end(call, Some(false));
                    },
                    Event::Leave(index) => if let Some(index) = pick(index, calls.len()) {
                        let (permit, call) = calls.swap_remove(index);
                        drop(permit);
                        model.end(call, None);
                    },
                }
            }
        }
    }

    #[test]
    fn two_hundred_at_the_half_open_instant_are_one_trial() {
        let breaker = CircuitBreaker::new(1, Duration::ZERO, Duration::from_secs(TRIAL));
        let now = Instant::now();
        breaker.permit(now).unwrap().fail(now);
        let passed: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..200).map(|_| scope.spawn(|| breaker.permit(now))).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
        });
        assert_eq!(passed.len(), 1);
    }

    #[test]
    fn a_trial_that_hangs_counts_as_failed_and_blocks_nobody() {
        let (reset, trial_time) = (Duration::from_secs(RESET), Duration::from_secs(TRIAL));
        let breaker = CircuitBreaker::new(1, reset, trial_time);
        let start = Instant::now();
        breaker.permit(start).unwrap().fail(start);
        let hung = breaker.permit(start + reset).unwrap();
        let late = start + reset + trial_time;
        let before = start + reset + trial_time.mul_f32(0.9);
        assert!(breaker.permit(before).is_err(), "it may still answer");
        assert_eq!(breaker.phase(late), Phase::Open { remaining: reset });
        assert_eq!(breaker.permit(late).unwrap_err(), Refused { retry_after: reset });
        hung.succeed();
        assert_eq!(breaker.opened(), 2);
        assert!(breaker.permit(late + reset).is_ok(), "the next trial goes");
    }
}
