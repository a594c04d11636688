//! The login we hold for a browser.

mod key;
mod model;
pub mod store;

pub use key::SessionKey;
pub use model::{AccessToken, Identity, Session, Tokens};
