//! The legacy service: an echo with moods. `POST /_mode {"mode":"ok|slow|broken"}` sets one for
//! everybody, `?delay_ms=` makes a single answer late.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::form_urlencoded;

use super::{Service, echo};

/// Noticeable, and well under the route's timeout.
const SLOW: Duration = Duration::from_secs(3);
const MAX_DELAY_MS: u64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Ok,
    Slow,
    Broken,
}

#[derive(Debug, Serialize, Deserialize)]
struct Mood {
    mode: Mode,
}

#[derive(Debug)]
struct Legacy {
    service: Arc<Service>,
    mode: Mutex<Mode>,
}

impl Legacy {
    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock()
    }
}

/// Its paths.
pub fn router(service: Arc<Service>) -> Router {
    type Shared = State<Arc<Legacy>>;
    let legacy = Arc::new(Legacy { service, mode: Mutex::new(Mode::Ok) });
    let show = |State(legacy): Shared| async move { Json(Mood { mode: *legacy.mode() }) };
    let change = |State(legacy): Shared, Json(mood): Json<Mood>| async move {
        *legacy.mode() = mood.mode;
        Json(mood)
    };
    Router::new().route("/_mode", get(show).post(change)).fallback(any(answer)).with_state(legacy)
}

async fn answer(State(legacy): State<Arc<Legacy>>, request: Request) -> Response {
    let mode = *legacy.mode();
    let delay = delay_of(request.uri().query().unwrap_or_default(), mode);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if mode == Mode::Broken {
        let body =
            json!({ "service": legacy.service.name, "answer": legacy.service.count(), "error": "told to be broken" });
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response();
    }
    // Nothing about how long it is fresh, so the configuration decides; when this service fails, a cache may go on.
    let stale = (header::CACHE_CONTROL, "stale-if-error=300");
    ([stale], Json(echo::describe(&legacy.service, request).await)).into_response()
}

fn delay_of(query: &str, mode: Mode) -> Duration {
    let asked = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "delay_ms")
        .and_then(|(_, value)| value.parse::<u64>().ok());
    match asked {
        Some(millis) => Duration::from_millis(millis.min(MAX_DELAY_MS)),
        None if mode == Mode::Slow => SLOW,
        None => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_what_was_asked_for_but_never_more_than_a_minute() {
        assert_eq!(delay_of("", Mode::Ok), Duration::ZERO);
        assert_eq!(delay_of("", Mode::Slow), SLOW);
        assert_eq!(delay_of("a=b&delay_ms=20", Mode::Slow), Duration::from_millis(20));
        assert_eq!(delay_of("delay_ms=99999999", Mode::Ok), Duration::from_secs(60));
        assert_eq!(delay_of("delay_ms=soon", Mode::Ok), Duration::ZERO);
    }
}
