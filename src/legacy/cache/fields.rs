//! Which header fields live in the store: hygiene before storing (RFC 9111 §3.1) and the update from a
//! 304 (§3.2, §4.3.4).

use http::header::{
    AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, PROXY_AUTHENTICATE, SET_COOKIE, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};
use pingora::http::ResponseHeader;

use crate::list_fields::nominated;

/// Fields of one connection or one hop.
const HOP: [HeaderName; 12] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    SET_COOKIE,
    HeaderName::from_static("x-cache"),
];

/// Fields that describe the stored body, and the one it was validated by: a 304 does not change them.
const KEPT: [HeaderName; 6] = [
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
    ETAG,
    // Counted anew.
    AGE,
];

/// Leaves what may be stored.
pub(super) fn clean(response: &mut ResponseHeader, without: &[HeaderName]) {
    for name in nominated(&response.headers).iter().chain(&HOP).chain([&AGE]).chain(without) {
        response.remove_header(name);
    }
}

/// The stored header as a 304 updates it.
pub(super) fn freshen(stored: &ResponseHeader, not_modified: &HeaderMap) -> ResponseHeader {
    let mut fresh = stored.clone();
    let nominated = nominated(not_modified);
    for name in not_modified.keys().filter(|name| !KEPT.contains(name) && !HOP.contains(name)) {
        if nominated.contains(name) {
            continue;
        }
        fresh.remove_header(name);
        for value in not_modified.get_all(name) {
            // Names and values come from a header that was parsed already.
            let _ = fresh.append_header(name.clone(), value.clone());
        }
    }
    fresh
}

/// Bytes a header takes in memory, roughly.
pub(super) fn weight(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 128).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(lines: &[(&'static str, &str)]) -> ResponseHeader {
        let mut header = ResponseHeader::build(200, None).unwrap();
        for (name, value) in lines {
            header.append_header(*name, *value).unwrap();
        }
        header
    }

    #[test]
    fn what_belongs_to_one_hop_is_not_stored() {
        let mut response = header(&[
            ("Connection", "X-Nominated, close"),
            ("X-Nominated", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Transfer-Encoding", "chunked"),
            ("Age", "5"),
            ("X-Listed", "1"),
            ("X-Kept", "a"),
            ("X-Kept", "b"),
        ]);
        clean(&mut response, &["x-listed".parse().unwrap()]);
        let names: Vec<_> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-kept", "x-kept"]);
    }

    #[test]
    fn a_304_updates_everything_but_the_description_of_the_body() {
        let stored = header(&[("X-A", "1"), ("X-A", "2"), ("X-B", "b"), ("Content-Length", "5"), ("ETag", "\"1\"")]);
        let update =
            header(&[("X-A", "3"), ("Content-Length", "0"), ("ETag", "\"2\""), ("Connection", "X-B"), ("X-B", "c")]);
        let fresh = freshen(&stored, &update.headers);
        let all =
            |name: &str| fresh.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((all("x-a"), all("x-b")), (vec!["3"], vec!["b"]));
        assert_eq!((all("content-length"), all("etag")), (vec!["5"], vec!["\"1\""]));
        assert!(all("connection").is_empty());
    }
}
