//! `pingora-bff demo`: the ordinary program on a configuration that needs nothing but loopback.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{environment, fail, run, say};
use crate::config::Config;
use crate::demo::{self, Options};

pub(super) fn run(print_config: Option<PathBuf>, port: u16) -> ExitCode {
    let only_print = print_config.is_some();
    let running = match demo::start(&Options { port, config_dir: print_config }) {
        Ok(running) => running,
        Err(error) => return fail(&format!("error: the demo cannot start: {error}"), 1),
    };
    if only_print {
        say(&format!("The demo's configuration is in {}\n", running.config_dir.display()));
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(&running.conf_dir(), &running.routes_dir(), &environment) {
        Ok(config) => config,
        Err(findings) => return fail(&findings, super::check::WITH_ERRORS),
    };
    say(&running.summary());
    run::serve(&config)
}
