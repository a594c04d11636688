//! One flight per key: the first caller starts the work, everybody who comes meanwhile waits for
//! the same answer. The work runs in a task of its own, so a caller who leaves does not cancel it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

type Flights<K, V> = Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>;

/// Deduplicates concurrent work by key. Cheap to clone; clones share their flights.
#[derive(Debug)]
pub struct SingleFlight<K, V> {
    flights: Flights<K, V>,
}

impl<K, V> Clone for SingleFlight<K, V> {
    fn clone(&self) -> Self {
        Self { flights: Arc::clone(&self.flights) }
    }
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self { flights: Arc::default() }
    }
}

/// Takes the key out of the table when the flight ends, however it ends.
struct Landing<K: Hash + Eq, V> {
    flights: Flights<K, V>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The result of the flight under `key`; `work` is started only if none is under way.
    /// `None` when the flight died without an answer (its task panicked or its runtime ended).
    pub async fn run<F, W>(&self, key: K, work: W) -> Option<V>
    where
        W: FnOnce() -> F,
        F: Future<Output = V> + Send + 'static,
    {
        let mut answer = self.join_or_start(key, work);
        match answer.wait_for(Option::is_some).await {
            Ok(value) => value.clone(),
            Err(_closed) => None,
        }
    }

    /// The same for work that nobody waits for yet.
    pub fn start<F, W>(&self, key: K, work: W)
    where
        W: FnOnce() -> F,
        F: Future<Output = V> + Send + 'static,
    {
        drop(self.join_or_start(key, work));
    }

    /// Waits for the end of the flight under `key`, if there is one, however it ends.
    pub async fn ended(&self, key: &K) {
        let flight = self.flights.lock().get(key).cloned();
        if let Some(mut flight) = flight {
            let _ = flight.wait_for(Option::is_some).await;
        }
    }

    fn join_or_start<F, W>(&self, key: K, work: W) -> watch::Receiver<Option<V>>
    where
        W: FnOnce() -> F,
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (tell, answer) = watch::channel(None);
        flights.insert(key.clone(), answer.clone());
        drop(flights);
        let landing = Landing { flights: Arc::clone(&self.flights), key };
        let flight = work();
        tokio::spawn(async move {
            let value = flight.await;
            // Off the table first: whoever comes after the answer must start afresh.
            drop(landing);
            let _ = tell.send(Some(value));
        });
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn two_hundred_callers_share_one_flight() {
        let flights = SingleFlight::<&str, usize>::default();
        let starts = Arc::new(AtomicUsize::new(0));
        let callers = (0..200).map(|_| {
            let starts = Arc::clone(&starts);
            flights.run("key", move || async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                starts.fetch_add(1, Ordering::SeqCst)
            })
        });
        let answers = futures::future::join_all(callers).await;
        assert!(answers.iter().all(|answer| *answer == Some(0)));
        assert_eq!(starts.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_caller_who_leaves_does_not_cancel_the_flight() {
        let flights = SingleFlight::<&str, ()>::default();
        let done = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&done);
        let caller = flights.run("key", move || async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            seen.fetch_add(1, Ordering::SeqCst);
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), caller).await.is_err());
        assert_eq!(flights.run("key", || async {}).await, Some(()));
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_flight_that_panics_frees_its_key() {
        let flights = SingleFlight::<&str, u8>::default();
        let lost = flights.run("key", || async { std::panic::panic_any("boom") }).await;
        assert_eq!(lost, None);
        assert_eq!(flights.run("key", || async { 7 }).await, Some(7));
    }
}
