//! What a request asks of the cache: its `Cache-Control` (RFC 9111 §5.2.1) and `Pragma` (§5.4).

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

use super::directive::{delta_seconds, split};

/// The directives of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// Neither store the answer nor look for one.
    pub no_store: bool,
    /// Ask the service first.
    pub no_cache: bool,
    /// No older than this.
    pub max_age: Option<Duration>,
    /// Fresh for at least this long.
    pub min_fresh: Option<Duration>,
    /// Stale by at most this; `MAX` where no limit was given.
    pub max_stale: Option<Duration>,
    /// A stored answer or none.
    pub only_if_cached: bool,
}

/// What becomes of a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Answer with it.
    Serve,
    /// Answer with it although it is stale: the client said it may be.
    ServeStale,
    /// Ask the service whether it still holds.
    Validate,
}

impl RequestDirectives {
    /// Reads a request's fields. A value that is no number asks for the strictest reading.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut asked = Self::default();
        // Most say nothing, and to walk past all fields costs less than one look-up.
        if !headers.keys().any(|name| matches!(name.as_str(), "cache-control" | "pragma")) {
            return asked;
        }
        for value in headers.get_all(CACHE_CONTROL) {
            for (name, argument) in split(&String::from_utf8_lossy(value.as_bytes())) {
                let seconds =
                    argument.as_deref().map(|text| Duration::from_secs(delta_seconds(text).unwrap_or(0).into()));
                match name.as_str() {
                    "no-store" => asked.no_store = true,
                    "no-cache" => asked.no_cache = true,
                    "only-if-cached" => asked.only_if_cached = true,
                    "max-age" => asked.max_age = asked.max_age.or(seconds).or(Some(Duration::ZERO)),
                    "min-fresh" => asked.min_fresh = asked.min_fresh.or(seconds),
                    "max-stale" => asked.max_stale = asked.max_stale.or(seconds).or(Some(Duration::MAX)),
                    _ => {}
                }
            }
        }
        // §5.4: `Pragma` counts only for clients that know no `Cache-Control`.
        if !headers.contains_key(CACHE_CONTROL) {
            let pragmas =
                headers.get_all(PRAGMA).iter().flat_map(|value| split(&String::from_utf8_lossy(value.as_bytes())));
            asked.no_cache |= pragmas.into_iter().any(|(name, _)| name == "no-cache");
        }
        asked
    }

    /// Judges a stored answer of this age and lifetime. `never_stale`: the answer forbids to be used stale.
    #[must_use]
    pub fn judge(&self, age: Duration, lifetime: Duration, never_stale: bool) -> Use {
        if self.no_cache || self.is_too_old(age) {
            return Use::Validate;
        }
        let Some(left) = lifetime.checked_sub(age).filter(|left| !left.is_zero()) else {
            let tolerated = !never_stale && self.max_stale.is_some_and(|most| age.saturating_sub(lifetime) <= most);
            return if tolerated { Use::ServeStale } else { Use::Validate };
        };
        if self.min_fresh.is_some_and(|wanted| left < wanted) { Use::Validate } else { Use::Serve }
    }

    /// Whether the service is to be waited for, though a stale answer of this age could be given meanwhile.
    #[must_use]
    pub fn wants_validation(&self, age: Duration) -> bool {
        self.no_cache || self.min_fresh.is_some() || self.is_too_old(age)
    }

    fn is_too_old(&self, age: Duration) -> bool {
        self.max_age.is_some_and(|most| age > most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directives(name: &'static str, value: &str) -> RequestDirectives {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        RequestDirectives::of(&headers)
    }

    fn judged(directive: &str, age: u64, lifetime: u64, never_stale: bool) -> Use {
        let seconds = Duration::from_secs;
        directives("cache-control", directive).judge(seconds(age), seconds(lifetime), never_stale)
    }

    #[test]
    fn a_stored_answer_is_judged_by_what_was_asked() {
        assert_eq!(judged("x", 5, 10, false), Use::Serve);
        assert_eq!(judged("x", 10, 10, false), Use::Validate, "fresh means younger than the lifetime (§4.2)");
        assert_eq!(judged("no-cache", 0, 10, false), Use::Validate);
        assert_eq!(judged("max-age=4", 5, 10, false), Use::Validate);
        assert_eq!(judged("max-age=5", 5, 10, false), Use::Serve);
        assert_eq!(judged("max-age=abc", 1, 10, false), Use::Validate);
        assert_eq!(judged("min-fresh=6", 5, 10, false), Use::Validate);
        assert_eq!(judged("min-fresh=5", 5, 10, false), Use::Serve);
        assert_eq!(judged("max-stale", 500, 10, false), Use::ServeStale);
        assert_eq!(judged("max-stale=5", 15, 10, false), Use::ServeStale);
        assert_eq!(judged("max-stale=5", 16, 10, false), Use::Validate);
        assert_eq!(judged("max-stale", 15, 10, true), Use::Validate);
        assert_eq!(judged("max-stale, max-age=3", 15, 10, false), Use::Validate);
    }

    #[test]
    fn who_asks_for_the_services_word_waits_for_it() {
        let waits = |directive: &str| directives("cache-control", directive).wants_validation(Duration::from_secs(5));
        for directive in ["no-cache", "max-age=0", "max-age=4", "min-fresh=1"] {
            assert!(waits(directive), "{directive}");
        }
        for directive in ["x", "max-age=5", "max-stale"] {
            assert!(!waits(directive), "{directive}");
        }
    }

    #[test]
    fn pragma_counts_alone_only() {
        assert!(directives("pragma", "x, no-cache").no_cache);
        let mut both = HeaderMap::new();
        both.insert("pragma", "no-cache".parse().unwrap());
        both.insert("cache-control", "max-age=5".parse().unwrap());
        assert!(!RequestDirectives::of(&both).no_cache);
        assert!(directives("cache-control", "Only-If-Cached, NO-STORE").only_if_cached);
    }
}
