//! What clients are told about the cache: `X-Cache`, `Cache-Status` (RFC 9211) and `Age`.

use std::time::{Duration, SystemTime};

use http::header::{AGE, HeaderMap, HeaderName, HeaderValue};
use pingora::cache::CachePhase;
use pingora::proxy::Session;

use super::admission::StoragePolicy;
use super::recall::{Bypassed, Recall};

static X_CACHE: HeaderName = HeaderName::from_static("x-cache");
static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Who says what follows (RFC 9211 §2).
pub(super) const US: &str = "pingora-bff; ";

/// How one request fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A stored answer that holds, asked again or not.
    Hit,
    /// A stored answer past its freshness.
    Stale,
    /// The service's answer.
    Miss,
    /// The cache was not asked.
    Bypass,
}

impl Outcome {
    /// The value of `X-Cache`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Stale => "STALE",
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
        }
    }
}

/// Reads off the engine how a request fared.
pub(super) fn outcome(session: &Session, recall: &Recall) -> Outcome {
    match session.cache.phase() {
        _ if recall.bypassed.is_some() => Outcome::Bypass,
        CachePhase::Bypass => Outcome::Bypass,
        CachePhase::Hit if recall.stale => Outcome::Stale,
        CachePhase::Hit | CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => Outcome::Hit,
        CachePhase::Stale | CachePhase::StaleUpdating => Outcome::Stale,
        _ => Outcome::Miss,
    }
}

/// Writes the fields.
pub(super) fn tell(session: &Session, recall: &Recall, outcome: Outcome, now: SystemTime, headers: &mut HeaderMap) {
    let meta = session.cache.maybe_cache_meta();
    let policy = meta.and_then(|meta| meta.extensions().get::<std::sync::Arc<StoragePolicy>>());
    let age = meta.and_then(|meta| now.duration_since(meta.epoch()).ok()).unwrap_or_default();
    let ttl = policy.map(|policy| time_left(policy, age)).unwrap_or_default();
    let phase = session.cache.phase();
    let why = recall.found.unwrap_or("miss");
    let stored = if matches!(phase, CachePhase::Miss | CachePhase::Expired) { "; stored" } else { "" };
    let waited = if session.cache.lock_duration().is_some() { "; collapsed=?0" } else { "" };
    let status: &[&str] = match (outcome, phase) {
        (Outcome::Hit, CachePhase::Hit) => &[US, "hit", &ttl],
        (Outcome::Hit, _) => &[US, "fwd=", why, "; fwd-status=304; stored", &ttl],
        // RFC 9211 §2.2: one or the other. The service was asked, and its answer was none.
        (Outcome::Stale, CachePhase::Stale) => &[US, "fwd=", why, &ttl],
        (Outcome::Stale, _) => &[US, "hit", &ttl],
        (Outcome::Bypass, _) => &[US, "fwd=", recall.bypassed.map_or("bypass", Bypassed::as_str)],
        (Outcome::Miss, _) => &[US, "fwd=", why, stored, &ttl, waited],
    };
    write(headers, outcome, age, status);
}

/// `age`: of what is stored, where it is the answer. `status`: a member of `Cache-Status` in pieces, the first of
/// which is [`US`].
pub(super) fn write(headers: &mut HeaderMap, outcome: Outcome, age: Duration, status: &[&str]) {
    if matches!(outcome, Outcome::Hit | Outcome::Stale) {
        headers.insert(AGE, age.as_secs().into());
    }
    headers.insert(&X_CACHE, HeaderValue::from_static(outcome.as_str()));
    if let Ok(status) = HeaderValue::try_from(status.concat()) {
        headers.append(&CACHE_STATUS, status);
    }
}

/// `fwd` of RFC 9211 §2.2 where an answer of this age was stored: if it is fresh, the request asked for more.
pub(super) fn insufficient(lifetime: Duration, age: Duration) -> &'static str {
    if age < lifetime { "request" } else { "stale" }
}

/// `ttl` is negative once stale (RFC 9211 §2.4).
pub(super) fn time_left(policy: &StoragePolicy, age: Duration) -> String {
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    // A formatter costs several times as much, and every hit is told this.
    ["; ttl=", itoa::Buffer::new().format(seconds(policy.lifetime).saturating_sub(seconds(age)))].concat()
}
