//! The plugin as its owner holds it: one pointer to what runs, which a reload changes.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::gateway::Gateway;

/// The plugin: put it into any Pingora proxy service. Clones are one plugin.
#[derive(Debug, Clone)]
pub struct Bff {
    current: Arc<ArcSwap<Gateway>>,
}

impl Bff {
    /// A pipeline over what the composition root built.
    #[must_use]
    pub fn over(gateway: Arc<Gateway>) -> Self {
        Self { current: Arc::new(ArcSwap::new(gateway)) }
    }

    /// What requests that begin now will use.
    #[must_use]
    pub fn gateway(&self) -> Arc<Gateway> {
        self.current.load_full()
    }

    /// From now on requests begin with `next`; those under way go on with the one returned.
    pub fn replace(&self, next: Arc<Gateway>) -> Arc<Gateway> {
        self.current.swap(next)
    }
}
