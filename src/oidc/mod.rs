//! The relying party: everything we say to an OpenID provider and everything we refuse to believe
//! of what it says. Discovery, keys, the token endpoint, login, logout, and the access tokens that
//! callers bring. The only room that dials out to a provider, and the only one that names the HTTP
//! client.

mod audiences;
mod bearer;
mod callback;
mod claims;
mod client_auth;
mod discovery;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod grant;
mod http;
mod id_token;
mod jwks;
mod jwt;
mod kept;
mod known;
mod login;
mod logout;
mod logout_token;
mod probe;
mod random;
mod relying_party;
mod signature;
mod token_endpoint;
mod token_response;

#[cfg(test)]
mod tests;

pub use bearer::{BearerError, BearerValidator, Caller};
pub use callback::{CallbackError, CallbackParams};
pub use discovery::{Metadata, Unusable};
pub use error::{FetchError, GrantError, IdTokenError, IdpError, LoginError, SetupError};
pub use grant::Ask;
pub use login::{Flow, Login, LoginAsk};
pub use logout_token::{LogoutNotice, LogoutTokenError};
pub use probe::{ClientStanding, WayBack};
pub use relying_party::RelyingParty;
pub use token_response::TokenResponse;
