//! One request's dealings with the cache: a method for each callback of the engine that is concerned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, RANGE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora::cache::lock::CacheKeyLockImpl;
use pingora::cache::{
    CacheKey, CacheMeta, CacheOptionOverrides, CachePhase, ForcedFreshness, NoCacheReason, RespCacheable,
};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{RangeType, Session};
use pingora::{Error, ErrorSource, ErrorType};

use super::admission::{Exchange, Refusal, StoragePolicy};
use super::cache_status::{insufficient, outcome, tell};
use super::entry::{EntryId, describe};
use super::flight::{Fault, FaultCell};
use super::key::{Caller, Known, Lookup, Resource};
use super::parts::parts;
use super::request_directives::{RequestDirectives, Use};
use super::stale_if_error::Failure;
use super::{HEARSAY, LOCK_AGE, ResponseCache, fields, validation};
use crate::list_fields::nominated;
use crate::resilience::SystemClock;

/// What is asked of which service, and by whom.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The service's name, and where it is (`LegacyService::stored_as`).
    pub service: &'a str,
    /// Path and query as they are sent to it.
    pub target: &'a str,
    /// Scheme and authority the client used.
    pub origin: Box<str>,
    /// Whose credential is sent.
    pub caller: Caller,
    /// The request also carries a credential that is not the caller's, and does not travel on.
    pub foreign_credential: bool,
    /// The request has a body, or may have one: on HTTP/2 no field has to say so.
    pub with_body: bool,
    /// How long the service may take.
    pub timeout: Duration,
}

/// Why the cache is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypassed {
    /// Neither GET nor HEAD.
    Method,
    /// The request says so, or carries what the cache has no answer for.
    Request,
    /// Answers to this question were never storable lately.
    Remembered,
    /// Switched off.
    Off,
}

impl Bypassed {
    /// `fwd` of RFC 9211 §2.2.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Request => "request",
            Self::Remembered | Self::Off => "bypass",
        }
    }

    /// Whether an answer to such a request may be stored nevertheless.
    pub(super) fn may_have_stored(self) -> bool {
        self == Self::Remembered
    }
}

/// Kept in the request's context from `request_cache_filter` on.
#[derive(Debug)]
pub struct Recall {
    pub(super) cache: &'static ResponseCache,
    pub(super) lookup: Arc<Lookup>,
    pub(super) directives: RequestDirectives,
    /// What made this request's key.
    known: Known,
    /// How long it waits for others who ask the same: a little longer than they may take, to hear how that ended.
    wait: Duration,
    foreign_credential: bool,
    /// The header of a 304 that came for a stored answer.
    update: Option<HeaderMap>,
    asked_service: Option<Instant>,
    /// The stored answer that was found last.
    seen: Option<EntryId>,
    pub(super) bypassed: Option<Bypassed>,
    /// A stored answer was there; what `fwd` says if it did not do.
    pub(super) found: Option<&'static str>,
    /// A stale answer is served on purpose.
    pub(super) stale: bool,
    /// The whole is served of what may be asked for in parts.
    divisible: bool,
}

impl Recall {
    pub(super) fn new(cache: &'static ResponseCache, question: Question<'_>, request: &RequestHeader) -> Self {
        let directives = RequestDirectives::of(&request.headers);
        let lookup = Arc::new(Lookup {
            resource: Resource::new(question.service, question.target),
            caller: question.caller,
            origin: question.origin,
            request: as_sent(&request.headers),
            asked: Instant::now(),
            fault: FaultCell::default(),
            alone: AtomicBool::default(),
        });
        Self {
            cache,
            lookup,
            directives,
            known: Known::default(),
            foreign_credential: question.foreign_credential,
            wait: question.timeout + HEARSAY,
            update: None,
            asked_service: None,
            seen: None,
            bypassed: bypassed(cache, request, directives, question.with_body),
            found: None,
            stale: false,
            divisible: false,
        }
    }

