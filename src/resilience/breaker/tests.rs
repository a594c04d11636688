//! The contract as a model, and what time alone does.

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

#[test]
fn a_trial_that_waits_for_its_client_is_not_the_services_fault() {
    let (reset, trial_time) = (Duration::from_secs(RESET), Duration::from_secs(TRIAL));
    let start = Instant::now();
    let on_trial = || {
        let breaker = CircuitBreaker::new(1, reset, trial_time);
        breaker.permit(start).unwrap().fail(start);
        let trial = breaker.permit(start + reset).unwrap();
        (breaker, trial)
    };
    let late = start + reset + trial_time;

    let (breaker, slow_upload) = on_trial();
    slow_upload.note(Stage::Uploading);
    let next = breaker.permit(late).expect("its place is free");
    assert!(breaker.permit(late).is_err());
    drop(slow_upload);
    assert_eq!(breaker.phase(late), Phase::HalfOpen { trial: true }, "the place is another's now");
    next.succeed();
    assert_eq!((breaker.phase(late), breaker.opened()), (Phase::Closed { failures: 0 }, 1));

    let (breaker, slow_download) = on_trial();
    let by = start + reset + trial_time / 2;
    slow_download.note(Stage::Answered(by));
    assert!(breaker.permit(start + reset + trial_time / 3).is_err(), "the answer may still break");
    assert!(breaker.permit(by).is_ok(), "it waits for its client");
    slow_download.fail(by);
    assert_eq!((breaker.phase(by), breaker.opened()), (Phase::Closed { failures: 0 }, 1));
}
