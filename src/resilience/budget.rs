//! How much of a service's load may be second attempts: where every request is tried twice, a service in
//! trouble gets twice the load.

use std::sync::atomic::{AtomicU32, Ordering};

/// Requests that earn one retry.
const PRICE: u32 = 10;
/// Retries at hand after a quiet time, so that a few lost connections are made good at once.
const RESERVE: u32 = 30 * PRICE;

/// A tenth of the requests, and a small reserve.
#[derive(Debug)]
pub struct RetryBudget(AtomicU32);

impl RetryBudget {
    /// With its reserve.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(RESERVE))
    }

    /// For each request that might be sent again.
    pub fn earn(&self) {
        let _full =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left < RESERVE).then(|| left + 1));
    }

    /// Whether one more retry is within the budget; it is then spent.
    #[must_use]
    pub fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(PRICE)).is_ok()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_load_beside_the_reserve_is_retried() {
        let budget = RetryBudget::new();
        let mut retried = 0;
        for _request in 0..10_000 {
            budget.earn();
            retried += usize::from(budget.spend());
        }
        assert!((1000..=1030).contains(&retried), "{retried}");
    }

    #[test]
    fn a_quiet_time_saves_up_the_reserve_and_no_more() {
        let budget = RetryBudget::new();
        (0..100_000).for_each(|_request| budget.earn());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 30);
    }
}
