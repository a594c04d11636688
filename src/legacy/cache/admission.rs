//! Whether an answer may be stored, for whom, and how (RFC 9111 §3), read from header
//! fields alone.

use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, LAST_MODIFIED, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::directive::{Directives, Scope};
use super::freshness::{heuristically_cacheable, initial_age, lifetime};

/// How long an answer may be used stale while its service cannot be reached, where it does not forbid
/// that (RFC 9111 §4.2.4 "disconnected"). An explicit `stale-if-error` may be longer.
const DISCONNECTED: u32 = 600;

/// Why an answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The request was no GET or HEAD, or asked for it.
    Request,
    /// The answer or its service said so; it will probably say so again.
    Forbidden,
    /// Its status has no lifetime: an error, a redirect for now.
    Passing,
    /// It is stale on arrival and cannot be validated.
    Useless,
}

/// How an answer is stored: how long it holds, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoragePolicy {
    /// Freshness, counted from when it was made.
    pub lifetime: Duration,
    /// Its age at arrival.
    pub age: Duration,
    /// Seconds it may be used stale while somebody asks again.
    pub stale_while_revalidate: u32,
    /// Seconds it may be used stale instead of an error answer.
    pub stale_if_error: u32,
    /// Seconds it may be used stale while nobody can be reached, the circuit being open included.
    pub stale_if_disconnected: u32,
    /// It may never be used stale, whatever the client says.
    pub never_stale: bool,
    /// Every caller may have it.
    pub shared: bool,
    /// Fields that must not be stored with it.
    pub without: Vec<HeaderName>,
    /// Request fields that select it.
    pub vary: Vec<HeaderName>,
}

impl StoragePolicy {
    /// Whether the next request has to ask anew, so that none gains by waiting for another.
    pub(super) fn serves_once(&self) -> bool {
        self.age >= self.lifetime && self.stale_while_revalidate == 0
    }
}

/// A request and its answer, as the decision sees them.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// Of the request.
    pub method: &'a Method,
    /// The request said `no-store`.
    pub unwanted: bool,
    /// Of the answer.
    pub status: StatusCode,
    /// Of the answer.
    pub headers: &'a HeaderMap,
    /// Between asking and the answer.
    pub delay: Duration,
}

impl Exchange<'_> {
    /// Decides. `default_ttl`: freshness where the service says nothing.
    pub fn policy(&self, now: SystemTime, default_ttl: Duration) -> Result<StoragePolicy, Refusal> {
        if self.unwanted || !matches!(*self.method, Method::GET | Method::HEAD) {
            return Err(Refusal::Request);
        }
        if self.status.as_u16() < 200 || matches!(self.status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED) {
            return Err(Refusal::Passing);
        }
        let directives = Directives::of(self.headers);
        self.permitted(&directives)?;
        let (vary, for_one) = selectors(self.headers).ok_or(Refusal::Forbidden)?;
        let lifetime = lifetime(self.status, self.headers, &directives, now, default_ttl).ok_or(Refusal::Passing)?;
        let never_stale = directives.forbid_stale();
        let window = |seconds: u32| if never_stale { 0 } else { seconds };
        let policy = StoragePolicy {
            lifetime,
            age: initial_age(self.headers, now, self.delay),
            stale_while_revalidate: window(directives.stale_while_revalidate.unwrap_or(0)),
            stale_if_error: window(directives.stale_if_error.unwrap_or(0)),
            stale_if_disconnected: window(directives.stale_if_error.unwrap_or(DISCONNECTED)),
            never_stale,
            // §3.5, narrowed: `must-revalidate` alone does not make an answer everybody's.
            shared: (directives.public || directives.s_maxage.is_some()) && !for_one,
            without: listed(&directives.no_cache).chain(listed(&directives.private)).cloned().collect(),
            vary,
        };
        let validator = self.headers.contains_key(ETAG) || self.headers.contains_key(LAST_MODIFIED);
        let later = policy.stale_while_revalidate > 0 || policy.stale_if_error > 0;
        if policy.age < policy.lifetime || validator || later { Ok(policy) } else { Err(Refusal::Useless) }
    }

    fn permitted(&self, directives: &Directives) -> Result<(), Refusal> {
        let understood = heuristically_cacheable(self.status) || matches!(self.status.as_u16(), 302 | 303 | 307);
        // §5.2.2.3: who understands the status may store in spite of `no-store`.
        let stored_against_will = directives.no_store && !(directives.must_understand && understood);
        if stored_against_will
            || (directives.must_understand && !understood)
            || directives.private == Scope::Whole
            || self.headers.contains_key(SET_COOKIE)
            || is_event_stream(self.headers)
        {
            return Err(Refusal::Forbidden);
        }
        Ok(())
    }
}

/// Whether it ends only when its client goes; nobody else can use it.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes().to_ascii_lowercase());
    kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
}

fn listed(scope: &Scope) -> impl Iterator<Item = &HeaderName> {
    match scope {
        Scope::Fields(names) => names.iter(),
        _ => [].iter(),
    }
}