    /// `request_cache_filter`: switches the engine's cache on, unless this request is none of its.
    pub fn enable(&self, session: &mut Session) {
        if self.bypassed.is_some() {
            return;
        }
        let mut overrides = CacheOptionOverrides::default();
        overrides.wait_timeout = Some(self.wait);
        let ages = usize::try_from(self.wait.as_secs() / LOCK_AGE.as_secs()).unwrap_or(usize::MAX);
        overrides.max_lock_retries = Some(ages.saturating_add(4));
        let lock: &'static CacheKeyLockImpl = &self.cache.lock;
        session.cache.enable(&self.cache.storage, None, Some(&self.cache.predictor), Some(lock), Some(overrides));
        session.cache.set_max_file_size_bytes(self.cache.max_object);
    }

    /// `cache_key_callback`.
    #[must_use]
    pub fn key(&mut self) -> CacheKey {
        self.known = self.cache.shelf.known(&self.lookup.resource);
        self.lookup.key(&self.known)
    }

    /// `cache_hit_filter`. `open`: the service's circuit is open, so nobody will be asked.
    pub fn hit(&mut self, meta: &CacheMeta, open: bool) -> Option<ForcedFreshness> {
        self.stale = false;
        let Some(policy) = meta.extensions().get::<Arc<StoragePolicy>>() else {
            return Some(ForcedFreshness::ForceMiss);
        };
        // Found again as it was, since the request that was waited for failed: nobody else has to try.
        let id = meta.extensions().get::<EntryId>().copied();
        let in_vain = id.is_some() && self.seen == id && self.failed();
        self.seen = id;
        // The clock was put back: nobody can say how old it is.
        let Some(age) = age(meta.epoch()) else { return Some(ForcedFreshness::ForceMiss) };
        self.lookup.alone.store(policy.serves_once(), Ordering::Relaxed);
        self.found = Some(insufficient(policy.lifetime, age));
        let covered = |failure| !self.directives.no_cache && policy.cover(age, failure);
        match self.directives.judge(age, policy.lifetime, policy.never_stale) {
            Use::Serve => Some(ForcedFreshness::ForceFresh),
            Use::ServeStale => Some(self.serve_stale()),
            Use::Validate if open && covered(Failure::Disconnected) => Some(self.serve_stale()),
            Use::Validate if in_vain && covered(Failure::Answered) => Some(self.serve_stale()),
            // Past its time: the engine knows, and knows the windows for stale use.
            Use::Validate if age >= policy.lifetime => None,
            Use::Validate if self.directives.no_cache => Some(ForcedFreshness::ForceExpired),
            // If the service fails, it is still good.
            Use::Validate => Some(ForcedFreshness::ForceExpiredServeStale { expired_at: None }),
        }
    }

    fn serve_stale(&mut self) -> ForcedFreshness {
        self.stale = true;
        ForcedFreshness::ForceFresh
    }

    /// `proxy_upstream_filter`. `false`: only a stored answer was wanted and there is none; answer 504
    /// (RFC 9111 §5.2.1.7).
    #[must_use]
    pub fn may_ask(&mut self) -> bool {
        self.asked_service = Some(Instant::now());
        !(self.directives.only_if_cached && self.bypassed.is_none())
    }

    /// `should_serve_stale`: without an error while somebody asks again, with one in place of it.
    #[must_use]
    pub fn should_serve_stale(&self, session: &Session, error: Option<&Error>) -> bool {
        let Some(meta) = session.cache.maybe_cache_meta() else { return false };
        let Some(policy) = meta.extensions().get::<Arc<StoragePolicy>>() else { return false };
        let Some(age) = age(meta.epoch()) else { return false };
        match error {
            None => !self.directives.wants_validation(age),
            Some(error) if *error.esource() == ErrorSource::Downstream => false,
            Some(error) => !self.directives.no_cache && policy.cover(age, failure_of(error)),
        }
    }

    /// `fail_to_connect`, `error_while_proxy`: for those who wait for this request.
    pub fn record_failure(&self, fault: Fault) {
        self.lookup.fault.set(Some(fault));
    }

