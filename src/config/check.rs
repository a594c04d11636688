//! Checks that need more than one file: names that point nowhere, names given twice, routes that hide one another.

use std::collections::{BTreeMap, HashMap};

use super::diagnostic::{Collector, Diagnostic};
use super::model::{AuthMode, ClientAuthMethod, IdpConfig, LegacyConfig, TokenMode};
use super::read::{WrittenIdp, WrittenRoute, WrittenService, WrittenSettings};
use super::reader::{Located, suggest};
use super::source::Spot;

/// Paths that the program answers itself; a route would never be reached, or take our place.
const OWN_PATHS: [&str; 12] = [
    "/auth/login",
    "/auth/callback",
    "/auth/session",
    "/auth/logout",
    "/auth/backchannel-logout",
    "/auth/verify",
    "/auth/forward",
    "/auth/health",
    "/api/auth/session",
    "/health",
    "/api/v1/proxy",
    "/health/",
];
const OWN_PREFIXES: [&str; 2] = ["/health/", "/api/v1/proxy/"];

/// `a, b, c`, or a word for none.
fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none is defined".to_owned() } else { names.join(", ") }
}

/// `name` is none of `known`.
fn points_nowhere(spot: &Spot, message: String, known: &[&str], found: &Collector) {
    let name = message.split('`').nth(1).unwrap_or_default().to_owned();
    let error = Diagnostic::error(spot, message).label(suggest(&name, known.iter().copied()));
    found.push(error.note(format!("defined: {}", listed(known.iter().copied()))));
}

/// Service names are unique over all files.
pub(super) fn check_services(services: &[WrittenService], found: &Collector) {
    let mut first: HashMap<&str, &Spot> = HashMap::new();
    for Located { value: name, spot } in services.iter().map(|service| &service.name) {
        match first.get(name.as_str()) {
            None => drop(first.insert(name, spot)),
            Some(earlier) => {
                let error = Diagnostic::error(spot, format!("the service `{name}` is defined twice"));
                found.push(error.note(format!("first defined at {}", earlier.place())));
            }
        }
    }
}

/// Route ids are unique, targets exist, and every route can be reached.
pub(super) fn check_routes(routes: &[WrittenRoute], services: &[&str], found: &Collector) {
    let mut ids: HashMap<&str, &Spot> = HashMap::new();
    let mut shapes: HashMap<&str, Vec<&WrittenRoute>> = HashMap::new();
    for route in routes {
        let config = &route.config;
        match ids.get(config.id.as_str()) {
            None => drop(ids.insert(&config.id, &route.id)),
            Some(earlier) => {
                let error = Diagnostic::error(&route.id, format!("the route id `{}` is used twice", config.id));
                found.push(error.note(format!("first used at {}", earlier.place())));
            }
        }
        if !services.contains(&config.target_service.as_str()) {
            points_nowhere(&route.target, format!("no service is named `{}`", config.target_service), services, found);
        }
        let same = shapes.entry(&route.pattern.shape).or_default();
        if let Some(earlier) = same.iter().find(|earlier| overlap(earlier, route)) {
            let message = format!("the routes `{}` and `{}` can never be told apart", earlier.config.id, config.id);
            let error = Diagnostic::error(&route.path, message).label("the same paths and methods");
            found.push(error.note(format!("the other one is written at {}", earlier.path.place())));
        }
        same.push(route);
        check_own_paths(route, found);
    }
}

/// Two routes of one shape that would both answer some method.
fn overlap(one: &WrittenRoute, other: &WrittenRoute) -> bool {
    let (one, other) = (&one.config.methods, &other.config.methods);
    one.is_empty() || other.is_empty() || one.iter().any(|method| other.contains(method))
}

fn check_own_paths(route: &WrittenRoute, found: &Collector) {
    let path = route.pattern.written.as_str();
    if OWN_PATHS.contains(&path) || OWN_PREFIXES.iter().any(|prefix| path.starts_with(prefix)) {
        let error = Diagnostic::error(&route.path, format!("the path `{path}` is answered by this program itself"));
        found.push(
            error
                .label("choose another")
                .note("taken: /auth/login and its kin, /api/auth/session, /health, /health/…, /api/v1/proxy/…"),
        );
    }
}

