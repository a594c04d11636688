//! `token_policy:` of a route.

use std::time::Duration;

use crate::config::diagnostic::{Collector, Diagnostic};
use crate::config::node::Node;
use crate::config::reader::MapReader;
use crate::config::scalar::{positive_duration, scopes, text, word};
use crate::config::source::Spot;
use crate::config::{TokenMode, TokenPolicyConfig};

const MODES: &[(&str, TokenMode)] = &[
    ("session_passthrough", TokenMode::SessionPassthrough),
    ("service_token", TokenMode::ServiceToken),
    ("on_behalf_of", TokenMode::OnBehalfOf),
    ("none", TokenMode::None),
];

pub(super) fn read_policy(node: &Node, found: &Collector) -> Option<TokenPolicyConfig> {
    let mut map = MapReader::new(node, found)?;
    let mode_written = map.node("mode").is_some();
    let mode = map.located("mode", word(MODES));
    let audience = map.located("audience", text);
    let scopes = map.located("scopes", scopes);
    // Counted in whole seconds.
    let at_least_one =
        |node: &Node, found: &Collector| positive_duration(node, found).map(|ttl| ttl.max(Duration::from_secs(1)));
    let cache_ttl = map.located("cache_ttl", at_least_one);
    map.finish();
    if mode_written && mode.is_none() {
        // As if there were none, it would be blamed for what it does not say.
        return None;
    }
    let mode = mode.map(|written| written.value);
    let unused = |key: &str, spot: Option<&Spot>, why: &str| {
        if let Some(spot) = spot {
            found.push(Diagnostic::warning(spot, format!("`{key}` has no effect: {why}")));
        }
    };
    let ttl = cache_ttl.as_ref().map(|written| &written.spot);
    match mode {
        Some(TokenMode::SessionPassthrough | TokenMode::None) => {
            let why = "no token is fetched in this mode";
            unused("audience", audience.as_ref().map(|written| &written.spot), why);
            unused("scopes", scopes.as_ref().map(|written| &written.spot), why);
            unused("cache_ttl", ttl, why);
        }
        None => unused("cache_ttl", ttl, "the session's own token is kept with the session"),
        Some(TokenMode::ServiceToken | TokenMode::OnBehalfOf) => {}
    }
    Some(TokenPolicyConfig {
        mode,
        audience: audience.map(|written| written.value),
        scopes: scopes.map(|written| written.value),
        cache_ttl: cache_ttl.map(|written| written.value),
    })
}
