//! From a request's path to the rule that answers it: the one spelling of a path that is matched
//! and forwarded, the table of routes, and the path the upstream gets.

mod branch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod methods;
mod path;
mod pattern;
mod rate_limit;
mod rewrite;
mod route;
mod table;

pub use methods::Methods;
pub use path::{CanonicalPath, PathRefusal};
pub use pattern::{Pattern, PatternError};
pub use rate_limit::{RateLimit, standing_header};
pub use rewrite::{TemplateError, join_base};
pub use route::{Route, RouteError, RouteErrors, RouteProblem};
pub use table::{Lookup, RouteTable};
