//! `pingora-bff doctor`: the configuration held against the world it names. Asks the provider, the
//! services and the session store, and says of each what works, or which file and key to change.

mod audiences;
mod provider;
mod report;
mod services;
mod store;

use std::process::ExitCode;
use std::sync::Arc;

use self::report::Report;
use super::{fail, say};
use crate::config::Config;
use crate::resilience::{Clock, SystemClock};
use crate::telemetry::Metrics;

/// Exit status: something must be changed.
const UNWELL: u8 = 1;

/// Looks at everything and prints each finding as it is made; the exit status is 0 if nothing is wrong.
pub(super) fn run(config: &Config) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, metrics) = match (runtime, Metrics::new()) {
        (Ok(runtime), Ok(metrics)) => (runtime, Arc::new(metrics)),
        (Err(error), _) => return fail(&format!("error: {error}"), UNWELL),
        (_, Err(error)) => return fail(&format!("error: {error}"), UNWELL),
    };
    let mut print = say;
    let mut report = Report::new(&mut print);
    runtime.block_on(examine(config, &metrics, &mut report));
    ExitCode::from(if report.finish() { 0 } else { UNWELL })
}

async fn examine(config: &Config, metrics: &Arc<Metrics>, report: &mut Report<'_>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    for idp in &config.idps {
        let party = provider::examine(config, idp, &clock, metrics, report).await;
        if idp.name == config.settings.auth.idp {
            audiences::examine(config, idp, party.as_ref(), report).await;
        }
    }
    services::examine(config, report).await;
    store::examine(config, &clock, metrics, report).await;
}
