//! The thread everything here runs on: connections outlive the request that needed them, and the
//! runtimes of the requests, one a core, share none.

use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::super::StoreError;

/// Ends, with everything that runs on it, when dropped.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl Engine {
    pub(super) fn start() -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::new("redis", error))?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            // An error means that the store was dropped: all the same.
            let _ = runtime.block_on(stopped);
        };
        thread::Builder::new().name("redis".to_owned()).spawn(run).map_err(|error| StoreError::new("redis", error))?;
        Ok(Self { handle, _stop: stop })
    }
}
