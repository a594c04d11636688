//! Requests without a pause, from clients that keep their connections and clients that do not; every
//! answer counts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use super::builder;

/// What a load has seen so far.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    answered: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

/// A running load.
pub(crate) struct Load {
    tally: Arc<Tally>,
    clients: JoinSet<()>,
}

impl Load {
    /// `keeping` clients with a connection each, and `fresh` ones that take a new one for every request.
    pub(crate) fn start(url: &str, cookie: &str, keeping: usize, fresh: usize) -> Self {
        let (tally, mut clients) = (Arc::new(Tally::default()), JoinSet::new());
        for number in 0..keeping + fresh {
            let idle = usize::from(number < keeping);
            let client = builder().pool_max_idle_per_host(idle).build().unwrap();
            let (url, cookie, tally) = (url.to_owned(), cookie.to_owned(), Arc::clone(&tally));
            clients.spawn(async move {
                while !tally.stop.load(Ordering::Relaxed) {
                    let answer = client.get(&url).header("cookie", &cookie).send().await;
                    let seen = match answer {
                        Ok(answer) if answer.status() == 200 => {
                            answer.bytes().await.map(drop).map_err(|e| format!("{e:?}"))
                        }
                        Ok(answer) => Err(answer.status().to_string()),
                        Err(error) => Err(format!("{error:?}")),
                    };
                    match seen {
                        Ok(()) => drop(tally.answered.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => tally.failed.lock().unwrap().push(error),
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            });
        }
        Self { tally, clients }
    }

    /// Answers so far.
    pub(crate) fn answered(&self) -> usize {
        self.tally.answered.load(Ordering::Relaxed)
    }

    /// Stops; how many were answered, and what became of the others.
    pub(crate) async fn stop(self) -> (usize, Vec<String>) {
        self.tally.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        let failed = std::mem::take(&mut *self.tally.failed.lock().unwrap());
        (self.tally.answered.load(Ordering::Relaxed), failed)
    }
}
