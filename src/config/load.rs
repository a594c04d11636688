//! Both folders → [`Config`], or everything that is wrong with them.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::check::{
    check_audiences, check_authentication, check_mappings, check_routes, check_targets, check_unique, find_login,
    unique_services,
};
use super::diagnostic::{Collector, Diagnostic, Findings};
use super::mask::{secrets_of, secrets_of_text};
use super::model::{Config, IdpConfig, LegacyConfig, RouteConfig, Settings};
use super::node::Node;
use super::read::{
    RouteFile, WrittenSettings, by_name, read_idps, read_legacy, read_route_file, read_settings, strays,
};
use super::reader::suggest;
use super::source::{Position, Source, Span, Spot};
use super::variable::{Environment, resolve};
use super::yaml::parse;

/// No sane configuration file is larger, in bytes.
const MAX_FILE: usize = 16 << 20;
/// What is read in the folder of the configuration.
const READ: [&str; 3] = ["settings.yaml", "idps.yaml", "legacy_services.yaml"];

impl Config {
    /// Reads and checks `settings.yaml`, `idps.yaml` and (if there) `legacy_services.yaml` in `conf_dir` and every
    /// `*.yaml`/`*.yml` in `routes_dir`. `env` looks up environment variables.
    ///
    /// Relative paths written inside (`sqlite:`, PEM files, `file:`) begin at the working directory.
    ///
    /// # Errors
    /// All findings of all files at once, warnings included, if one of them is an error.
    pub fn load(conf_dir: &Path, routes_dir: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Findings> {
        let (config, findings) = Self::load_with_findings(conf_dir, routes_dir, env);
        config.ok_or(findings)
    }

    /// As [`Config::load`], with the warnings also where there is no error.
    pub fn load_with_findings(
        conf_dir: &Path,
        routes_dir: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> (Option<Self>, Findings) {
        let found = Collector::default();
        let config = load(conf_dir, routes_dir, env, &found);
        let findings = found.into_findings();
        (config.filter(|_| findings.errors() == 0), findings)
    }

    /// Adds a warning for each of these environment variables that would override a legacy service, were it there.
    pub(crate) fn check_environment(&self, names: impl Iterator<Item = String>, findings: &mut Findings) {
        let file = self.conf_dir.join("legacy_services.yaml");
        findings.add(strays(&self.legacy, names).into_iter().map(|(name, nearest)| {
            let warning = Diagnostic::of_file(&file, format!("the environment variable `{name}` is for no service"));
            if nearest.is_empty() { warning } else { warning.note(nearest) }
        }));
    }
}

fn load(conf_dir: &Path, routes_dir: &Path, env: Environment<'_>, found: &Collector) -> Option<Config> {
    check_strangers(conf_dir, routes_dir, found);
    let settings = read_file(&conf_dir.join("settings.yaml"), env, found);
    let settings = settings.and_then(|node| read_settings(&node, found));
    let idps = read_file(&conf_dir.join("idps.yaml"), env, found).and_then(|node| read_idps(&node, found));
    let legacy_path = conf_dir.join("legacy_services.yaml");
    // A link that leads nowhere and a folder that cannot be read are not the absence of the file.
    let legacy = match std::fs::symlink_metadata(&legacy_path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Some(LegacyConfig::default()),
        _ => read_file(&legacy_path, env, found).and_then(|node| read_legacy(&node, env, found)),
    };
    let (routes, complete) = read_routes(routes_dir, env, found);
    let names: Vec<&str> = routes.services.iter().map(|service| service.name.value.as_str()).collect();
    check_unique(routes.services.iter().map(|service| &service.name), "service", "defined", found);
    check_unique(&routes.ids, "route id", "used", found);
    check_routes(&routes.routes, found);
    // A file that cannot be read may define what others name.
    if complete {
        check_targets(&routes.targets, &names, found);
    }
    if let (Some(settings), Some(legacy), true) = (&settings, &legacy, complete) {
        check_mappings(settings, &names, legacy, found);
    }
    if let Some(settings) = &settings {
        check_audiences(&routes.routes, &names, settings, found);
    }
    let login = match (&settings, &idps) {
        (Some(settings), Some(idps)) => {
            let login = find_login(settings, idps, found);
            check_authentication(&routes.routes, idps, login, found);
            login.map(|idp| idp.name.clone())
        }
        _ => None,
    };
    let settings = finish_settings(settings?, login?)?;
    let configured: Vec<RouteConfig> = routes.routes.into_iter().map(|route| route.config).collect();
    let mut idps: Vec<IdpConfig> = idps?.entries.into_iter().map(|idp| idp.config).collect();
    for login in idps.iter_mut().filter(|idp| idp.name == settings.auth.idp) {
        trust_ours(login, &settings, &configured);
    }
    Some(Config {
        settings,
        idps,
        services: unique_services(routes.services),
        routes: configured,
        legacy: legacy?,
        conf_dir: conf_dir.to_owned(),
        routes_dir: routes_dir.to_owned(),
    })
}

/// Providers that have one list of audiences for access tokens and ID tokens name our services in both.
fn trust_ours(login: &mut IdpConfig, settings: &Settings, routes: &[RouteConfig]) {
    let of_routes = routes.iter().filter_map(|route| route.token_policy.as_ref()?.audience.as_ref());
    let mut ours: Vec<String> = settings.service_audiences.values().chain(of_routes).cloned().collect();
    ours.sort_unstable();
    ours.dedup();
    ours.retain(|one| !login.trusted_audiences.contains(one));
    login.trusted_audiences.append(&mut ours);
}

fn finish_settings(written: WrittenSettings, login: String) -> Option<Settings> {
    let mut auth = written.auth;
    auth.idp = login;
    Some(Settings {
        server: written.server?,
        auth,
        session: written.session?,
        token_refresh_threshold: written.token_refresh_threshold,
        service_audiences: by_name(written.service_audiences),
        service_scopes: by_name(written.service_scopes),
        cors_allow_origins: written.cors_allow_origins,
        csrf_mode: written.csrf_mode,
        empowerid_api_key: written.empowerid_api_key,
        log: written.log,
    })
}

/// Files beside ours that look as if they were read: `legacy_services.yml`.
fn check_strangers(conf_dir: &Path, routes_dir: &Path, found: &Collector) {
    let same = conf_dir.canonicalize().ok() == routes_dir.canonicalize().ok();
    // A folder that cannot be read is reported with what is missing in it.
    for path in yaml_files(conf_dir).unwrap_or_default() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if same || READ.contains(&name.as_str()) {
            continue;
        }
        let warning = Diagnostic::of_file(&path, "nobody reads this file");
        let near = suggest(&name.replace('-', "_"), READ.into_iter());
        let warning = if near.is_empty() { warning } else { warning.note(near) };
        found.push(warning.note(format!("read are {} here, and routes in {}", READ.join(", "), routes_dir.display())));
    }
}

/// Every route file merged, and whether each could be read.
fn read_routes(routes_dir: &Path, env: Environment<'_>, found: &Collector) -> (RouteFile, bool) {
    let mut merged = RouteFile::default();
    let paths = match yaml_files(routes_dir) {
        Ok(paths) if paths.is_empty() => {
            found.push(Diagnostic::unreadable(routes_dir, "this folder holds no route file (`*.yaml`)"));
            return (merged, false);
        }
        Ok(paths) => paths,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            found.push(Diagnostic::unreadable(routes_dir, "this folder (of the routes) does not exist"));
            return (merged, false);
        }
        Err(error) => {
            found.push(Diagnostic::unreadable(routes_dir, format!("cannot read the folder of the routes: {error}")));
            return (merged, false);
        }
    };
    let mut complete = true;
    for path in paths {
        match read_file(&path, env, found).and_then(|node| read_route_file(&node, found)) {
            Some(file) => merged.take(file),
            None => complete = false,
        }
    }
    let complete = complete && !merged.services_unknown;
    (merged, complete)
}

