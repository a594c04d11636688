//! `session:` of `settings.yaml`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::store::{read_redis, store};
use crate::config::diagnostic::{Collector, Diagnostic};
use crate::config::node::{Node, Value};
use crate::config::reader::{Located, MapReader, one_or_many, refuse};
use crate::config::scalar::{any_text, is_token, quote, seconds, secret, text, whole, word, zero_or_seconds};
use crate::config::{SameSite, Secret, SessionConfig, StoreConfig};
use crate::crypto::read_key;

const SAME_SITE: &[(&str, SameSite)] = &[("lax", SameSite::Lax), ("strict", SameSite::Strict)];

/// `https`: browsers see us over https, or nobody knows yet. Some cookie names depend on it.
pub(super) fn read_session(node: &Node, https: bool, found: &Collector) -> Option<SessionConfig> {
    let mut map = MapReader::new(node, found)?;
    let default = SessionConfig::default();
    let store = map.located("store", store);
    let redis = map.field("redis", read_redis);
    let secrets = map.field("secret", read_secrets).unwrap_or_default();
    // A wrong one has been reported; it is not a missing one.
    let store_wrong = store.is_none() && map.node("store").is_some();
    let secret_written = !secrets.is_empty() || map.node("secret").is_some_and(|node| !is_empty(node));
    let name = map.located("cookie_name", |node, found| match any_text(node, found)? {
        empty if empty.is_empty() => None,
        _ => cookie_name(node, found),
    });
    let aliases = map.field("cookie_aliases", |node, found| one_or_many(node, found, located_cookie));
    let same_site = map.field("same_site", word(SAME_SITE)).unwrap_or(default.same_site);
    let sliding = map.located("lifetime_seconds", seconds);
    let absolute = map.located("max_lifetime_seconds", seconds);
    let grace = map.field("grace_seconds", zero_or_seconds).unwrap_or(default.grace);
    let max_per_user = map.field("max_per_user", whole(0..=10_000)).and_then(|most| usize::try_from(most).ok());
    let max_flows = map.field("max_flows", whole(0..=10_000_000)).and_then(|most| usize::try_from(most).ok());
    map.finish();

    let aliases = aliases.unwrap_or_default();
    check_names(name.as_ref(), &aliases, https, found);
    let max_lifetime = absolute.map_or(default.max_lifetime, |written| written.value);
    warn_of_sliding(sliding.as_ref(), max_lifetime, found);
    // The shorter of the two ends a session: who writes only a short absolute one need not know the other's default.
    let lifetime = sliding.map_or(default.lifetime, |written| written.value).min(max_lifetime);
    if let Some(written) = &store {
        check_shared(written, secret_written, found);
    }
    let mut store = store.map_or(default.store, |written| written.value);
    if let Some(redis) = redis.filter(|_| !store_wrong) {
        redis.complete(&mut store, found);
    }
    Some(SessionConfig {
        store,
        secrets,
        cookie_name: name.map(|name| name.value).unwrap_or_default(),
        cookie_aliases: aliases.into_iter().map(|alias| alias.value).collect(),
        same_site,
        lifetime,
        max_lifetime,
        grace,
        max_per_user: max_per_user.unwrap_or(default.max_per_user),
        max_flows: max_flows.unwrap_or(default.max_flows),
    })
}

fn warn_of_sliding(sliding: Option<&Located<Duration>>, max_lifetime: Duration, found: &Collector) {
    if let Some(written) = sliding.filter(|written| written.value > max_lifetime) {
        let message = "`lifetime_seconds` is longer than `max_lifetime_seconds`, which ends sessions first";
        let label = format!("sliding {} s, absolute {} s", written.value.as_secs_f64(), max_lifetime.as_secs_f64());
        found.push(Diagnostic::warning(&written.spot, message).label(label));
    }
}

/// Replicas that seal with secrets of their own could not read each other's sessions.
fn check_shared(store: &Located<StoreConfig>, secret_written: bool, found: &Collector) {
    if matches!(store.value, StoreConfig::Redis(_)) && !secret_written {
        let error = Diagnostic::error(&store.spot, "a shared session store needs `session.secret`");
        let error = error.label("every replica must seal with the same secret");
        found.push(error.note("make one with: openssl rand -base64 32"));
    }
}

fn read_secrets(node: &Node, found: &Collector) -> Option<Vec<Secret>> {
    if let Value::List(items) = &node.value {
        for item in items.iter().filter(|item| is_empty(item)) {
            found.push(Diagnostic::error(&item.spot, "a key of the ring is empty"));
        }
    }
    one_or_many(node, found, session_key)
}

/// Nothing stands there, or `""`.
pub(super) fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Scalar(scalar) => scalar.text.is_empty(),
        _ => false,
    }
}

/// Written anew, so that one key has one spelling.
fn session_key(node: &Node, found: &Collector) -> Option<Secret> {
    let written = secret(node, found)?;
    let message = match read_key(written.expose()) {
        Ok(key) => return Some(Secret::new(STANDARD.encode(key.as_slice()))),
        Err(Some(length)) => format!("a session secret is 32 bytes in base64; this one decodes to {length}"),
        Err(None) => "a session secret is 32 bytes in base64; this is not base64".to_owned(),
    };
    found.push(Diagnostic::error(&node.spot, message).note("make one with: openssl rand -base64 32"));
    None
}

/// A token of RFC 9110 §5.6.2, as RFC 6265 §4.1.1 asks.
fn cookie_name(node: &Node, found: &Collector) -> Option<String> {
    let name = text(node, found)?;
    if is_token(name.as_bytes()) {
        return Some(name);
    }
    refuse(
        node,
        found,
        format!("{} is not a cookie name", quote(&node.spot, &name)),
        "letters, digits and !#$%&'*+-.^_`|~ only",
    )
}

fn located_cookie(node: &Node, found: &Collector) -> Option<Located<String>> {
    cookie_name(node, found).map(|value| Located { value, spot: node.spot.clone() })
}

fn check_names(name: Option<&Located<String>>, aliases: &[Located<String>], https: bool, found: &Collector) {
    let prefixed = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with("__host-") || name.starts_with("__secure-")
    };
    if let Some(name) = name.filter(|name| prefixed(&name.value) && !https) {
        let message = format!("the cookie name `{}` needs an https `public_url`", name.value);
        found.push(
            Diagnostic::error(&name.spot, message)
                .label("browsers drop `__Host-` and `__Secure-` cookies set over http"),
        );
    }
    for (index, alias) in aliases.iter().enumerate() {
        let again = aliases.iter().take(index).any(|earlier| earlier.value == alias.value);
        if again || name.is_some_and(|name| name.value == alias.value) {
            found.push(Diagnostic::error(&alias.spot, format!("the cookie `{}` is named twice", alias.value)));
        }
    }
}
