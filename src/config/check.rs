//! Checks that need more than one file: names that point nowhere, names given twice, routes that hide one another.

use std::collections::{BTreeMap, HashMap, HashSet};

use http::Method;

use super::diagnostic::{Collector, Diagnostic};
use super::model::{AuthMode, ClientAuthMethod, IdpConfig, LegacyConfig, TokenMode};
use super::read::{WrittenIdps, WrittenRoute, WrittenService, WrittenSettings};
use super::reader::{Located, suggest};
use super::scalar::quote;
use super::source::Spot;

/// Paths that the program answers itself; a route would never be reached, or take our place.
const OWN_PATHS: [&str; 11] = [
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
];
const OWN_PREFIXES: [&str; 2] = ["/health/", "/api/v1/proxy/"];

/// `a, b, c`, or a word for none.
fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none is defined".to_owned() } else { names.join(", ") }
}

/// The `kind` called `name` is none of the `known` ones.
fn points_nowhere(spot: &Spot, kind: &str, name: &str, known: &[&str], found: &Collector) {
    let mut once: Vec<&str> = Vec::new();
    for name in known.iter().filter(|name| !name.is_empty()) {
        if !once.contains(name) {
            once.push(name);
        }
    }
    let known = once;
    let error = Diagnostic::error(spot, format!("no {kind} is named {}", quote(spot, name)));
    let error = error.label(suggest(name, known.iter().copied()));
    found.push(error.note(format!("defined: {}", listed(known.iter().copied()))));
}

/// Names of one `kind` are unique over all files. `said`: that they are `defined`, or `used`.
pub(super) fn check_unique<'n>(
    names: impl IntoIterator<Item = &'n Located<String>>,
    kind: &str,
    said: &str,
    found: &Collector,
) {
    let mut first: HashMap<&str, &Spot> = HashMap::new();
    for Located { value: name, spot } in names {
        match first.get(name.as_str()) {
            None => drop(first.insert(name, spot)),
            Some(earlier) => {
                let error = Diagnostic::error(spot, format!("the {kind} `{name}` is {said} twice"));
                found.push(error.note(format!("first {said} at {}", earlier.place())));
            }
        }
    }
}

/// Every `target_service` exists.
pub(super) fn check_targets(targets: &[Located<String>], services: &[&str], found: &Collector) {
    for target in targets.iter().filter(|target| !services.contains(&target.value.as_str())) {
        points_nowhere(&target.spot, "service", &target.value, services, found);
    }
}

/// Every route can be reached.
pub(super) fn check_routes(routes: &[WrittenRoute], found: &Collector) {
    let mut shapes: HashMap<_, Vec<&WrittenRoute>> = HashMap::new();
    for route in routes {
        let same = shapes.entry(route.pattern.shape()).or_default();
        if let Some(earlier) = same.iter().find(|earlier| overlap(earlier, route)) {
            let message =
                format!("the routes `{}` and `{}` can never be told apart", earlier.config.id, route.config.id);
            let error = Diagnostic::error(&route.path, message).label(shared(earlier, route));
            found.push(error.note(format!("the other one is written at {}", earlier.path.place())));
        }
        if route.sound {
            same.push(route);
        }
        check_own_paths(route, found);
    }
}

/// Two routes of one shape that would both answer some method.
fn overlap(one: &WrittenRoute, other: &WrittenRoute) -> bool {
    let sound = one.sound && other.sound;
    let (one, other) = (&one.config.methods, &other.config.methods);
    sound && (one.is_empty() || other.is_empty() || one.iter().any(|method| other.contains(method)))
}

/// What both of them answer.
fn shared(one: &WrittenRoute, other: &WrittenRoute) -> String {
    let (one, other) = (&one.config.methods, &other.config.methods);
    let both: Vec<&str> = match (one.as_slice(), other.as_slice()) {
        ([], some) | (some, []) => some.iter().map(Method::as_str).collect(),
        (one, other) => one.iter().filter(|method| other.contains(method)).map(Method::as_str).collect(),
    };
    if both.is_empty() || one == other {
        return "the same paths and methods".to_owned();
    }
    format!("the same paths, and both take {}", both.join(", "))
}

