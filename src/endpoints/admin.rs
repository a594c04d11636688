//! The admin listener: metrics, health in detail and what is loaded. Never reachable from the public port.

use std::sync::atomic::Ordering;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Endpoints, health};
use crate::reply::{Circumstances, LOGIN, ProxyError, Reply, from_error};

impl Endpoints {
    /// The answer to `method path` on `server.admin_listen`. `loaded` describes the configuration.
    pub async fn admin(&self, method: &Method, path: &str, loaded: &Value) -> Reply {
        let known =
            matches!(path, "/metrics" | "/status" | "/health" | "/health/live" | "/health/ready" | "/auth/health");
        if !known {
            return refuse(&ProxyError::NoRoute);
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return refuse(&ProxyError::MethodNotAllowed { allow: vec![Method::GET, Method::HEAD] });
        }
        match path {
            "/metrics" => {
                self.facade.show();
                Reply::empty(StatusCode::OK)
                    .with_body("text/plain; version=0.0.4; charset=utf-8", self.metrics.render())
            }
            "/status" => self.status(loaded).await,
            "/health/live" => health::live(),
            _ => self.ready_in_detail().await,
        }
    }

    async fn status(&self, loaded: &Value) -> Reply {
        let (_, _, store) = self.readiness().await;
        let body = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "store": store,
            "sessions_active": self.metrics.sessions_active.get(),
            "requests_in_flight": self.metrics.http_in_flight.get(),
            "draining": self.draining.load(Ordering::Relaxed),
            "issuer": self.relying_party.issuer(),
            "configuration": loaded,
        });
        Reply::json(StatusCode::OK, &body)
    }

    /// Readiness as the public port tells it, with what it is made of, and what does not count beside it.
    async fn ready_in_detail(&self) -> Reply {
        let (status, word, store) = self.readiness().await;
        let body = json!({
            "status": word,
            "store": store,
            "circuits": self.facade.health(),
            "cache": self.facade.cache_health(),
        });
        Reply::json(status, &body)
    }
}

fn refuse(error: &ProxyError) -> Reply {
    let correlation_id = format!("{:032x}", fastrand::u128(..));
    from_error(error, Circumstances { correlation_id: &correlation_id, login_url: LOGIN, navigation: false })
}
