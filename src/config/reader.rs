//! Reading a map key by key: what is missing, unknown or of another type is collected, and reading goes on.

use super::diagnostic::{Collector, Diagnostic};
use super::mask::named;
use super::node::{Entry, Node, Scalar, Value};
use super::source::Spot;

/// Keys that have one place, and which.
const HOMES: [(&[&str], &str); 6] = [
    (&["routes", "services"], "into a file of the folder of the routes"),
    (&["idps"], "into idps.yaml"),
    (
        &["legacy_services", "legacy_service_timeouts", "circuit_breaker", "response_cache", "request_limits"],
        "into legacy_services.yaml",
    ),
    (
        &[
            "server",
            "auth",
            "session",
            "token_refresh_threshold",
            "service_audiences",
            "service_scopes",
            "cors",
            "csrf",
        ],
        "to the left margin of settings.yaml",
    ),
    (&["listen", "admin_listen", "public_url", "trusted_proxies", "shutdown_grace"], "under `server` in settings.yaml"),
    (&["store", "cookie_name", "same_site", "lifetime_seconds"], "under `session` in settings.yaml"),
];

/// A value together with the place it was written at.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) spot: Spot,
}

/// One map being read. Every key asked for is an allowed one.
pub(super) struct MapReader<'a> {
    entries: &'a [Entry],
    /// Where missing keys are reported.
    pub(super) spot: Spot,
    allowed: Vec<&'static str>,
    found: &'a Collector,
}

impl<'a> MapReader<'a> {
    /// `None`, reported, if `node` is not a map. Nothing at all reads as an empty map.
    pub(super) fn new(node: &'a Node, found: &'a Collector) -> Option<Self> {
        let entries = entries(node, found)?;
        Some(Self { entries, spot: node.spot.clone(), allowed: Vec::new(), found })
    }

    /// The value of `key`; `None` if it is absent or (then reported) wrong.
    pub(super) fn field<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node, &Collector) -> Option<T>,
    ) -> Option<T> {
        let node = self.node(key)?;
        read(node, self.found)
    }

    /// As [`Self::field`], with its place.
    pub(super) fn located<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node, &Collector) -> Option<T>,
    ) -> Option<Located<T>> {
        let node = self.node(key)?;
        read(node, self.found).map(|value| Located { value, spot: node.spot.clone() })
    }

    /// As [`Self::located`]; its absence is an error.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node, &Collector) -> Option<T>,
    ) -> Option<Located<T>> {
        if self.node(key).is_none() {
            self.found
                .push(Diagnostic::error(&self.spot, format!("the key `{key}` is missing")).label("in this entry"));
        }
        self.located(key, read)
    }

    /// The node of `key`, unless it is absent or empty.
    pub(super) fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.allowed.contains(&key) {
            self.allowed.push(key);
        }
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (!matches!(entry.node.value, Value::Null)).then_some(&entry.node)
    }

    /// Where `key` itself stands.
    pub(super) fn key_spot(&self, key: &str) -> Option<&'a Spot> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.key_spot)
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !self.allowed.contains(&entry.key.as_str())) {
            let error = Diagnostic::error(&entry.key_spot, format!("unknown key {}", named(&entry.key)));
            let at_home = HOMES.iter().find(|(keys, _)| keys.contains(&entry.key.as_str()));
            let label = match at_home {
                Some((_, home)) => format!("it belongs {home}"),
                None => suggest(&entry.key, self.allowed.iter().copied()),
            };
            self.found.push(error.label(label).note(format!("allowed here: {}", self.allowed.join(", "))));
        }
    }
}

/// The entries of a map; `None`, reported, if `node` is something else.
pub(super) fn entries<'a>(node: &'a Node, found: &Collector) -> Option<&'a [Entry]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        Value::Null => Some(&[]),
        _ => refuse_kind(node, "a map (`key: value` lines)", found),
    }
}

/// The items of a list.
pub(super) fn items<'a>(node: &'a Node, found: &Collector) -> Option<&'a [Node]> {
    match &node.value {
        Value::List(items) => Some(items),
        Value::Null => Some(&[]),
        _ => refuse_kind(node, "a list (`- …` lines)", found),
    }
}

/// Each item of a list, or the one value that stands in its place; `None` if one of them is wrong.
pub(super) fn one_or_many<T>(
    node: &Node,
    found: &Collector,
    read: impl Fn(&Node, &Collector) -> Option<T>,
) -> Option<Vec<T>> {
    match &node.value {
        Value::List(items) => {
            // All are read before any failure counts, so that all are reported.
            let read: Vec<Option<T>> = items.iter().map(|item| read(item, found)).collect();
            read.into_iter().collect()
        }
        _ => read(node, found).map(|one| vec![one]),
    }
}

/// A map of names to values of one type; wrong values are left out.
pub(super) fn table<T>(
    node: &Node,
    found: &Collector,
    read: impl Fn(&Node, &Collector) -> Option<T>,
) -> Option<Vec<(Located<String>, T)>> {
    let named = entries(node, found)?.iter().filter_map(|entry| {
        let name = Located { value: entry.key.clone(), spot: entry.key_spot.clone() };
        read(&entry.node, found).map(|value| (name, value))
    });
    Some(named.collect())
}

/// The scalar in `node`; anything else is reported with what was `expected`.
pub(super) fn scalar<'a>(node: &'a Node, expected: &str, found: &Collector) -> Option<&'a Scalar> {
    match &node.value {
        Value::Scalar(scalar) => Some(scalar),
        _ => refuse_kind(node, expected, found),
    }
}

/// Says what was expected and what is there.
pub(super) fn refuse_kind<T>(node: &Node, expected: &str, found: &Collector) -> Option<T> {
    if !matches!(node.value, Value::Broken) {
        found.push(Diagnostic::error(&node.spot, format!("expected {expected}, found {}", node.kind())));
    }
    None
}

/// Reports `message` at `node`.
pub(super) fn refuse<T>(
    node: &Node,
    found: &Collector,
    message: impl Into<String>,
    label: impl Into<String>,
) -> Option<T> {
    found.push(Diagnostic::error(&node.spot, message).label(label));
    None
}

/// ``did you mean `x`?`` for the nearest of `known`, or nothing.
pub(super) fn suggest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    let word = word.to_lowercase();
    let near = |name: &str| {
        let name = name.to_lowercase();
        // Jaro-Winkler finds long words with a slip; two letters swapped in a short one need the other measure.
        let swapped = strsim::damerau_levenshtein(&word, &name) <= 1;
        if swapped { 1.0 } else { strsim::jaro_winkler(&word, &name) }
    };
    let best = known.map(|name| (near(name), name)).max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(score, _)| *score > 0.8).map(|(_, name)| format!("did you mean `{name}`?")).unwrap_or_default()
}