    /// How the flight ended that this request has waited for, if asking again is of no use to it.
    #[must_use]
    pub fn shared_fault(&self, session: &Session) -> Option<Fault> {
        let waited = session.cache.lock_duration()?;
        self.cache.lock.flights.shared(&self.lookup.key(&self.known), self.lookup.asked, waited >= self.wait)
    }

    fn failed(&self) -> bool {
        self.cache.lock.flights.failed_since(&self.lookup.key(&self.known), self.lookup.asked)
    }

    /// `upstream_response_filter`: keeps what the engine would lose of a 304.
    pub fn received(&mut self, response: &ResponseHeader) {
        // Of an attempt before.
        self.lookup.fault.set(None);
        if response.status == StatusCode::NOT_MODIFIED && self.found.is_some() {
            self.update = Some(response.headers.clone());
        }
    }

    /// `response_cache_filter`: whether and how long. With a 304 at hand it is about the stored answer.
    pub fn admit(&mut self, session: &Session, response: &ResponseHeader) -> RespCacheable {
        if session.cache.bypassing() {
            self.bypassed = Some(Bypassed::Remembered);
        }
        let stored = self.update.as_ref().and(session.cache.maybe_cache_meta());
        let mut header = match (&self.update, stored) {
            (Some(update), Some(meta)) => fields::freshen(meta.response_header(), update),
            _ => response.clone(),
        };
        let now = SystemClock::moment();
        let delay = self.asked_service.map(|asked| asked.elapsed()).unwrap_or_default();
        // The age is that of what has just arrived: a 304 makes an answer young again.
        let arrived = self.update.as_ref().unwrap_or(&response.headers);
        let method = &session.req_header().method;
        let unwanted = self.directives.no_store;
        let exchange = Exchange { method, unwanted, status: header.status, headers: &header.headers, delay };
        let policy = exchange.policy(now, self.cache.default_ttl);
        // RFC 9111 §3.5 to the letter: nobody has told us what that credential is worth to the service.
        let permitted = |policy: &StoragePolicy| !self.foreign_credential || policy.shared || policy.never_stale;
        // Who may not see it says nothing of what everybody may.
        let refused = matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let of_one_caller = refused && self.known.shared;
        match policy.and_then(|policy| if permitted(&policy) { Ok(policy) } else { Err(Refusal::Request) }) {
            Ok(policy) if of_one_caller && !policy.shared => RespCacheable::Uncacheable(NoCacheReason::Custom(PASSING)),
            Ok(mut policy) => {
                policy.age = super::freshness::initial_age(arrived, now, delay);
                // What was made for one caller stays theirs: a 304 says that it still holds, to that caller.
                let held = stored.and_then(|meta| meta.extensions().get::<Arc<StoragePolicy>>());
                policy.shared &= held.is_none_or(|held| held.shared);
                fields::clean(&mut header, &policy.without);
                let epoch = now.checked_sub(policy.age).unwrap_or(now);
                RespCacheable::Cacheable(describe(&Arc::new(policy), epoch, header))
            }
            Err(refusal) => {
                // What the service takes back must not be used again either, by whichever answer.
                let full = self.seen.is_some() && refusal != Refusal::Request && takes_back(response.status);
                if full || self.update.is_some() {
                    self.cache.shelf.take_back(&self.lookup, !refused);
                }
                let reason = if of_one_caller { PASSING } else { reason(refusal, response.status) };
                RespCacheable::Uncacheable(NoCacheReason::Custom(reason))
            }
        }
    }

    /// `cache_not_modified_filter`.
    #[must_use]
    pub fn not_modified(session: &Session, response: &ResponseHeader) -> bool {
        let request = session.req_header();
        validation::not_modified(&request.method, &request.headers, response.status, &response.headers)
    }

