//! Liveness says the process answers; readiness says it should be sent requests.

use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::json;

use super::Endpoints;
use crate::reply::Reply;

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

    /// 503 while the session store is unreachable or the process is stopping. A provider that is
    /// down does not make us unready: live sessions go on.
    pub async fn ready(&self) -> Reply {
        if self.draining.load(Ordering::Relaxed) {
            return Reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "draining" }));
        }
        match self.sessions.ping().await {
            Ok(()) => Reply::json(StatusCode::OK, &json!({ "status": "ready" })),
            Err(error) => {
                tracing::error!(%error, "not ready");
                let body = json!({ "status": "unready", "reason": "session store unreachable" });
                Reply::json(StatusCode::SERVICE_UNAVAILABLE, &body)
            }
        }
    }
}
