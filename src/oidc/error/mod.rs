//! Why a provider could not be asked, refused us, or is not believed. "It said no" and "it could not
//! be asked" are never the same variant: the first may end a session, the second never does.

mod fetch;
mod grant;
mod id_token;
mod idp;
mod login;
mod setup;

pub use fetch::FetchError;
pub use grant::GrantError;
pub use id_token::IdTokenError;
pub use idp::IdpError;
pub use login::LoginError;
pub use setup::SetupError;

/// Longest piece of a provider's words that goes into a log.
const QUOTE: usize = 200;

/// What a provider wrote, made fit for a log line: no control characters, at most 200 characters.
pub(in crate::oidc) fn quote(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTE).collect()
}

/// An OAuth error code, and the provider's words where there are any.
pub(in crate::oidc) fn said(code: &str, description: &str) -> String {
    if description.is_empty() { code.to_owned() } else { format!("{code}: {description}") }
}
