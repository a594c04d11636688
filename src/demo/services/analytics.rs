//! The analytics service: besides the echo a stream of events and a sink for uploads.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::sse::{Event, Sse};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures::Stream;
use futures::stream::unfold;
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Service, answer, echo};

const TICK: Duration = Duration::from_secs(1);

/// Its paths.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/events", get(|| async { Sse::new(ticks()) }))
        .route("/upload", post(upload).put(upload))
        .fallback(any(answer))
        .layer(DefaultBodyLimit::disable())
        .with_state(service)
}

/// One event a second, the first at once, numbered from 1.
fn ticks() -> impl Stream<Item = Result<Event, Infallible>> {
    let mut clock = interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    unfold((clock, 1_u64), |(mut clock, number): (Interval, u64)| async move {
        clock.tick().await;
        let event = Event::default().event("tick").id(number.to_string()).data(format!("{{\"tick\":{number}}}"));
        Some((Ok(event), (clock, number.saturating_add(1))))
    })
}

async fn upload(State(service): State<Arc<Service>>, request: Request) -> Json<Value> {
    let (bytes, _) = echo::read(request.into_body()).await;
    Json(json!({ "service": service.name, "answer": service.count(), "bytes": bytes }))
}
