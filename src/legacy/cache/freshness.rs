//! How long an answer is fresh and how old it is already (RFC 9111 §4.2).

use std::time::{Duration, SystemTime};

use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, StatusCode};

use super::directive::{Directives, Scope, delta_seconds};

/// What is invented from `Last-Modified` never exceeds the larger of this and `default_ttl`.
const INVENTED_AT_MOST: Duration = Duration::from_secs(60);

/// The lifetime, counted from the moment the answer was made; `None`: the answer says nothing and its
/// status allows no guess.
#[must_use]
pub fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &Directives,
    now: SystemTime,
    default_ttl: Duration,
) -> Option<Duration> {
    if directives.no_cache == Scope::Whole {
        return Some(Duration::ZERO);
    }
    // §4.2.1, in the order of a shared cache.
    if let Some(seconds) = directives.s_maxage.or(directives.max_age) {
        return Some(Duration::from_secs(seconds.into()));
    }
    if !directives.targeted && headers.contains_key(EXPIRES) {
        let made = date(headers, &DATE).unwrap_or(now);
        // §5.3: an invalid date, or several, is a time in the past.
        let expires = Some(headers.get_all(EXPIRES).iter().count()).filter(|lines| *lines == 1);
        let expires = expires.and_then(|_| date(headers, &EXPIRES));
        return Some(expires.and_then(|expires| expires.duration_since(made).ok()).unwrap_or_default());
    }
    (heuristically_cacheable(status) || directives.public).then(|| guess(headers, now, default_ttl))
}

/// §4.2.2: a tenth of the time since the last change, within bounds, else what the configuration says.
fn guess(headers: &HeaderMap, now: SystemTime, default_ttl: Duration) -> Duration {
    let made = date(headers, &DATE).unwrap_or(now);
    let unchanged = date(headers, &LAST_MODIFIED).and_then(|changed| made.duration_since(changed).ok());
    unchanged.map_or(default_ttl, |unchanged| (unchanged / 10).min(default_ttl.max(INVENTED_AT_MOST)))
}

/// RFC 9110 §15.1; 206 is left out because parts are not stored.
#[must_use]
pub fn heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// §4.2.3: the age at arrival. `delay` is the time between our request and the answer.
#[must_use]
pub fn initial_age(headers: &HeaderMap, now: SystemTime, delay: Duration) -> Duration {
    let apparent = date(headers, &DATE).and_then(|made| now.duration_since(made).ok()).unwrap_or_default();
    // §5.1: of a list the first member; what is no number is ignored.
    let first = headers.get(AGE).and_then(|value| value.to_str().ok()).and_then(|text| text.split(',').next());
    let told = first.and_then(|text| delta_seconds(text.trim())).map(|seconds| Duration::from_secs(seconds.into()));
    // A `Date` of whole seconds makes every answer look up to a second old.
    let apparent = if apparent < Duration::from_secs(1) { Duration::ZERO } else { apparent };
    apparent.max(told.map_or(Duration::ZERO, |age| age + delay))
}

/// One of the three formats of RFC 9110 §5.6.7.
pub(super) fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let pairs = lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    fn at(offset: i64) -> String {
        let moment = if offset < 0 {
            now() - Duration::from_secs(offset.unsigned_abs())
        } else {
            now() + Duration::from_secs(offset.unsigned_abs())
        };
        httpdate::fmt_http_date(moment)
    }

    fn life(status: u16, lines: &[(&str, &str)]) -> Option<u64> {
        let headers = fields(lines);
        let status = StatusCode::from_u16(status).unwrap();
        lifetime(status, &headers, &Directives::of(&headers), now(), 30 * SECOND).map(|span| span.as_secs())
    }

    #[test]
    fn explicit_lifetimes_in_their_order() {
        let later = at(100);
        assert_eq!(life(200, &[("cache-control", "max-age=5, s-maxage=7"), ("expires", &later)]), Some(7));
        assert_eq!(life(200, &[("cache-control", "max-age=5"), ("expires", &later)]), Some(5));
        assert_eq!(life(200, &[("expires", &later)]), Some(100));
        assert_eq!(life(200, &[("expires", &later), ("date", &at(-50))]), Some(150));
        assert_eq!(life(200, &[("expires", &at(-5))]), Some(0));
        assert_eq!(life(200, &[("expires", "0")]), Some(0));
        assert_eq!(life(200, &[("expires", &later), ("expires", &later)]), Some(0));
        assert_eq!(life(200, &[("cache-control", "no-cache, max-age=5")]), Some(0));
        assert_eq!(life(200, &[("cache-control", "no-cache=\"x\", max-age=5")]), Some(5));
        assert_eq!(life(599, &[("cache-control", "max-age=5")]), Some(5));
        assert_eq!(life(200, &[("cdn-cache-control", "foo"), ("expires", &later)]), Some(30));
    }

    #[test]
    fn guesses_only_where_the_status_allows_one() {
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            assert_eq!(life(status, &[]), Some(30), "{status}");
        }
        for status in [201, 202, 206, 302, 303, 307, 400, 401, 403, 429, 500, 502, 503, 504, 599] {
            assert_eq!(life(status, &[]), None, "{status}");
        }
        assert_eq!(life(599, &[("cache-control", "public")]), Some(30));
        assert_eq!(life(200, &[("last-modified", &at(-100)), ("date", &at(0))]), Some(10));
        assert_eq!(life(200, &[("last-modified", &at(-1_000_000)), ("date", &at(0))]), Some(60));
        assert_eq!(life(200, &[("last-modified", &at(100)), ("date", &at(0))]), Some(30), "changed in the future");
    }

    #[test]
    fn the_age_at_arrival() {
        let age = |lines: &[(&str, &str)]| initial_age(&fields(lines), now(), 2 * SECOND).as_secs();
        assert_eq!(age(&[]), 0);
        assert_eq!(age(&[("age", "30")]), 32);
        assert_eq!(age(&[("age", "30"), ("date", &at(-100))]), 100);
        assert_eq!(age(&[("date", &at(50))]), 0);
        for (value, seconds) in [("abc", 0), ("-7", 0), ("7.0", 0), ("7, 0", 9), ("0, 7200", 2), ("7;a=b", 0)] {
            assert_eq!(age(&[("age", value)]), seconds, "{value}");
        }
        assert_eq!(age(&[("age", "7"), ("age", "0")]), 9);
    }
}