    /// `range_header_filter`: which part is sent. Where none is asked for, the engine would only say that there are parts,
    /// which costs several times as much by itself as among the other fields.
    pub fn part(&mut self, request: &RequestHeader, response: &mut ResponseHeader) -> RangeType {
        if request.headers.contains_key(RANGE) {
            return parts(request, response);
        }
        let length =
            response.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        self.divisible = response.status == StatusCode::OK && length.is_some();
        RangeType::None
    }

    /// `response_filter`: tells the client, and counts. Not for informational answers.
    pub fn add_cache_headers(&self, session: &Session, headers: &mut HeaderMap) {
        let outcome = outcome(session, self);
        // A cookie that came with a 304 is this client's; it was not stored.
        if matches!(session.cache.phase(), CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_)) {
            for cookie in self.update.iter().flat_map(|update| update.get_all(SET_COOKIE)) {
                headers.append(SET_COOKIE, cookie.clone());
            }
        }
        if self.divisible {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        tell(session, self, outcome, SystemClock::moment(), headers);
        // A refresh in the background is nobody's request.
        if session.subrequest_ctx.is_none() {
            self.cache.count(outcome);
        }
    }
}

/// What the service sees of the fields that may select an answer: those that the client nominates (RFC 9110 §7.6.1) it does
/// not, and what it answers without them is no answer to who sends them.
fn as_sent(request: &HeaderMap) -> HeaderMap {
    let mut sent = request.clone();
    for name in nominated(request) {
        sent.remove(name);
    }
    sent
}

/// How long ago it was made; `None` where that is yet to come, and not only by what clocks are set right by.
pub(super) fn age(epoch: SystemTime) -> Option<Duration> {
    match SystemClock::moment().duration_since(epoch) {
        Ok(age) => Some(age),
        Err(ahead) => (ahead.duration() <= CLOCK_STEP).then_some(Duration::ZERO),
    }
}

/// An answer of the service, though a bad one, is no disconnection.
#[must_use]
pub fn failure_of(error: &Error) -> Failure {
    let answered = matches!(error.etype(), ErrorType::HTTPStatus(_)) && *error.esource() == ErrorSource::Upstream;
    if answered { Failure::Answered } else { Failure::Disconnected }
}

/// Whether an answer that is not stored says of what is stored that it no longer holds, nothing else being the answer
/// (RFC 9111 §4.3.3). That the service fails, has no time now or would not hear the request says nothing of it.
fn takes_back(status: StatusCode) -> bool {
    let of_the_request = matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS
    );
    !status.is_server_error() && !of_the_request
}

/// What a clock may be put back without a word.
const CLOCK_STEP: Duration = Duration::from_secs(2);

/// What the engine's predictor and lock go by.
pub(super) const PASSING: &str = "passing";
const FAILED: &str = "failed";

fn reason(refusal: Refusal, status: StatusCode) -> &'static str {
    match refusal {
        _ if status.is_server_error() => FAILED,
        Refusal::Request | Refusal::Passing => PASSING,
        Refusal::Forbidden | Refusal::Useless => "forbidden",
    }
}

/// Answers that say nothing about the next one: not remembered as unstorable.
pub(super) fn says_nothing(reason: &'static str) -> bool {
    matches!(reason, PASSING | FAILED)
}

/// After an error somebody else may try; after anything else everybody may, at once: behind a caller who may not see it,
/// others who may not either would wait for each other.
pub(super) fn is_failure(reason: &'static str) -> bool {
    reason == FAILED
}

fn bypassed(
    cache: &ResponseCache,
    request: &RequestHeader,
    directives: RequestDirectives,
    with_body: bool,
) -> Option<Bypassed> {
    let headers = &request.headers;
    if !cache.enabled {
        return Some(Bypassed::Off);
    }
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Some(Bypassed::Method);
    }
    // The engine would cut the first two out and then answer 200 where a 412 is due.
    let special = |name: &HeaderName| matches!(name.as_str(), "if-match" | "if-unmodified-since" | "upgrade");
    (directives.no_store || with_body || headers.keys().any(special)).then_some(Bypassed::Request)
}
