//! From a request's path to the rule that answers it: the table of routes, and the path the upstream gets.

mod branch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod methods;
mod rate_limit;
mod route;
mod table;

pub use crate::path::{CanonicalPath, PathRefusal, Pattern, PatternError, TemplateError, join_base};
pub use methods::Methods;
pub use rate_limit::{RateLimit, standing_header};
pub use route::{Route, RouteError, RouteErrors, RouteProblem};
pub use table::{Lookup, RouteTable};