/// The request fields of `Vary`, and whether one of them is who the caller is. `None`: nobody but this
/// very request matches.
fn selectors(headers: &HeaderMap) -> Option<(Vec<HeaderName>, bool)> {
    let (mut names, mut for_one) = (Vec::new(), false);
    for line in headers.get_all(VARY) {
        for name in line.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| *name != "*")?;
            match Origin::of(&name) {
                Origin::Client if !names.contains(&name) => names.push(name),
                Origin::Client | Origin::Key => {}
                Origin::Identity => for_one = true,
                Origin::Hop => return None,
            }
        }
    }
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    Some((names, for_one))
}

/// Who puts a request field on the way to the service.
enum Origin {
    /// The client; it can be compared.
    Client,
    /// Part of every key already.
    Key,
    /// We, from the caller's identity: the partition covers it.
    Identity,
    /// We, from this connection or this request alone.
    Hop,
}

impl Origin {
    fn of(name: &HeaderName) -> Self {
        match name.as_str() {
            "x-original-user" | "x-session-id" | "x-auth-time" | "x-empowerid-api-key" => Self::Identity,
            "forwarded" | "x-real-ip" | "x-correlation-id" | "traceparent" | "via" => Self::Hop,
            text if text.starts_with("x-forwarded-") => Self::Hop,
            text if text.starts_with("x-user-") => Self::Identity,
            _ if *name == AUTHORIZATION => Self::Identity,
            _ if *name == HOST => Self::Key,
            _ => Self::Client,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide_as(method: &Method, status: u16, lines: &[(&str, &str)]) -> Result<StoragePolicy, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let exchange = Exchange { method, unwanted: false, status, headers: &headers, delay: Duration::ZERO };
        exchange.policy(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000), Duration::from_secs(30))
    }

    fn decide(lines: &[(&str, &str)]) -> Result<StoragePolicy, Refusal> {
        decide_as(&Method::GET, 200, lines)
    }

    #[test]
    fn what_is_never_stored() {
        let fresh = ("cache-control", "public, max-age=60");
        for lines in [
            &[("cache-control", "no-store, max-age=60")][..],
            &[("cache-control", "private, max-age=60")],
            &[("cdn-cache-control", "private"), fresh],
            &[fresh, ("set-cookie", "a=b")],
            &[fresh, ("vary", "*")],
            &[fresh, ("vary", "accept, *")],
            &[fresh, ("vary", "a b")],
            &[fresh, ("vary", "X-Forwarded-For")],
            &[fresh, ("content-type", "text/event-stream; charset=utf-8")],
        ] {
            assert_eq!(decide(lines), Err(Refusal::Forbidden), "{lines:?}");
        }
        assert_eq!(decide_as(&Method::POST, 200, &[fresh]), Err(Refusal::Request));
        assert_eq!(decide_as(&Method::GET, 206, &[fresh]), Err(Refusal::Passing));
        assert_eq!(decide_as(&Method::GET, 503, &[]), Err(Refusal::Passing));
        assert_eq!(decide(&[("cache-control", "max-age=0")]), Err(Refusal::Useless));
        assert_eq!(decide(&[("cache-control", "max-age=5"), ("age", "6")]), Err(Refusal::Useless));
        assert!(decide(&[("cache-control", "max-age=0"), ("etag", "\"1\"")]).is_ok());
        assert!(decide(&[("cache-control", "max-age=0, stale-while-revalidate=5")]).is_ok());
    }

    #[test]
    fn only_an_explicit_word_makes_an_answer_everybodys() {
        let shared = |value: &str| decide(&[("cache-control", value)]).unwrap().shared;
        assert!(shared("public, max-age=5") && shared("s-maxage=5") && shared("public"));
        assert!(!shared("max-age=5") && !shared("max-age=5, must-revalidate"));
        assert!(!decide(&[]).unwrap().shared);
        assert!(!decide(&[("cache-control", "public"), ("vary", "Authorization")]).unwrap().shared);
        assert!(!decide(&[("cache-control", "public"), ("vary", "x-original-user")]).unwrap().shared);
    }

    #[test]
    fn must_understand_overrides_no_store_for_known_statuses() {
        let lines = [("cache-control", "no-store, must-understand, max-age=60")];
        assert!(decide(&lines).is_ok());
        assert_eq!(decide_as(&Method::GET, 299, &lines), Err(Refusal::Forbidden));
    }

    #[test]
    fn stale_use_is_bounded_by_the_answer() {
        let free = decide(&[("cache-control", "max-age=5, stale-while-revalidate=7, stale-if-error=9")]).unwrap();
        assert_eq!((free.stale_while_revalidate, free.stale_if_error, free.stale_if_disconnected), (7, 9, 9));
        let silent = decide(&[("cache-control", "max-age=5")]).unwrap();
        assert_eq!((silent.stale_if_error, silent.stale_if_disconnected), (0, DISCONNECTED));
        for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=5"] {
            let policy = decide(&[("cache-control", &format!("max-age=5, stale-if-error=9, {strict}"))]).unwrap();
            assert_eq!(
                (policy.stale_if_error, policy.stale_if_disconnected, policy.never_stale),
                (0, 0, true),
                "{strict}"
            );
        }
    }

    #[test]
    fn vary_is_sorted_and_covers_what_the_key_does_not() {
        let policy = decide(&[("vary", "b, A,, b"), ("vary", "host, authorization")]).unwrap();
        assert_eq!(policy.vary, ["a", "b"]);
        assert_eq!(decide(&[("cache-control", "private=\"x-b\", no-cache=x-a")]).unwrap().without, ["x-a", "x-b"]);
    }
}
