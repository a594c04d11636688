//! How long a request waits for a new token while the one at hand still works.

use std::pin::pin;
use std::time::Duration;

/// How long, where nothing is known against the provider.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

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
}
