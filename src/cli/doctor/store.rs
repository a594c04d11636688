//! The session store: can it be opened with its secret, does it answer, does it keep what it is given.

use std::sync::Arc;
use std::time::Duration;

use super::report::Report;
use crate::config::Config;
use crate::resilience::Clock;
use crate::session::{OpenError, Sessions};
use crate::telemetry::Metrics;

/// How long the note lives if it cannot be taken out again.
const NOTE: Duration = Duration::from_secs(60);

pub(super) async fn examine(config: &Config, clock: &Arc<dyn Clock>, metrics: &Arc<Metrics>, report: &mut Report<'_>) {
    report.section("Session store");
    let file = config.conf_dir.join("settings.yaml");
    let place = |key: &str| format!("{}: session.{key}", file.display());
    let sessions = match Sessions::open(&config.settings.session, Arc::clone(clock), Arc::clone(metrics)) {
        Ok(sessions) => sessions,
        Err(error @ OpenError::Secret(_)) => return report.bad("opens", error, place("secret")),
        Err(error) => return report.bad("opens", error, place("store")),
    };
    match sessions.ping().await {
        Ok(()) => report.good("answers", "yes"),
        Err(error) => return report.bad("answers", error, place("store")),
    }
    match keep_a_note(&sessions).await {
        Ok(true) => report.good("keeps", "a note was written, read and deleted"),
        Ok(false) => report.bad("keeps", "a note that was written is not there", place("store")),
        Err(error) => report.bad("keeps", error, place("store")),
    }
}

async fn keep_a_note(sessions: &Sessions) -> Result<bool, crate::session::StoreError> {
    let name = format!("doctor-{:032x}", fastrand::u128(..));
    sessions.put_flow(&name, b"doctor", NOTE).await?;
    let kept = sessions.take_flow(&name).await?.is_some_and(|note| note == b"doctor");
    Ok(kept && sessions.take_flow(&name).await?.is_none())
}
