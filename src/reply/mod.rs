//! What we answer ourselves: [`ProxyError`] says why (no HTTP in it), [`Reply`] is what the client
//! sees, and `problem` is the only place where the one becomes the other.

mod error;
mod page;
mod problem;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderName, HeaderValue, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

pub use error::ProxyError;
pub use page::{message_page, onward_page};
pub use problem::{Circumstances, Face, from_error};

/// Where a login begins.
pub const LOGIN: &str = "/auth/login";

/// The same for who then wants to go on at `return_to`. Escaped so that nothing on the way can read it otherwise.
#[must_use]
pub fn login_url(return_to: &str) -> String {
    format!("{LOGIN}?return_to={}", utf8_percent_encode(return_to, NON_ALPHANUMERIC))
}

/// A complete answer of ours. The pipeline adds the correlation id and CORS headers.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status line.
    pub status: StatusCode,
    /// Every header but `Content-Length`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// An answer without a body. `Cache-Control: no-store`, as on everything we say ourselves.
    #[must_use]
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: vec![(CACHE_CONTROL, HeaderValue::from_static("no-store"))], body: Bytes::new() }
    }

    /// `body` as `application/json`.
    #[must_use]
    pub fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // Our own types of strings and numbers always serialise.
        let text = serde_json::to_vec(body).unwrap_or_default();
        Self::empty(status).with_body("application/json", text)
    }

    /// 302 to `target`; to `/` should it not fit into a header.
    #[must_use]
    pub fn redirect(target: &str) -> Self {
        let location = HeaderValue::from_str(target).unwrap_or_else(|_| HeaderValue::from_static("/"));
        Self::empty(StatusCode::FOUND).with(LOCATION, location)
    }

    /// Adds one header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `Set-Cookie`; several may be added.
    #[must_use]
    pub fn with_cookie(mut self, cookie: Option<HeaderValue>) -> Self {
        self.headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
        self
    }

    /// Sets body and `Content-Type`.
    #[must_use]
    pub fn with_body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.with(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }
}
