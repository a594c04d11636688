//! One file of `routes/`.

use http::Method;

use super::policy::read_policy;
use super::rate_limit::{check_key, read_rate_limit};
use super::services::{WrittenService, read_services};
use crate::config::diagnostic::{Collector, Diagnostic};
use crate::config::node::Node;
use crate::config::pattern::{read_pattern, read_template};
use crate::config::reader::{Located, MapReader, items, one_or_many, refuse, suggest};
use crate::config::scalar::{boolean, quote, size, text, word};
use crate::config::source::Spot;
use crate::config::{AuthMode, RouteConfig};
use crate::path::Pattern;

const AUTH_MODES: &[(&str, AuthMode)] =
    &[("session", AuthMode::Session), ("bearer", AuthMode::Bearer), ("none", AuthMode::None)];
/// `CONNECT` asks for a tunnel (RFC 9110 §9.3.6), which is not for a route to give.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

/// What one file says.
#[derive(Default)]
pub(in crate::config) struct RouteFile {
    pub(in crate::config) services: Vec<WrittenService>,
    pub(in crate::config) routes: Vec<WrittenRoute>,
    /// The `id` of every route, also of those that could not be read.
    pub(in crate::config) ids: Vec<Located<String>>,
    /// The `target_service` of every route, also of those that could not be read.
    pub(in crate::config) targets: Vec<Located<String>>,
    /// `services` could not be read: names must not seem to be missing.
    pub(in crate::config) services_unknown: bool,
}

impl RouteFile {
    /// Adds everything of `other` behind what is here.
    pub(in crate::config) fn take(&mut self, other: Self) {
        self.services.extend(other.services);
        self.routes.extend(other.routes);
        self.ids.extend(other.ids);
        self.targets.extend(other.targets);
        self.services_unknown |= other.services_unknown;
    }
}

/// A route and the places that later checks point at.
pub(in crate::config) struct WrittenRoute {
    pub(in crate::config) config: RouteConfig,
    pub(in crate::config) pattern: Pattern,
    pub(in crate::config) path: Spot,
    pub(in crate::config) target: Spot,
    pub(in crate::config) auth: Spot,
    pub(in crate::config) policy: Option<Spot>,
    /// Methods, `auth` and policy are what was written, not defaults in the place of what is wrong.
    pub(in crate::config) sound: bool,
}

/// Everything of the file that could be read.
pub(in crate::config) fn read_route_file(node: &Node, found: &Collector) -> Option<RouteFile> {
    let mut map = MapReader::new(node, found)?;
    let services = map.field("services", read_services);
    let services_unknown = services.is_none() && map.node("services").is_some();
    let services = services.unwrap_or_default();
    let mut file = RouteFile { services, services_unknown, ..RouteFile::default() };
    map.field("routes", |node, found| {
        for item in items(node, found)? {
            let route = read_route(item, &mut file, found);
            file.routes.extend(route);
        }
        Some(())
    });
    map.finish();
    Some(file)
}

fn read_route(node: &Node, file: &mut RouteFile, found: &Collector) -> Option<WrittenRoute> {
    let mut map = MapReader::new(node, found)?;
    let id = map.required("id", route_id);
    let path = map.required("path", read_pattern);
    let target = map.required("target_service", text);
    file.ids.extend(id.clone());
    file.targets.extend(target.clone());
    let pattern = path.as_ref().map(|path| &path.value);
    let upstream = map.located("upstream_path", |node, found| read_template(node, pattern, found));
    let preserve = map.field("preserve_path", boolean).unwrap_or(false);
    let methods = map.field("methods", read_methods);
    let auth = map.located("auth", word(AUTH_MODES));
    let streaming = map.field("streaming", boolean).unwrap_or(false);
    let websocket = map.located("websocket", boolean);
    let max_body_size = map.field("max_body_size", size);
    let policy = map.located("token_policy", read_policy);
    let rate_limit = map.located("rate_limit", read_rate_limit);
    let sound = [("methods", methods.is_some()), ("auth", auth.is_some()), ("token_policy", policy.is_some())]
        .into_iter()
        .all(|(key, read)| read || map.key_spot(key).is_none());
    let spot = map.spot.clone();
    map.finish();
    if let Some(upstream) = upstream.as_ref().filter(|_| preserve) {
        let error =
            Diagnostic::error(&upstream.spot, "`upstream_path` and `preserve_path: true` contradict each other");
        found.push(error.label("keep one of the two"));
    }
    if let Some(limit) = &rate_limit {
        check_key(limit, auth.as_ref().map_or(AuthMode::Session, |auth| auth.value), found);
    }
    if let (Some(websocket), Some(methods)) = (&websocket, &methods) {
        check_handshake(websocket, methods, found);
    }
    let (id, path, target) = (id?, path?, target?);
    let config = RouteConfig {
        id: id.value,
        path: path.value.as_str().to_owned(),
        target_service: target.value,
        upstream_path: upstream.map(|upstream| upstream.value),
        preserve_path: preserve,
        methods: methods.unwrap_or_default(),
        auth: auth.as_ref().map_or(AuthMode::Session, |auth| auth.value),
        streaming,
        websocket: websocket.is_some_and(|websocket| websocket.value),
        max_body_size,
        token_policy: policy.as_ref().map(|policy| policy.value.clone()),
        rate_limit: rate_limit.map(|limit| limit.value),
        written_at: spot.place(),
    };
    let auth = auth.map_or(spot, |auth| auth.spot);
    let policy = policy.map(|policy| policy.spot);
    Some(WrittenRoute { config, pattern: path.value, path: path.spot, target: target.spot, auth, policy, sound })
}

/// A handshake is a `GET` (RFC 6455 §4.1).
fn check_handshake(websocket: &Located<bool>, methods: &[Method], found: &Collector) {
    if websocket.value && !methods.contains(&Method::GET) {
        let warning = Diagnostic::warning(&websocket.spot, "no WebSocket can reach this route: `methods` has no GET");
        found.push(warning.label("a handshake is a GET"));
    }
}

/// A label of the metrics and a word in logs: short and plain.
fn route_id(node: &Node, found: &Collector) -> Option<String> {
    let id = text(node, found)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/".contains(&byte);
    if id.len() <= 128 && id.bytes().all(plain) {
        return Some(id);
    }
    refuse(
        node,
        found,
        format!("{} is not a route id", quote(&node.spot, &id)),
        "at most 128 letters, digits and `._-:/`",
    )
}

fn read_methods(node: &Node, found: &Collector) -> Option<Vec<Method>> {
    let listed = one_or_many(node, found, method)?;
    if listed.is_empty() {
        return refuse(
            node,
            found,
            "`methods` is empty: nothing would reach this route",
            "leave it out to allow every method",
        );
    }
    let mut methods = Vec::new();
    for method in listed {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    Some(methods)
}

fn method(node: &Node, found: &Collector) -> Option<Method> {
    let name = text(node, found)?;
    if let Some(known) = METHODS.iter().find(|known| **known == name) {
        return Method::from_bytes(known.as_bytes()).ok();
    }
    let error = Diagnostic::error(&node.spot, format!("{} is not an HTTP method", quote(&node.spot, &name)));
    let several: Vec<&str> = name.split([',', ' ']).filter(|one| !one.is_empty()).collect();
    let label = if several.len() > 1 && several.iter().all(|one| METHODS.contains(one)) {
        format!("write a list: `[{}]`", several.join(", "))
    } else {
        suggest(&name, METHODS.into_iter())
    };
    found.push(error.label(label).note(format!("allowed here: {}", METHODS.join(", "))));
    None
}
