//! Conditional requests of clients, answered from a stored or a just fetched answer (RFC 9110 §13.2.2,
//! RFC 9111 §4.3.2).

use http::header::{DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, Method, StatusCode};
use pingora::protocols::http::conditional_filter::weak_validate_etag;

use super::freshness::date;

/// Whether the client holds this very answer: it gets a 304.
#[must_use]
pub fn not_modified(method: &Method, request: &HeaderMap, status: StatusCode, response: &HeaderMap) -> bool {
    if status != StatusCode::OK || !matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    if request.contains_key(IF_NONE_MATCH) {
        let Some(tag) = response.get(ETAG) else { return false };
        let mut held = request.get_all(IF_NONE_MATCH).iter();
        return held.any(|line| weak_validate_etag(line.as_bytes(), tag.as_bytes()));
    }
    let Some(since) = date(request, &IF_MODIFIED_SINCE) else { return false };
    // RFC 9111 §4.3.2: without `Last-Modified` the time it was made stands in.
    let changed =
        if response.contains_key(LAST_MODIFIED) { date(response, &LAST_MODIFIED) } else { date(response, &DATE) };
    changed.is_some_and(|changed| changed <= since)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
    const NEW: &str = "Fri, 01 Jan 2021 00:00:00 GMT";

    fn held(request: &[(&'static str, &str)], response: &[(&'static str, &str)]) -> bool {
        let map = |lines: &[(&'static str, &str)]| {
            lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
        };
        not_modified(&Method::GET, &map(request), StatusCode::OK, &map(response))
    }

    #[test]
    fn a_tag_decides_before_a_date() {
        assert!(held(&[("if-none-match", "\"a\", W/\"b\"")], &[("etag", "\"b\"")]));
        assert!(held(&[("if-none-match", "*")], &[("etag", "\"b\"")]));
        assert!(!held(
            &[("if-none-match", "\"a\""), ("if-modified-since", NEW)],
            &[("etag", "\"b\""), ("last-modified", OLD)]
        ));
        assert!(!held(&[("if-none-match", "\"a\"")], &[]));
    }

    #[test]
    fn a_date_is_compared_with_the_last_change_or_the_making() {
        assert!(held(&[("if-modified-since", OLD)], &[("last-modified", OLD)]));
        assert!(held(&[("if-modified-since", "Friday, 01-Jan-21 00:00:00 GMT")], &[("last-modified", OLD)]));
        assert!(!held(&[("if-modified-since", OLD)], &[("last-modified", NEW)]));
        assert!(held(&[("if-modified-since", NEW)], &[("date", OLD)]));
        assert!(!held(&[("if-modified-since", "yesterday")], &[("last-modified", OLD)]));
        assert!(!held(&[("if-modified-since", NEW)], &[("last-modified", "x"), ("date", OLD)]));
    }
}