/// Whether a path, or what a pattern begins with, is the program's own.
pub(crate) fn is_own(path: &str) -> bool {
    OWN_PATHS.contains(&path) || OWN_PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

fn check_own_paths(route: &WrittenRoute, found: &Collector) {
    // However it is escaped.
    if is_own(route.pattern.literal_prefix()) {
        let written = route.pattern.as_str();
        let error = Diagnostic::error(&route.path, format!("the path `{written}` is answered by this program itself"));
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
    idps: &WrittenIdps,
    login: Option<&IdpConfig>,
    found: &Collector,
) {
    let public_client = login.filter(|idp| idp.token_auth_method == ClientAuthMethod::None);
    for route in routes.iter().filter(|route| route.sound) {
        check_bearer(route, idps, found);
        let spot = route.policy.as_ref().unwrap_or(&route.target);
        match route.config.token_policy.as_ref().and_then(|policy| policy.mode) {
            Some(TokenMode::SessionPassthrough | TokenMode::OnBehalfOf) if route.config.auth != AuthMode::Session => {
                let message = "this token policy needs a session, which this route does not ask for";
                found.push(Diagnostic::error(spot, message).label("allowed with `auth: session` only"));
            }
            None if route.config.token_policy.is_some() && route.config.auth != AuthMode::Session => {
                let message =
                    "a token policy without `mode` is about a session's own token, and this route asks for none";
                found.push(Diagnostic::error(spot, message).label("write its `mode`, or `auth: session`"));
            }
            Some(TokenMode::ServiceToken) => {
                if let Some(idp) = public_client {
                    let message = format!("`service_token` needs a client secret or key, and `{}` has none", idp.name);
                    let note = "a public client (`token_auth_method: none`) gets no client_credentials token";
                    found.push(Diagnostic::error(spot, message).note(format!("{note} (RFC 6749 §4.4)")));
                }
            }
            _ => {}
        }
    }
}

/// Warns once for each service whose routes need a token that nothing is mapped for.
pub(super) fn check_audiences(
    routes: &[WrittenRoute],
    services: &[&str],
    settings: &WrittenSettings,
    found: &Collector,
) {
    let mut told: HashSet<&str> = settings.service_audiences.iter().map(|(name, _)| name.value.as_str()).collect();
    for route in routes.iter().filter(|route| route.sound) {
        let config = &route.config;
        let needed = match &config.token_policy {
            None => config.auth == AuthMode::Session,
            Some(policy) => match policy.mode {
                None => config.auth == AuthMode::Session && policy.audience.is_none(),
                Some(TokenMode::ServiceToken | TokenMode::OnBehalfOf) => policy.audience.is_none(),
                Some(TokenMode::SessionPassthrough | TokenMode::None) => false,
            },
        };
        let service = config.target_service.as_str();
        if needed && services.contains(&service) && told.insert(service) {
            let message = format!("no audience is mapped for `{service}`: requests will get 401 no_token_available");
            let label = format!("add `{service}` to service_audiences in settings.yaml");
            let warning = Diagnostic::warning(route.policy.as_ref().unwrap_or(&route.target), message).label(label);
            found.push(warning.note("or say `token_policy: { mode: none }` where the service wants no token"));
        }
    }
}

fn check_bearer(route: &WrittenRoute, idps: &WrittenIdps, found: &Collector) {
    let fits = idps.entries.iter().any(|idp| idp.config.audience.is_some());
    if route.config.auth == AuthMode::Bearer && idps.complete && !fits {
        let message = "`auth: bearer` can accept no token: no entry of idps.yaml has an `audience`";
        let error = Diagnostic::error(&route.auth, message);
        found.push(error.label("the audience tells tokens for us from tokens for others"));
    }
}

/// The entry that users log in with. Not named, it is the only one.
pub(super) fn find_login<'i>(
    settings: &WrittenSettings,
    idps: &'i WrittenIdps,
    found: &Collector,
) -> Option<&'i IdpConfig> {
    let names: Vec<&str> = idps.entries.iter().map(|idp| idp.config.name.as_str()).collect();
    match (&settings.idp, idps.entries.as_slice()) {
        (Some(written), entries) => {
            let login = entries.iter().find(|idp| idp.config.name == written.value);
            if login.is_none() && idps.complete {
                points_nowhere(&written.spot, "identity provider", &written.value, &names, found);
            }
            login.map(|idp| &idp.config)
        }
        (None, [only]) if idps.complete => Some(&only.config),
        (None, _) if idps.complete => {
            let error = Diagnostic::error(&settings.auth_spot, "the key `auth.idp` is missing");
            let error = error.label("which entry of idps.yaml do users log in with?");
            found.push(error.note(format!("defined: {}", listed(names.into_iter()))));
            None
        }
        (None, _) => None,
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
            points_nowhere(&name.spot, "service", &name.value, services, found);
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
