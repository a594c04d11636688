//! The provider's answer as the browser brings it (RFC 6749 §4.1.2): untrusted in every byte.

use std::collections::HashSet;

use thiserror::Error;
use url::form_urlencoded;

use crate::config::Secret;

/// Codes may be JWTs; beyond this it is somebody else's query.
const MAX_QUERY: usize = 16 * 1024;

/// The parameters of the authorization response, decoded. Empty ones are as good as absent.
#[derive(Debug, Clone, Default)]
pub struct CallbackParams {
    /// Names the flow, and proves that this browser's login is answered.
    pub state: Option<Secret>,
    /// Good for one token request.
    pub code: Option<Secret>,
    /// RFC 9207.
    pub iss: Option<String>,
    /// OAuth error code, raw: escape before showing.
    pub error: Option<String>,
    /// Raw: escape before showing.
    pub error_description: Option<String>,
}

/// A callback query that is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallbackError {
    /// RFC 6749 §3.1: parameters must not be included more than once.
    #[error("the parameter {0} is there twice")]
    Twice(String),
    /// Longer than any provider's answer.
    #[error("the query is too long")]
    TooLong,
}

impl CallbackParams {
    /// Reads the query string of the callback (without `?`).
    pub fn parse(query: &str) -> Result<Self, CallbackError> {
        if query.len() > MAX_QUERY {
            return Err(CallbackError::TooLong);
        }
        let mut params = Self::default();
        let mut seen = HashSet::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !seen.insert(name.clone()) {
                return Err(CallbackError::Twice(super::error::quote(&name)));
            }
            if value.is_empty() {
                continue;
            }
            match name.as_ref() {
                "state" => params.state = Some(Secret::new(value)),
                "code" => params.code = Some(Secret::new(value)),
                "iss" => params.iss = Some(value.into_owned()),
                "error" => params.error = Some(value.into_owned()),
                "error_description" => params.error_description = Some(value.into_owned()),
                _ => {} // RFC 6749 §4.1.2: unknown ones are ignored
            }
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_kept_raw() {
        let params =
            CallbackParams::parse("state=s&code=c%2Bd&error_description=%3Cb%3Ehi&iss=https%3A%2F%2Fi&x=").unwrap();
        assert_eq!(params.code, Some(Secret::new("c+d")));
        assert_eq!(params.error_description.as_deref(), Some("<b>hi"));
        assert_eq!(params.iss.as_deref(), Some("https://i"));
        assert!(params.error.is_none());
    }

    #[test]
    fn a_parameter_given_twice_is_refused_however_it_is_spelled() {
        for query in ["state=a&state=a", "code=a&code=", "st%61te=a&state=b", "x=1&x=1"] {
            assert!(matches!(CallbackParams::parse(query), Err(CallbackError::Twice(_))), "{query}");
        }
        assert_eq!(CallbackParams::parse(&"a".repeat(MAX_QUERY + 1)).unwrap_err(), CallbackError::TooLong);
    }
}
