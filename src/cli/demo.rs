//! `pingora-bff demo`: the ordinary program on a configuration that needs nothing but loopback.

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{environment, fail, run, say, without_signals};
use crate::app::{self, Sockets};
use crate::config::Config;
use crate::demo;

/// All in one process.
pub(super) fn run(port: u16) -> ExitCode {
    if let Err(error) = app::hear_signals() {
        return without_signals(&error);
    }
    let running = match demo::start(port) {
        Ok(running) => running,
        Err(error) => return fail(&format!("error: the demo cannot start: {error}"), 1),
    };
    let config = match Config::load(&running.conf_dir(), &running.routes_dir(), &environment) {
        Ok(config) => config,
        Err(findings) => return fail(&findings, super::check::WITH_ERRORS),
    };
    say(&running.summary());
    run::serve(&config, Sockets::Bind)
}

/// Writes the configuration and says how to go on.
pub(super) fn print_config(dir: &Path, port: u16, first: u16) -> ExitCode {
    if let Err(error) = demo::print(dir, port, first) {
        return fail(&format!("error: the configuration cannot be written: {error}"), 1);
    }
    let first = if first == demo::FIRST_PORT { String::new() } else { format!(" {first}") };
    let public = if port == demo::PORT { String::new() } else { format!(" --port {port}") };
    let dir = dir.display();
    say(&format!(
        "The demo's configuration is in {dir}. To run it, in two terminals:\n\
         \n  pingora-bff demo --parts{first}{public}\n  pingora-bff run --conf {dir}/conf --routes {dir}/routes\n\
         \nThen open http://localhost:{port}. The first serves the provider, the services and the page;\n\
         the second is the proxy: change a file, start it again. What to replace is marked DEMO:\n\
         \n  conf/idps.yaml              issuer, client_id and client_secret of your provider\n  \
         conf/settings.yaml          public_url, session.store, service_audiences, service_scopes\n  \
         conf/legacy_services.yaml   the services behind the façade\n  \
         routes/api.yaml             your services and their routes\n  \
         routes/page.yaml            where your single-page application is served\n\
         \nAt your provider, register {callback} as a redirect URI.\n",
        callback = format_args!("http://localhost:{port}/auth/callback"),
    ));
    ExitCode::SUCCESS
}

/// Everything but the proxy, until told to stop.
pub(super) fn serve_parts(port: u16, first: u16) -> ExitCode {
    let parts = match demo::start_parts(port, first) {
        Ok(parts) => parts,
        Err(error) => return fail(&format!("error: the demo's parts cannot start: {error}"), 1),
    };
    say(&format!(
        "\n  Waiting for a proxy, all on loopback:\n{listing}\
         \n  Start it with: pingora-bff run --conf DIR/conf --routes DIR/routes\n  \
         where DIR is what you gave to demo --print-config. Then open {url}\n  Ctrl-C ends this.\n",
        listing = parts.listing(),
        url = parts.public_url(),
    ));
    match wait_for_the_end() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => without_signals(&error),
    }
}

fn wait_for_the_end() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
