//! The composition root: what was written becomes what runs.

mod build;
mod capacity;
mod certificate;
mod drain;
mod handover;
mod housekeeping;
mod listen;
mod memory;
mod reload;
mod serve;
mod sockets;
mod start;

pub use build::StartError;
pub use serve::{Sockets, serve};
pub use sockets::Listening;
pub use start::hear_signals;
