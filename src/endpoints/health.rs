//! Liveness says the process answers; readiness says it should be sent requests.

use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::json;

use super::Endpoints;
use crate::reply::Reply;

/// The store does not answer.
const UNREADY: &str = "unready";

pub(super) fn live() -> Reply {
    Reply::json(StatusCode::OK, &json!({ "status": "alive" }))
}

impl Endpoints {
    /// Circuits and cache of the façade. Says nothing of addresses.
    pub(super) fn facade_health(&self) -> Reply {
        let services = self.facade.health();
        Reply::json(
            StatusCode::OK,
            &json!({ "status": "ok", "services": services, "cache": self.facade.cache_health() }),
        )
    }

    /// Whether to be sent requests, in a status and a word, and what the session store says of itself. A provider that
    /// is down does not make us unready: live sessions go on. Nor does an old service, or the cache.
    pub(super) async fn readiness(&self) -> (StatusCode, &'static str, String) {
        let store = self.sessions.ping().await;
        let (status, word) = match &store {
            _ if self.draining.load(Ordering::Relaxed) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Ok(()) => (StatusCode::OK, "ready"),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, UNREADY),
        };
        (status, word, store.map_or_else(|error| error.to_string(), |()| "ok".to_owned()))
    }

    /// 503 while the session store is unreachable or the process is stopping.
    pub async fn ready(&self) -> Reply {
        let (status, word, store) = self.readiness().await;
        if word != UNREADY {
            return Reply::json(status, &json!({ "status": word }));
        }
        tracing::error!(error = %store, "not ready");
        Reply::json(status, &json!({ "status": word, "reason": "session store unreachable" }))
    }
}
