//! `pingora-bff run`: check, build, serve.

use std::path::Path;
use std::process::ExitCode;

use super::{environment, fail};
use crate::app;
use crate::config::{Config, LogFormat};
use crate::proxy::Bff;
use crate::telemetry::{AccessLog, start_logging};

/// Serves until told to stop.
pub(super) fn run(conf: &Path, routes: &Path) -> ExitCode {
    let (config, findings) = Config::load_with_findings(conf, routes, &environment);
    let Some(config) = config else { return fail(&findings, super::check::WITH_ERRORS) };
    if !findings.diagnostics().is_empty() {
        // Warnings are for people; they do not stop the start.
        let _ = fail(&findings, 0);
    }
    serve(&config)
}

/// Serves a checked configuration.
pub(super) fn serve(config: &Config) -> ExitCode {
    let json = config.settings.log.format == LogFormat::Json;
    let log = match start_logging(&config.settings.log.level, json) {
        Ok(log) => log,
        Err(error) => return fail(&format!("error: no thread for the log: {error}"), 1),
    };
    let served = Bff::build(config, AccessLog::to(log.writer(), json)).and_then(|bff| app::serve(config, bff));
    // Queued lines are written before the process ends.
    drop(log);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("error: {error}"), 1),
    }
}
