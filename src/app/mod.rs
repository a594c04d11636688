//! The composition root: what was written becomes what runs.

mod build;
mod certificate;
mod drain;
mod housekeeping;
mod listen;
mod reload;
mod serve;

pub use build::StartError;
pub use serve::serve;
