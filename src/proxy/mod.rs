//! A request from the engine's first callback to its last. `pipeline` is the table of contents; each
//! stage is a function in a file of its own.

mod context;
mod correlation;
mod decide;
mod downstream;
mod forwarded;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gateway;
mod headers;
mod hop;
mod memory;
mod pipeline;
mod plugin;
mod rates;
mod stages;
mod trace;
mod who;
mod wire;

pub use gateway::{Destination, Gateway, Origins};
pub(crate) use headers::{IDENTITY, IDENTITY_PREFIXES};
pub use memory::Memory;
pub use plugin::Bff;
pub use rates::Rates;
pub(crate) use wire::objection;
pub use wire::{ConnectionLimits, Door, Handshakes};

/// The engine's session is always called this here: `Session` is a login.
pub(crate) use pingora::proxy::Session as Downstream;
