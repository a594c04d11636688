//! Paths, for whoever checks what is written and for whoever routes by it: the one spelling of a
//! request's path, the pattern of a route, and the path its service is asked for.

mod canonical;
mod pattern;
mod rewrite;

pub use canonical::{CanonicalPath, PathRefusal};
pub(crate) use pattern::Piece;
pub use pattern::{Pattern, PatternError};
pub(crate) use rewrite::Template;
pub use rewrite::{TemplateError, join_base};
