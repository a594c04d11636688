//! The login we hold for a browser: its cookie, its sealed record, and the cache close at hand.

mod arn;
mod change_feed;
mod cookie;
mod cookie_pairs;
mod cookie_token;
mod flow;
mod flows;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod housekeeping;
mod key;
mod key_ring;
mod lease;
mod limits;
mod live;
mod model;
mod moment;
mod near;
mod payload;
mod ready;
mod seal;
mod sessions;
mod shared;
mod slide;
pub mod store;
#[cfg(test)]
mod tests;
mod time;

pub use crate::crypto::NoRandom;
pub use arn::{arn, escaped};
pub use cookie::{InvalidCookie, Reading, SessionCookie};
pub use cookie_pairs::Cut;
pub use cookie_token::CookieToken;
pub use flow::{FLOW_LIFETIME, FlowBinding};
pub use flows::Claim;
pub use key::SessionKey;
pub use key_ring::SecretError;
pub use lease::Lease;
pub use limits::Crowded;
pub use live::{Cord, EndReason, Held, LiveConnections};
pub use model::{AccessToken, Identity, NewSession, Session, Tokens};
pub use moment::Moment;
pub use ready::Ready;
pub use seal::{SealError, Sealer, Unsealable};
pub use sessions::{OpenError, Sessions, Updated};
pub use store::{Selector, StoreError};
