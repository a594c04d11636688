//! How long a request waits for a new token while the one at hand still works.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long, where nothing is known against the provider.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the provider let somebody wait for longer than that, and has brought nobody a token since. One for all: else
/// each session would find it out by waiting.
#[derive(Debug, Default)]
pub(super) struct Hanging(AtomicBool);

impl Hanging {
    /// How long who has a token that works waits for the next; `of_theirs`: they waited in vain before.
    pub(super) fn patience(&self, of_theirs: bool) -> Duration {
        if of_theirs || self.0.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE }
    }

    /// Somebody had so much patience, and it was not enough. Who had none has learnt nothing.
    pub(super) fn outlasted(&self, patience: Duration) {
        if !patience.is_zero() {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn landed(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// What `flight` brings; `None` once `patience` is over, if the token at hand works then. Without one there is nothing
/// to go on with, so that a flight is waited for to its end.
pub(super) async fn wait_for<T>(
    flight: impl Future<Output = T>,
    patience: Option<Duration>,
    still_works: impl Fn() -> bool,
) -> Option<T> {
    let mut flight = pin!(flight);
    if let Some(patience) = patience {
        match tokio::time::timeout(patience, &mut flight).await {
            Ok(landed) => return Some(landed),
            Err(_slow) if still_works() => return None,
            Err(_slow) => {}
        }
    }
    Some(flight.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn flight(millis: u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        millis
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_has_something_to_go_on_with_goes_on_without() {
        let works = || true;
        assert_eq!(wait_for(flight(900), Some(PATIENCE), works).await, Some(900));
        assert_eq!(wait_for(flight(1_100), Some(PATIENCE), works).await, None);
        assert_eq!(wait_for(flight(1_100), Some(PATIENCE), || false).await, Some(1_100), "it ended meanwhile");
        assert_eq!(wait_for(flight(9_000), None, || false).await, Some(9_000));
    }

    #[test]
    fn one_waits_for_a_provider_that_hangs_and_the_others_do_not() {
        let hanging = Hanging::default();
        assert_eq!((hanging.patience(false), hanging.patience(true)), (PATIENCE, Duration::ZERO));
        hanging.outlasted(Duration::ZERO);
        assert_eq!(hanging.patience(false), PATIENCE, "that was said by nobody who waited");
        hanging.outlasted(PATIENCE);
        assert_eq!(hanging.patience(false), Duration::ZERO);
        hanging.landed();
        assert_eq!(hanging.patience(false), PATIENCE);
    }
}
