//! The one registered client, and how it proves who it is.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;
use url::form_urlencoded;

use super::params::Params;
use super::refusal::Refusal;
use crate::config::Secret;

/// A confidential client.
#[derive(Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`.
    pub secret: Secret,
    /// Compared byte for byte (RFC 9700 §2.1).
    pub redirect_uri: String,
    /// Audience of a token that was asked for without `resource`.
    pub audience: String,
}

impl Client {
    /// Checks `client_secret_basic` or `client_secret_post` (RFC 6749 §2.3.1).
    pub fn authenticate(&self, headers: &HeaderMap, form: &Params) -> Result<(), Refusal> {
        let (id, secret) = match (basic(headers)?, form.optional("client_secret")?) {
            (Some(_), Some(_)) => return Err(Refusal::bad("invalid_request", "two ways of client authentication")),
            (Some(pair), None) => pair,
            (None, Some(secret)) => (form.required("client_id")?.to_owned(), Secret::new(secret)),
            (None, None) => return Err(unknown()),
        };
        let same_secret = verify_slices_are_equal(secret.expose().as_bytes(), self.secret.expose().as_bytes());
        if id == self.id && same_secret.is_ok() { Ok(()) } else { Err(unknown()) }
    }

    /// After a logout the browser may return to any page of the application, and nowhere else.
    pub fn owns(&self, target: &str) -> bool {
        match (Url::parse(target), Url::parse(&self.redirect_uri)) {
            (Ok(target), Ok(home)) => target.origin() == home.origin(),
            _ => false,
        }
    }
}

fn unknown() -> Refusal {
    Refusal::bad("invalid_client", "client_id or client_secret is wrong")
}

fn basic(headers: &HeaderMap) -> Result<Option<(String, Secret)>, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let encoded = value.to_str().ok().and_then(|text| text.strip_prefix("Basic ")).ok_or_else(unknown)?;
    let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(unknown)?;
    let (id, secret) = decoded.split_once(':').ok_or_else(unknown)?;
    Ok(Some((form_decode(id), Secret::new(form_decode(secret)))))
}

/// Both halves are form-encoded before they are joined (RFC 6749 §2.3.1).
fn form_decode(text: &str) -> String {
    // `=` and `&` cannot occur in an encoded half; were they there, they would change nothing else.
    form_urlencoded::parse(text.as_bytes()).next().map_or_else(String::new, |(name, _)| name.into_owned())
}
