//! Work that outlives the request it is for, and must not be cut off: counted, so that whoever ends the process waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much there is. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Unfinished(Arc<AtomicUsize>);

/// Held by one piece of it until it is done, however it ends.
#[derive(Debug)]
pub struct Begun(Unfinished);

impl Unfinished {
    /// One more.
    #[must_use]
    pub fn begin(&self) -> Begun {
        self.0.fetch_add(1, Ordering::SeqCst);
        Begun(self.clone())
    }

    /// How many at this moment.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}
