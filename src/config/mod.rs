//! What is WRITTEN in `conf/` and `routes/`: types, defaults, loading, checking, and the messages
//! about what is wrong with it. Names no runtime type.

mod model;
mod secret;

pub use model::*;
pub use secret::Secret;
