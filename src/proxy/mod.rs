//! A request from the engine's first callback to its last. `pipeline` is the table of contents; each
//! stage is a function in a file of its own.

mod context;
mod decide;
mod downstream;
mod forwarded;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gateway;
mod headers;
mod pipeline;
mod stages;
mod who;

pub use gateway::{Destination, Gateway, Origins};
pub use pipeline::Bff;

/// The engine's session is always called this here: `Session` is a login.
pub(crate) use pingora::proxy::Session as Downstream;
