//! `pingora-bff run`: check, build, serve.

use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{complain, fail, load, without_signals};
use crate::app::{self, Sockets};
use crate::config::{Config, LogFormat};
use crate::proxy::Bff;
use crate::telemetry::{AccessLog, start_logging};

/// Serves until told to stop.
pub(super) fn run(conf: &Path, routes: &Path, sockets: Sockets) -> ExitCode {
    if let Err(error) = app::hear_signals() {
        return without_signals(&error);
    }
    let (config, findings) = load(conf, routes);
    let Some(config) = config else { return fail(&findings, super::check::WITH_ERRORS) };
    if !findings.diagnostics().is_empty() {
        // Warnings are for people; they do not stop the start.
        complain(&findings);
    }
    serve(&config, sockets)
}

/// Serves a checked configuration.
pub(super) fn serve(config: &Config, sockets: Sockets) -> ExitCode {
    let json = config.settings.log.format == LogFormat::Json;
    let log = match start_logging(&config.settings.log.level, json) {
        Ok(log) => log,
        Err(error) => return fail(&format!("error: no thread for the log: {error}"), 1),
    };
    // A connection is a file, and so is its service's: the soft limit of most systems (1024) is for programs that
    // use select(2). What the administrator allows is the hard one.
    let files = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }) {
        tracing::warn!(%error, "the number of open files stays as it is");
    }
    let served = Bff::build(config, AccessLog::to(log.writer(), json)).and_then(|bff| app::serve(config, bff, sockets));
    // Queued lines are written before the process ends.
    drop(log);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("error: {error}"), 1),
    }
}
