//! What is WRITTEN in `conf/` and `routes/`: types, defaults, loading, checking, and the messages
//! about what is wrong with it. Names no runtime type.
//!
//! The way of a file: text → `yaml` → tree (`node`) → `variable`s replaced → a reader of `read` that
//! collects what is wrong → plain data (`model`) → the checks over all files (`check`).

mod bounds;
mod check;
mod diagnostic;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod load;
mod mask;
mod model;
mod node;
mod pattern;
mod pem;
mod read;
mod reader;
mod scalar;
mod secret;
mod source;
mod unit;
mod variable;
mod yaml;

#[cfg(test)]
pub(crate) use check::is_own;
pub(crate) use diagnostic::count;
pub use diagnostic::{Diagnostic, Findings, Severity};
pub use model::*;
pub(crate) use scalar::{is_loopback, is_token, token_length};
pub use secret::Secret;