/// `auth` and `token_policy` of every route can be fulfilled.
pub(super) fn check_authentication(
    routes: &[WrittenRoute],
    settings: &WrittenSettings,
    idps: &[WrittenIdp],
    login: Option<&IdpConfig>,
    found: &Collector,
) {
    for route in routes {
        check_bearer(route, idps, found);
        let config = &route.config;
        let policy = config.token_policy.as_ref();
        let mapped = settings.service_audiences.iter().any(|(name, _)| name.value == config.target_service);
        let spot = route.policy.as_ref().unwrap_or(&route.target);
        match policy.map(|policy| policy.mode) {
            Some(TokenMode::SessionPassthrough | TokenMode::OnBehalfOf) if config.auth != AuthMode::Session => {
                let error =
                    Diagnostic::error(spot, "this token policy needs a session, which this route does not ask for");
                found.push(error.label("allowed with `auth: session` only"));
            }
            Some(TokenMode::ServiceToken)
                if login.is_some_and(|idp| idp.token_auth_method == ClientAuthMethod::None) =>
            {
                let name = login.map(|idp| idp.name.clone()).unwrap_or_default();
                let error = Diagnostic::error(
                    spot,
                    format!("`service_token` needs a client secret or key, and `{name}` has none"),
                );
                found.push(error.note(
                    "a public client (`token_auth_method: none`) gets no client_credentials token (RFC 6749 §4.4)",
                ));
            }
            Some(TokenMode::SessionPassthrough | TokenMode::None) => {}
            None if config.auth != AuthMode::Session => {}
            Some(_) if policy.is_some_and(|policy| policy.audience.is_some()) => {}
            _ if mapped => {}
            _ => {
                let message = format!(
                    "no audience is mapped for `{}`: requests will get 401 no_token_available",
                    config.target_service
                );
                let label = format!("add `{}` to service_audiences in settings.yaml", config.target_service);
                found.push(
                    Diagnostic::warning(spot, message).label(label).note("or say `token_policy: { mode: none }`"),
                );
            }
        }
    }
}

fn check_bearer(route: &WrittenRoute, idps: &[WrittenIdp], found: &Collector) {
    let fits = |idp: &WrittenIdp| idp.config.audience.is_some();
    if route.config.auth == AuthMode::Bearer && !idps.is_empty() && !idps.iter().any(fits) {
        let error = Diagnostic::error(
            &route.auth,
            "`auth: bearer` can accept no token: no entry of idps.yaml has an `audience`",
        );
        found.push(error.label("the audience tells tokens for us from tokens for others"));
    }
}

/// The entry that users log in with. Not named, it is the only one.
pub(super) fn find_login<'i>(
    settings: &WrittenSettings,
    idps: &'i [WrittenIdp],
    found: &Collector,
) -> Option<&'i IdpConfig> {
    let names: Vec<&str> = idps.iter().map(|idp| idp.config.name.as_str()).collect();
    match (&settings.idp, idps) {
        (Some(written), _) => {
            let login = idps.iter().find(|idp| idp.config.name == written.value);
            if login.is_none() {
                points_nowhere(
                    &written.spot,
                    format!("no identity provider is named `{}`", written.value),
                    &names,
                    found,
                );
            }
            login.map(|idp| &idp.config)
        }
        (None, [only]) => Some(&only.config),
        (None, _) => {
            let error = Diagnostic::error(&settings.auth_spot, "the key `auth.idp` is missing");
            found.push(
                error
                    .label("which entry do users log in with?")
                    .note(format!("defined: {}", listed(names.into_iter()))),
            );
            None
        }
    }
}

/// `service_audiences` and `service_scopes` name services that exist.
pub(super) fn check_mappings(settings: &WrittenSettings, services: &[&str], legacy: &LegacyConfig, found: &Collector) {
    let audiences = settings.service_audiences.iter().map(|(name, _)| ("service_audiences", name));
    let scopes = settings.service_scopes.iter().map(|(name, _)| ("service_scopes", name));
    for (key, name) in audiences.chain(scopes).filter(|(_, name)| !services.contains(&name.value.as_str())) {
        if legacy.services.contains_key(&name.value) {
            let message = format!("`{}` is a legacy service: `{key}` has no effect on it", name.value);
            found.push(
                Diagnostic::error(&name.spot, message).label("legacy services get the login token or the caller's own"),
            );
        } else {
            points_nowhere(&name.spot, format!("no service is named `{}`", name.value), services, found);
        }
    }
}

/// Services that could be read, by name; the first of equal names.
pub(super) fn unique_services(services: Vec<WrittenService>) -> BTreeMap<String, super::model::ServiceConfig> {
    let mut unique = BTreeMap::new();
    for service in services {
        if let Some(config) = service.config {
            unique.entry(service.name.value).or_insert(config);
        }
    }
    unique
}
