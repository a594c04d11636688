//! Session → bearer for one service: which token a route wants ([`RouteToken`]), and who fetches
//! it, exactly once however many requests wait ([`TokenBroker`]).

mod backoff;
mod bearer;
mod broker;
mod context;
mod fleet;
mod freshness;
mod minted;
mod patience;
mod policy;
mod renewal;
mod shared;
mod verdict;

pub use bearer::{Bearer, NoBearer};
pub use broker::TokenBroker;
pub use minted::access_token;
pub use policy::{Need, RouteToken, TokenPolicy};
