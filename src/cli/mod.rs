//! The command line: what can be typed, and one file a subcommand.

pub mod check;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
pub mod explain;
pub mod routes;
mod run;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use http::Method;

use crate::app::Sockets;
use crate::config::{Config, Findings};

/// The edge proxy for single-page applications: one cookie in, an audience-bound bearer token out.
#[derive(Debug, Parser)]
#[command(name = "pingora-bff", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve. Runs every check first and refuses to start on an error.
    Run {
        #[command(flatten)]
        folders: Folders,
        /// Take the listening sockets over from the process that serves, which is sent SIGQUIT: no connection is refused.
        #[arg(long)]
        upgrade: bool,
    },
    /// Check the configuration: all findings at once; exit 0 clean, 2 with errors.
    Check(Folders),
    /// Print the effective route table.
    Routes(Folders),
    /// Say which route answers a request, why, and what would be sent upstream. No network.
    Explain {
        /// `GET`, `POST`, …
        method: Method,
        /// Path and query, as the browser would send them.
        target: String,
        #[command(flatten)]
        folders: Folders,
    },
    /// On line: ask the provider, every service and the session store; exit 0 well, 1 with something to change.
    Doctor(Folders),
    /// Everything embedded on loopback: provider, services, and a page to try them on.
    #[cfg(feature = "demo")]
    Demo {
        /// Write the demo's configuration into DIR, to go on from it, and exit.
        #[arg(long, value_name = "DIR")]
        print_config: Option<PathBuf>,
        /// Serve everything but the proxy, for a configuration of `--print-config`: on five ports from PORT on.
        #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "9180")]
        parts: Option<u16>,
        /// The port the browser shall see; the demo takes a free one if it is taken.
        #[arg(long, default_value_t = crate::demo::PORT)]
        port: u16,
    },
}

#[derive(Debug, Args)]
struct Folders {
    /// Folder of `settings.yaml`, `idps.yaml` and `legacy_services.yaml`.
    #[arg(long, default_value = "conf", value_name = "DIR")]
    conf: PathBuf,
    /// Folder of the route files, all of which are merged.
    #[arg(long, default_value = "routes", value_name = "DIR")]
    routes: PathBuf,
}

impl Cli {
    /// Does what was typed.
    #[must_use]
    pub fn execute(self) -> ExitCode {
        match self.command {
            Command::Run { folders, upgrade } => {
                folders.hint_if_missing();
                let sockets = if upgrade { Sockets::TakeOver } else { Sockets::Bind };
                run::run(&folders.conf, &folders.routes, sockets)
            }
            Command::Check(folders) => {
                let (code, text) = check::tell(&load(&folders.conf, &folders.routes));
                say(&text);
                folders.hint_if_missing();
                ExitCode::from(code)
            }
            Command::Routes(folders) => folders.print(|config| routes::render(config).map(|table| (table, 0))),
            Command::Explain { method, target, folders } => {
                folders.print(|config| explain::render(config, &method, &target))
            }
            Command::Doctor(folders) => match Config::load(&folders.conf, &folders.routes, &environment) {
                Ok(config) => doctor::run(&config),
                Err(findings) => fail(&findings, check::WITH_ERRORS),
            },
            #[cfg(feature = "demo")]
            Command::Demo { print_config, parts, port } => match (print_config, parts) {
                (Some(dir), first) => demo::print_config(&dir, port, first.unwrap_or(crate::demo::FIRST_PORT)),
                (None, Some(first)) => demo::serve_parts(port, first),
                (None, None) => demo::run(port),
            },
        }
    }
}

impl Folders {
    /// Somebody who starts in an empty folder needs a way on more than a list of what is not there.
    fn hint_if_missing(&self) {
        if self.conf.is_dir() {
            return;
        }
        let conf = self.conf.display();
        let mut hint = format!("hint: there is no folder `{conf}` here; --conf DIR and --routes DIR name others.");
        if cfg!(feature = "demo") {
            hint.push_str("\n      `pingora-bff demo` needs no file; `pingora-bff demo --print-config DIR` writes some to begin with.");
        }
        complain(&format!("{hint}\n"));
    }

    /// Loads both folders and prints what `render` makes of them.
    fn print<E: std::fmt::Display>(&self, render: impl FnOnce(&Config) -> Result<(String, u8), E>) -> ExitCode {
        let config = match Config::load(&self.conf, &self.routes, &environment) {
            Ok(config) => config,
            Err(findings) => {
                self.hint_if_missing();
                return fail(&findings, check::WITH_ERRORS);
            }
        };
        match render(&config) {
            Ok((text, code)) => {
                say(&text);
                ExitCode::from(code)
            }
            Err(error) => fail(&error, check::WITH_ERRORS),
        }
    }
}

/// The configuration, and what is to be said of it and of the whole environment.
fn load(conf: &Path, routes: &Path) -> (Option<Config>, Findings) {
    let read = RefCell::new(BTreeSet::new());
    let (config, mut findings) = Config::load_with_findings(conf, routes, &|name| {
        read.borrow_mut().insert(name.to_owned());
        environment(name)
    });
    if let Some(config) = &config {
        let set = std::env::vars_os().filter(|(_, value)| !value.is_empty());
        let names = set.filter_map(|(name, _)| name.into_string().ok()).filter(|name| !read.borrow().contains(name));
        config.check_environment(names, &mut findings);
    }
    (config, findings)
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Standard output; a reader that left (`| head`) is no error.
fn say(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    complain(error);
    ExitCode::from(code)
}

/// A program that hears no signals cannot be stopped in order.
fn without_signals(error: &std::io::Error) -> ExitCode {
    fail(&format!("error: signals cannot be received: {error}"), 1)
}

/// Standard error; that nobody reads it is no error.
fn complain(words: &dyn std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{words}");
}
