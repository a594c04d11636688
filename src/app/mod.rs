//! The composition root: what was written becomes what runs.

mod build;
mod certificate;
mod drain;
mod handover;
mod housekeeping;
mod listen;
mod memory;
mod reload;
mod room;
mod serve;
mod start;

pub use build::StartError;
pub use serve::{Sockets, serve};
pub use start::hear_signals;
