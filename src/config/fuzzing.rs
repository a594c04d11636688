//! Configuration files for `tests/fuzz`: whatever is written, there is an answer, and it can be drawn.

use std::path::Path;

use super::diagnostic::Collector;
use super::model::{RouteConfig, SessionConfig};
use super::node::Node;
use super::read::{read_idps, read_legacy, read_route_file, read_settings};
use super::source::Source;
use super::variable::resolve;
use super::yaml::parse;

fn node(text: &str, found: &Collector) -> Option<Node> {
    let source = Source::new(Path::new("fuzzed.yaml"), text);
    match parse(&source, text) {
        Ok(mut node) => {
            resolve(&mut node, &|name| (name == "SET").then(|| "value: [1]".to_owned()), found);
            Some(node)
        }
        Err(error) => {
            found.push(*error);
            None
        }
    }
}

/// Read as each of the four files; every finding is drawn.
pub fn files(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A secret's `file:` would be looked for on the disk.
    if text.contains("file:") {
        return;
    }
    let found = Collector::default();
    if let Some(node) = node(text, &found) {
        let _ = read_settings(&node, &found);
        let _ = read_idps(&node, &found);
        let _ = read_legacy(&node, &|_name| None, &found);
        let _ = read_route_file(&node, &found);
    }
    let _ = found.into_findings().to_string();
}

/// The routes of a file that is known to be good.
pub(crate) fn routes(text: &str) -> Vec<RouteConfig> {
    let found = Collector::default();
    let file = node(text, &found).and_then(|node| read_route_file(&node, &found));
    let routes: Vec<_> = file.into_iter().flat_map(|file| file.routes).map(|route| route.config).collect();
    assert!(!routes.is_empty(), "{}", found.into_findings());
    routes
}

/// `session:` of settings that are known to be good.
pub(crate) fn session(text: &str) -> Option<SessionConfig> {
    let found = Collector::default();
    node(text, &found).and_then(|node| read_settings(&node, &found)).and_then(|settings| settings.session)
}
