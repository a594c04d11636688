//! A circuit breaker: closed → `threshold` consecutive failures → open for `reset_time` → half-open,
//! where exactly one trial goes through: its success closes, its failure opens again.
//!
//! Why these numbers: consecutive failures (not a rate) are what a small old service can be judged by
//! at any load, and one trial is all that a service that is just coming back should have to bear
//! (Hystrix and Polly do the same). A verdict of a call from before the circuit moved is not counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

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
        /// The one under way.
        trial: Option<Trial>,
    },
}

/// A trial under way.
#[derive(Debug)]
struct Trial {
    number: u64,
    stage: Stage,
    /// When it counts as hung.
    deadline: Instant,
}

/// How far a call has come: whose bytes it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The client is still sending.
    Uploading,
    /// The service has the request.
    Asked,
    /// The service has begun a good answer, which is over by this time or waits for its client.
    Answered(Instant),
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Grows whenever the circuit opens or closes: old permits then judge nobody.
    generation: u64,
    opened: u64,
    trials: u64,
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
    /// Its number, if it is one.
    trial: Option<u64>,
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
        let inner = Inner { state: State::Closed { failures: 0 }, generation: 0, opened: 0, trials: 0 };
        Arc::new(Self { threshold: threshold.max(1), reset_time, trial_time, inner: Mutex::new(inner) })
    }

    /// Asks to make a call at `now`.
    pub fn permit(self: &Arc<Self>, now: Instant) -> Result<Permit, Refused> {
        let mut inner = self.inner.lock();
        self.pass_time(&mut inner, now);
        if let State::Open { until } = inner.state
            && now >= until
        {
            inner.state = State::HalfOpen { trial: None };
        }
        let number = inner.trials + 1;
        let trial = match &mut inner.state {
            State::Closed { .. } => None,
            State::Open { until } => return Err(Refused { retry_after: until.saturating_duration_since(now) }),
            // How long the trial takes is not known: soon.
            State::HalfOpen { trial: Some(_) } => return Err(Refused { retry_after: Duration::from_secs(1) }),
            State::HalfOpen { trial } => {
                *trial = Some(Trial { number, stage: Stage::Asked, deadline: now + self.trial_time });
                inner.trials = number;
                Some(number)
            }
        };
        Ok(Permit { breaker: Arc::clone(self), generation: inner.generation, trial, judged: false })
    }

    /// What the circuit looks like at `now`.
    #[must_use]
    pub fn phase(&self, now: Instant) -> Phase {
        let mut inner = self.inner.lock();
        self.pass_time(&mut inner, now);
        match inner.state {
            State::Closed { failures } => Phase::Closed { failures },
            State::Open { until } if now < until => Phase::Open { remaining: until.saturating_duration_since(now) },
            State::Open { .. } => Phase::HalfOpen { trial: false },
            State::HalfOpen { ref trial } => Phase::HalfOpen { trial: trial.is_some() },
        }
    }

    /// How often the circuit has opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.inner.lock().opened
    }

    /// A trial past its deadline has failed; what it says later is no longer asked for. Unless it waits for its client: a
    /// service that had begun to answer is well, and of one that has not got its request nothing is known.
    fn pass_time(&self, inner: &mut Inner, now: Instant) {
        let State::HalfOpen { trial } = &mut inner.state else { return };
        let Some(Trial { stage, .. }) = trial.take_if(|trial| now >= trial.deadline) else { return };
        match stage {
            Stage::Uploading => {}
            Stage::Asked => inner.open(now + self.reset_time),
            Stage::Answered(_) => inner.move_to(State::Closed { failures: 0 }),
        }
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
    /// The call has come so far. Matters to a trial alone.
    pub fn note(&self, stage: Stage) {
        let Some(number) = self.trial else { return };
        let mut inner = self.breaker.inner.lock();
        if inner.generation == self.generation
            && let State::HalfOpen { trial: Some(trial) } = &mut inner.state
            && trial.number == number
        {
            trial.stage = stage;
            if let Stage::Answered(by) = stage {
                trial.deadline = trial.deadline.min(by);
            }
        }
    }

    /// The call went well.
    pub fn succeed(mut self) {
        self.judged = true;
        let mut inner = self.breaker.inner.lock();
        if inner.generation != self.generation {
            return;
        }
        match &mut inner.state {
            State::Closed { failures } => *failures = 0,
            State::HalfOpen { .. } if self.trial.is_some() => inner.move_to(State::Closed { failures: 0 }),
            State::HalfOpen { .. } | State::Open { .. } => {}
        }
    }

    /// The call failed at `now`: connect error, timeout, reset, 5xx.
    pub fn fail(mut self, now: Instant) {
        self.judged = true;
        let mut inner = self.breaker.inner.lock();
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
            State::HalfOpen { .. } if self.trial.is_some() => inner.open(until),
            State::HalfOpen { .. } | State::Open { .. } => {}
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(number) = self.trial.filter(|_| !self.judged) else { return };
        let mut inner = self.breaker.inner.lock();
        if inner.generation == self.generation
            && let State::HalfOpen { trial } = &mut inner.state
        {
            trial.take_if(|trial| trial.number == number);
        }
    }
}

#[cfg(test)]
mod tests;
