//! A right to do something alone, across processes, for a while.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::store::SessionStore;
use crate::resilience::Clock;

/// A renewal that fails is tried again so soon that the lease outlasts a store that does not answer twice.
const AGAIN: Duration = Duration::from_millis(100);

/// A lease that is held. Given back with [`Lease::give_back`], else it ends by itself.
pub struct Lease {
    /// Grows with every grant: a later holder's number is always larger.
    pub fence: u64,
    pub(super) name: String,
    pub(super) holder: String,
    pub(super) span: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: Arc<dyn SessionStore>,
}

impl Lease {
    /// For a question to the provider: renewed while that takes its time; a process that is killed holds the others up no
    /// longer.
    pub const SPAN: Duration = Duration::from_secs(3);

    /// Does `work`, renewing the lease as long as it takes. A renewal that fails is told to the log
    /// only: what the work writes is compared before it is written, whoever holds the lease.
    pub async fn hold<T>(&self, work: impl Future<Output = T>) -> T {
        let renewing = async {
            let mut failed = false;
            loop {
                tokio::time::sleep(if failed { AGAIN } else { self.span / 3 }).await;
                let answer = self.store.renew_lease(&self.name, &self.holder, self.span, self.clock.now()).await;
                match &answer {
                    Ok(None) => tracing::warn!("a lease ended while its work goes on, and another process has it"),
                    Err(error) if !failed => tracing::warn!(%error, "a lease cannot be renewed; its work goes on"),
                    Ok(Some(_)) | Err(_) => {}
                }
                failed = answer.is_err();
            }
        };
        tokio::select! {
            done = work => done,
            never = renewing => never,
        }
    }

    /// Gives the lease back now.
    pub async fn give_back(self) {
        if let Err(error) = self.store.release(&self.name, &self.holder).await {
            tracing::warn!(%error, "a lease was not given back; it ends by itself");
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.fence)
    }
}
