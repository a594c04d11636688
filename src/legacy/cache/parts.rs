//! Parts of a stored answer (RFC 9110 §14.2), but for those that the engine would answer with nonsense.

use http::header::{CONTENT_LENGTH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{RangeType, range_header_filter};

/// Parts that one request may name.
const MOST: Option<usize> = Some(200);

/// Which part is sent; makes `response` its head.
pub(super) fn parts(request: &RequestHeader, response: &mut ResponseHeader) -> RangeType {
    // RFC 9110 §13.1.5: parts are put together only by a tag that stands for the very bytes.
    let weak = request.headers.get(IF_RANGE).is_some_and(|tag| tag.as_bytes().trim_ascii().starts_with(b"W/"));
    let plain = |range: &HeaderValue| !weak && is_plain(&request.method, range.as_bytes(), &response.headers);
    if request.headers.get(RANGE).is_none_or(plain) {
        return range_header_filter(request, response, MOST);
    }
    // A `Range` may be ignored (RFC 9110 §14.2): the whole is sent, which still says that there are parts.
    let mut whole = request.clone();
    whole.remove_header(&RANGE);
    range_header_filter(&whole, response, MOST)
}

/// Ranges are for GET alone; an empty body has none, and `-0` selects nothing.
fn is_plain(method: &Method, range: &[u8], response: &HeaderMap) -> bool {
    let empty = response.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
    let zeros = |digits: &[u8]| !digits.is_empty() && digits.iter().all(|digit| *digit == b'0');
    let mut parts = range.split(|byte| matches!(byte, b'=' | b','));
    let nothing = parts.any(|part| part.trim_ascii().strip_prefix(b"-").is_some_and(zeros));
    *method == Method::GET && !empty && !nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(method: &str, range: &str, length: usize) -> (RangeType, u16, Option<String>) {
        let mut request = RequestHeader::build(method, b"/", None).unwrap();
        request.insert_header(RANGE, range).unwrap();
        let mut response = ResponseHeader::build(200, None).unwrap();
        response.insert_header(CONTENT_LENGTH, length).unwrap();
        let part = parts(&request, &mut response);
        let told = response.headers.get("content-range").map(|value| value.to_str().unwrap().to_owned());
        (part, response.status.as_u16(), told)
    }

    #[test]
    fn parts_are_cut_and_nonsense_is_not_answered_with_nonsense() {
        assert_eq!(part("GET", "bytes=-3", 10), (RangeType::Single(7..10), 206, Some("bytes 7-9/10".into())));
        assert_eq!(part("GET", "bytes=0-0", 10), (RangeType::Single(0..1), 206, Some("bytes 0-0/10".into())));
        assert_eq!(part("GET", "bytes=10-", 10), (RangeType::Invalid, 416, Some("bytes */10".into())));
        for (method, range, length) in [
            ("GET", "bytes=-1", 0),
            ("GET", "bytes=-0", 0),
            ("GET", "bytes=0-", 0),
            ("GET", "bytes=-0", 10),
            ("GET", "bytes= -00 ", 10),
            ("GET", "bytes=0-1, -0", 10),
            ("HEAD", "bytes=0-1", 10),
        ] {
            assert_eq!(part(method, range, length), (RangeType::None, 200, None), "{method} {range} of {length}");
        }
    }

    #[test]
    fn a_weak_tag_gets_the_whole() {
        for (tag, wanted, status) in [("W/\"a\"", "W/\"a\"", 200), ("\"a\"", "\"a\"", 206), ("\"a\"", "W/\"a\"", 200)] {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.insert_header(RANGE, "bytes=0-4").unwrap();
            request.insert_header(IF_RANGE, wanted).unwrap();
            let mut response = ResponseHeader::build(200, None).unwrap();
            response.insert_header(CONTENT_LENGTH, 10).unwrap();
            response.insert_header("ETag", tag).unwrap();
            parts(&request, &mut response);
            assert_eq!(response.status.as_u16(), status, "{wanted} of {tag}");
        }
    }
}
