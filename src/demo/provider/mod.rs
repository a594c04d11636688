//! A development `OpenID` provider: real protocol (code + PKCE, rotating refresh tokens, resource
//! indicators), invented people. It lives in memory, on loopback, for one client: the demo itself.

mod authorize;
mod client;
mod discovery;
mod keys;
mod ledger;
mod logout;
mod mint;
mod pages;
mod params;
mod refusal;
mod token;
mod users;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::resilience::Clock;

pub use client::Client;
pub use keys::Keys;
use ledger::Ledger;

/// Nothing that is posted here is larger than a form.
const MAX_BODY: usize = 64 * 1024;

/// Everything the provider knows.
#[derive(Debug)]
pub struct Provider {
    /// `http://127.0.0.1:PORT`, without a trailing slash.
    pub issuer: String,
    /// The one client: the proxy.
    pub client: Client,
    /// The audiences tokens can be asked for (RFC 8707 `resource`).
    pub resources: Vec<String>,
    /// The scopes that may be asked for.
    pub scopes: Vec<String>,
    /// Signs every token.
    pub keys: Arc<Keys>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    ledger: Ledger,
}

impl Provider {
    /// A provider nobody has logged in to yet.
    pub fn new(
        issuer: String,
        client: Client,
        resources: Vec<String>,
        scopes: Vec<String>,
        keys: Arc<Keys>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { issuer, client, resources, scopes, keys, clock, ledger: Ledger::default() }
    }

    fn knows_resource(&self, resource: &str) -> bool {
        self.resources.iter().any(|known| known == resource)
    }
}

/// The provider's endpoints.
pub fn router(provider: Arc<Provider>) -> Router {
    type Shared = State<Arc<Provider>>;
    Router::new()
        .route("/", get(|State(provider): Shared| async move { pages::front(&provider) }))
        .route(
            "/.well-known/openid-configuration",
            get(|State(provider): Shared| async move { Json(discovery::document(&provider)) }),
        )
        .route("/jwks", get(|State(provider): Shared| async move { Json(provider.keys.jwks()) }))
        .route(
            "/authorize",
            get(|State(provider): Shared, RawQuery(query): RawQuery| async move {
                authorize::show(&provider, &query.unwrap_or_default())
            })
            .post(|State(provider): Shared, RawQuery(query): RawQuery, form: String| async move {
                authorize::submit(&provider, &query.unwrap_or_default(), &form)
            }),
        )
        .route(
            "/token",
            post(|State(provider): Shared, headers: HeaderMap, form: String| async move {
                token::answer(&provider, &headers, &form)
            }),
        )
        .route(
            "/revoke",
            post(|State(provider): Shared, headers: HeaderMap, form: String| async move {
                logout::revoke(&provider, &headers, &form)
            }),
        )
        .route(
            "/session/end",
            get(|State(provider): Shared, RawQuery(query): RawQuery| async move {
                logout::end_session(&provider, &query.unwrap_or_default())
            })
            .post(|State(provider): Shared, form: String| async move { logout::end_session(&provider, &form) }),
        )
        .route("/style.css", get(|| async { stylesheet().into_response() }))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(provider)
}

/// The page's own stylesheet, so that the provider looks like a part of the same demo.
fn stylesheet() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../page/style.css"))
}
