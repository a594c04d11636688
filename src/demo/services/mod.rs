//! The services behind the proxy: they answer with what reached them, so that a visitor sees what
//! the cookie became on the way.

pub mod analytics;
mod echo;
pub mod legacy;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::Value;

use super::provider::Keys;

/// One service.
#[derive(Debug)]
pub struct Service {
    /// What it calls itself in its answers.
    pub name: &'static str,
    /// The audience it expects in a token.
    pub audience: String,
    /// Checks the tokens' signatures, as a real service would with the provider's JWKS.
    pub keys: Arc<Keys>,
    answers: AtomicU64,
}

impl Service {
    /// A service that has answered nobody yet.
    pub fn new(name: &'static str, audience: impl Into<String>, keys: Arc<Keys>) -> Arc<Self> {
        Arc::new(Self { name, audience: audience.into(), keys, answers: AtomicU64::new(0) })
    }

    /// Counts one more answer.
    fn count(&self) -> u64 {
        self.answers.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

/// Echoes on every path.
pub fn plain(service: Arc<Service>) -> Router {
    Router::new().fallback(any(answer)).with_state(service)
}

async fn answer(State(service): State<Arc<Service>>, request: Request) -> Json<Value> {
    Json(echo::describe(&service, request).await)
}
