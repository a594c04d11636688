//! `pingora-bff check`: every finding at once, and an exit code that a pipeline can trust.

use std::fmt::Write as _;
use std::path::Path;

use crate::config::{Config, Findings, count};

/// The exit code with errors.
pub const WITH_ERRORS: u8 = 2;

/// Checks both folders; the exit code (0 clean, 2 with errors) and what to print. Touches no network.
pub fn check(conf_dir: &Path, routes_dir: &Path, env: &dyn Fn(&str) -> Option<String>) -> (u8, String) {
    tell(&Config::load_with_findings(conf_dir, routes_dir, env))
}

/// What was found, and whether the program may start with it.
pub(super) fn tell((config, findings): &(Option<Config>, Findings)) -> (u8, String) {
    let Some(config) = config else { return (WITH_ERRORS, format!("{findings}\n")) };
    let mut text = if findings.diagnostics().is_empty() { String::new() } else { format!("{findings}\n") };
    let (routes, services) = (count(config.routes.len(), "route"), count(config.services.len(), "service"));
    let idps = count(config.idps.len(), "identity provider");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "configuration is clean: {routes}, {services}, {idps}");
    (0, text)
}
