//! The admin listener: metrics, health and what is loaded. Never reachable from the public port.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Endpoints, health};
use crate::reply::Reply;

impl Endpoints {
    /// The answer to `GET path` on `server.admin_listen`. `loaded` describes the configuration.
    pub async fn admin(&self, path: &str, loaded: &Value) -> Reply {
        match path {
            "/metrics" => Reply::empty(StatusCode::OK)
                .with_body("text/plain; version=0.0.4; charset=utf-8", self.metrics.render()),
            "/status" => {
                let store = self.sessions.ping().await.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
                let body = json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "store": store,
                    "sessions_active": self.metrics.sessions_active.get(),
                    "requests_in_flight": self.metrics.http_in_flight.get(),
                    "draining": self.draining.load(std::sync::atomic::Ordering::Relaxed),
                    "issuer": self.relying_party.issuer(),
                    "configuration": loaded,
                });
                Reply::json(StatusCode::OK, &body)
            }
            "/health/live" => health::live(),
            "/health" | "/health/ready" => self.ready().await,
            _ => Reply::json(
                StatusCode::NOT_FOUND,
                &json!({ "paths": ["/metrics", "/status", "/health", "/health/live", "/health/ready"] }),
            ),
        }
    }
}