fn yaml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && matches!(path.extension().and_then(OsStr::to_str), Some("yaml" | "yml")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The tree of one file, its variables replaced; `None` after a report.
fn read_file(path: &Path, env: Environment<'_>, found: &Collector) -> Option<Node> {
    let text = read_text(path, found)?;
    let source = Source::new(path, &text);
    if let Ok(mut node) = parse(&source, &text) {
        source.hide(secrets_of(&node));
        resolve(&mut node, env, found);
        return Some(node);
    }
    // What is no tree is looked through as a text, and drawn only then.
    source.hide(secrets_of_text(&source));
    if let Err(error) = parse(&source, &text) {
        found.push(*error);
    }
    None
}

/// `None` after a report.
fn read_text(path: &Path, found: &Collector) -> Option<String> {
    let refuse = |reason: String| {
        found.push(Diagnostic::unreadable(path, reason));
        None
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound && path.is_symlink() => {
            return refuse("this link leads to a file that does not exist".to_owned());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return refuse("this file does not exist".to_owned()),
        Err(error) => return refuse(format!("cannot read this file: {error}")),
    };
    if bytes.len() > MAX_FILE {
        return refuse("this file is larger than 16 MiB".to_owned());
    }
    let text = String::from_utf8(bytes);
    text.map_err(|error| found.push(not_utf8(path, error.as_bytes(), error.utf8_error().valid_up_to()))).ok()
}

/// Points at the first byte that is none of a text.
fn not_utf8(path: &Path, bytes: &[u8], at: usize) -> Diagnostic {
    let before = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let start = Position { line: before.matches('\n').count() + 1, column };
    let source = Source::new(path, &String::from_utf8_lossy(bytes));
    source.hide(secrets_of_text(&source));
    let spot = Spot::new(&source, Span { start, end: Position { column: column + 1, ..start } });
    Diagnostic::error(&spot, "this file is not UTF-8 text").label("here")
}
