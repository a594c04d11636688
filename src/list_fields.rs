//! Fields that are lists (RFC 9110 §5.6.1). Read as bytes: an odd one among the members spoils none of the others.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName};

/// The members of a field, of all its lines.
pub(crate) fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The fields that `Connection` names as those of one hop (RFC 9110 §7.6.1). The framing is the engine's business, which
/// has read it by then.
pub(crate) fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    members(headers, &CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| ![CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_odd_member_spoils_none_of_the_others() {
        let mut headers = HeaderMap::new();
        for line in [&b"X-A , \xff, close"[..], b"content-length,x-b"] {
            headers.append(CONNECTION, HeaderValue::from_bytes(line).unwrap());
        }
        assert_eq!(nominated(&headers), ["x-a", "close", "x-b"]);
        assert_eq!(members(&headers, &CONNECTION).count(), 5);
    }
}
