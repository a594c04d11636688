//! `pingora-bff demo`: the ordinary program on a configuration that needs nothing but loopback.

use std::path::{Path, PathBuf};
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
        say(&written(&running.config_dir));
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(&running.conf_dir(), &running.routes_dir(), &environment) {
        Ok(config) => config,
        Err(findings) => return fail(&findings, super::check::WITH_ERRORS),
    };
    say(&running.summary());
    run::serve(&config)
}

/// The provider and the services of the demo end with it: the files are a beginning, not a running system.
fn written(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "The demo's configuration is in {dir}\n\n\
         Its provider and its services live only inside `pingora-bff demo`. Put your own where the files\n\
         say DEMO: the issuer and the client in conf/idps.yaml, the services' base_url in routes/. Then:\n\n    \
         pingora-bff check --conf {dir}/conf --routes {dir}/routes\n    \
         pingora-bff run --conf {dir}/conf --routes {dir}/routes\n"
    )
}
