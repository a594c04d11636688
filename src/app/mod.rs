//! The composition root: what was written becomes what runs.

mod build;
mod drain;
mod housekeeping;
mod listen;
mod serve;

pub use build::StartError;
pub use serve::serve;
