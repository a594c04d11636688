//! A right to do something alone, across processes, for a while.

use std::fmt;
use std::sync::Arc;

use super::store::{SessionStore, StoreError};

/// A lease that is held. Given back with [`Lease::release`], else it ends by itself.
pub struct Lease {
    /// Grows with every grant: a later holder's number is always larger.
    pub fence: u64,
    pub(super) name: String,
    pub(super) holder: String,
    pub(super) store: Arc<dyn SessionStore>,
}

impl Lease {
    /// Gives the lease back now.
    pub async fn release(self) -> Result<(), StoreError> {
        self.store.release(&self.name, &self.holder).await
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.fence)
    }
}
