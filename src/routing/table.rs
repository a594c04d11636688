//! Every route, found by the rule "exact, then longest literal prefix, then file order". One hash
//! look-up for the whole path and one for each of its prefixes that ends at a slash, longest first:
//! the cost follows the path, not the number of routes.
//!
//! Not a radix router: those rank a placeholder above a wildcard segment by segment and know neither
//! file order nor falling through to a less specific route that takes the method.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use super::branch::{Branch, Entries, Entry};
use super::methods::MethodBits;
use super::route::{Route, RouteError, RouteErrors};
use crate::config::RouteConfig;
use crate::path::CanonicalPath;

/// All routes. Immutable; a reload builds another.
#[derive(Debug)]
pub struct RouteTable {
    /// In file order; everything else holds numbers of this.
    routes: Box<[Arc<Route>]>,
    exact: HashMap<Box<str>, Entries>,
    /// By literal prefix, which ends with a slash.
    prefixes: HashMap<Box<str>, Branch>,
    /// Bytes; longer prefixes of a path need no look-up.
    longest_prefix: usize,
    /// Bare `*`.
    everything: Entries,
}

/// What the table knows about a request.
#[derive(Debug)]
pub enum Lookup<'a> {
    /// The most specific route that takes the method.
    Found(&'a Arc<Route>),
    /// Routes match the path, none takes the method; `allow` is sorted, without duplicates.
    MethodNotAllowed {
        /// For the header of that name (RFC 9110 §10.2.1).
        allow: Vec<Method>,
    },
    /// No route matches the path.
    NotFound,
}

/// Routes that match and are equally specific; among them, file order decides.
enum Group<'a> {
    Listed(&'a Entries),
    Below(&'a Branch, &'a str),
}

impl Group<'_> {
    fn each(&self, visit: &mut dyn FnMut(Entry)) {
        match self {
            Self::Listed(routes) => routes.each(visit),
            Self::Below(branch, left) => branch.each(Some(left), visit),
        }
    }
}

impl RouteTable {
    /// Builds the routes, in file order; all that cannot be built are reported together.
    pub fn build(routes: &[RouteConfig]) -> Result<Self, RouteErrors> {
        let (mut built, mut errors) = (Vec::with_capacity(routes.len()), Vec::new());
        for (number, config) in routes.iter().enumerate() {
            match Route::build(number, config) {
                Ok(route) => built.push(Arc::new(route)),
                Err(problem) => {
                    errors.push(RouteError { place: config.written_at.clone(), route: config.id.clone(), problem });
                }
            }
        }
        if errors.is_empty() { Ok(Self::index(built)) } else { Err(RouteErrors(errors)) }
    }

    fn index(routes: Vec<Arc<Route>>) -> Self {
        let (mut exact, mut prefixes) = (HashMap::<Box<str>, Entries>::new(), HashMap::<Box<str>, Branch>::new());
        let (mut everything, mut longest_prefix) = (Entries::None, 0);
        for (number, route) in (0..).zip(&routes) {
            let pattern = route.pattern();
            let literal = pattern.literal_prefix();
            let entry = Entry { number, methods: MethodBits::of(&route.methods) };
            if pattern.is_exact() {
                exact.entry(literal.into()).or_default().push(entry);
            } else if literal.is_empty() {
                everything.push(entry);
            } else {
                longest_prefix = longest_prefix.max(literal.len());
                prefixes.entry(literal.into()).or_default().insert(pattern.tail(), entry);
            }
        }
        Self { routes: routes.into(), exact, prefixes, longest_prefix, everything }
    }

    /// The route that answers `method path`. A more specific route that does not take the method
    /// leaves the request to a less specific one that does.
    pub fn find(&self, method: &Method, path: &CanonicalPath) -> Lookup<'_> {
        let decoded = path.decoded();
        let bit = MethodBits::one(method);
        let mut known = false;
        for group in self.groups(&decoded) {
            let mut first: Option<u32> = None;
            group.each(&mut |entry| {
                known = true;
                if first.is_none_or(|best| entry.number < best) && self.takes(entry, method, bit) {
                    first = Some(entry.number);
                }
            });
            if let Some(route) = first.and_then(|number| self.route(number)) {
                return Lookup::Found(route);
            }
        }
        if known { Lookup::MethodNotAllowed { allow: self.allowed(path) } } else { Lookup::NotFound }
    }

    /// Every route that matches the path, whatever its methods, the most specific first.
    pub fn matching(&self, path: &CanonicalPath) -> Vec<&Arc<Route>> {
        let decoded = path.decoded();
        let mut found = Vec::new();
        for group in self.groups(&decoded) {
            let mut numbers = Vec::new();
            group.each(&mut |entry| numbers.push(entry.number));
            numbers.sort_unstable();
            found.extend(numbers.into_iter().filter_map(|number| self.route(number)));
        }
        found
    }

    /// Every route in order of precedence.
    pub fn in_order(&self) -> Vec<&Arc<Route>> {
        let mut routes: Vec<_> = self.routes.iter().collect();
        // Stable: file order decides last.
        routes.sort_by_key(|route| {
            let pattern = route.pattern();
            if pattern.is_exact() { (false, Reverse(0)) } else { (true, Reverse(pattern.literal_prefix().len())) }
        });
        routes
    }

    fn route(&self, number: u32) -> Option<&Arc<Route>> {
        self.routes.get(usize::try_from(number).ok()?)
    }

    fn takes(&self, entry: Entry, method: &Method, bit: MethodBits) -> bool {
        entry.methods.has(bit)
            && (!bit.is_shared() || self.route(entry.number).is_some_and(|route| route.methods.accepts(method)))
    }

    /// What all routes of the path take together, for `Allow`.
    pub fn allowed(&self, path: &CanonicalPath) -> Vec<Method> {
        let routes = self.matching(path);
        let mut allow: Vec<Method> = routes.iter().flat_map(|route| route.methods.allowed().cloned()).collect();
        allow.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        allow.dedup();
        allow
    }

    /// The most specific first.
    fn groups<'a>(&'a self, decoded: &'a str) -> impl Iterator<Item = Group<'a>> {
        let exact = self.exact.get(decoded).map(Group::Listed);
        let below = decoded.rmatch_indices('/').filter_map(move |(at, _)| {
            let (prefix, left) = decoded.split_at_checked(at + 1)?;
            if prefix.len() > self.longest_prefix {
                return None;
            }
            self.prefixes.get(prefix).map(|branch| Group::Below(branch, left))
        });
        exact.into_iter().chain(below).chain(std::iter::once(Group::Listed(&self.everything)))
    }
}

#[cfg(test)]
mod tests;
