//! The `Cookie` header as bytes: its pairs, and the header without some of them.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// What is left of the `Cookie` header once our cookies are out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// At most one field, none of ours in it: leave the header alone.
    Unchanged,
    /// Send this one field instead of all `Cookie` fields.
    Replaced(HeaderValue),
    /// Nothing is left: send no `Cookie` at all.
    Removed,
}

/// Every pair of every `Cookie` field, in order, as (name, value). What has no `=` has no name
/// (RFC 6265 §4.2.1) and is not listed.
pub(super) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(COOKIE).into_iter().flat_map(pieces).filter_map(|(position, piece)| named(position, piece))
}

fn pieces(field: &HeaderValue) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = Some(field.as_bytes());
    // Not `split`, which looks at each byte by itself: a cookie is most of a head.
    let next = move || {
        let text = rest?;
        let (piece, after) = split_once(text, b';').map_or((text, None), |(piece, after)| (piece, Some(after)));
        rest = after;
        Some(piece)
    };
    std::iter::from_fn(next).enumerate()
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(memchr::memchr(at, text)?)?;
    Some((before, after.get(1..)?))
}

/// All `Cookie` fields as one (RFC 9113 §8.2.3), without the pairs whose name `is_ours`. The rest
/// stays as it was, byte for byte.
pub(super) fn cut(headers: &HeaderMap, is_ours: impl Fn(&[u8]) -> bool) -> Cut {
    let mut rest: Vec<u8> = Vec::new();
    let (mut fields, mut begun, mut found) = (0, false, false);
    for field in headers.get_all(COOKIE) {
        fields += 1;
        for (position, piece) in pieces(field) {
            if named(position, piece).is_some_and(|(name, _)| is_ours(name)) {
                found = true;
                continue;
            }
            match (begun, position) {
                (false, _) => rest.extend_from_slice(without_separator(position, piece)),
                (true, 0) => append(&mut rest, b"; ", piece),
                (true, _) => append(&mut rest, b";", piece),
            }
            begun = true;
        }
    }
    if fields == 0 || (fields == 1 && !found) {
        return Cut::Unchanged;
    }
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(rest)) {
        Ok(value) if !value.is_empty() => Cut::Replaced(value),
        _ => Cut::Removed,
    }
}

fn append(rest: &mut Vec<u8>, separator: &[u8], piece: &[u8]) {
    rest.extend_from_slice(separator);
    rest.extend_from_slice(piece);
}

/// A piece without the one space that RFC 6265 §4.2.1 puts after each `;`; no other trimming.
fn without_separator(position: usize, piece: &[u8]) -> &[u8] {
    if position == 0 { piece } else { piece.strip_prefix(b" ").unwrap_or(piece) }
}

fn named(position: usize, piece: &[u8]) -> Option<(&[u8], &[u8])> {
    split_once(without_separator(position, piece), b'=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        headers
    }

    fn without_s(fields: &[&[u8]]) -> Cut {
        cut(&headers(fields), |name| name == b"s")
    }

    fn replaced(value: &[u8]) -> Cut {
        Cut::Replaced(HeaderValue::from_bytes(value).unwrap())
    }

    #[test]
    fn ours_go_and_others_stay_byte_for_byte() {
        assert_eq!(without_s(&[]), Cut::Unchanged);
        assert_eq!(without_s(&[b"a=1; b=\"2\";c; ;S=3; ss=4"]), Cut::Unchanged);
        assert_eq!(without_s(&[b"s=1"]), Cut::Removed);
        assert_eq!(without_s(&[b"s=1", b"s=2"]), Cut::Removed);
        assert_eq!(without_s(&[b"s=1; a=2"]), replaced(b"a=2"));
        assert_eq!(without_s(&[b"a=1; s=x=y; b=2"]), replaced(b"a=1; b=2"));
        assert_eq!(without_s(&[b"a=1;s=2;b=3;;  c"]), replaced(b"a=1;b=3;;  c"));
        assert_eq!(without_s(&[b"a=\xff\xe9; s=1; s"]), replaced(b"a=\xff\xe9; s"));
        assert_eq!(without_s(&[b"a=1", b"s=2", b"b=3"]), replaced(b"a=1; b=3"));
        assert_eq!(without_s(&[b"a=1", b"b=3"]), replaced(b"a=1; b=3"));
    }

    /// The same in another way: text, whole, slow.
    fn oracle(fields: &[String]) -> Option<String> {
        let joined = fields.join("; ");
        let pieces: Vec<&str> = joined.split(';').collect();
        let separated = |position: usize| if position == 0 { "" } else { " " };
        let ours =
            |position: usize, piece: &str| piece.strip_prefix(separated(position)).unwrap_or(piece).starts_with("s=");
        let all = pieces.iter().copied().enumerate();
        let kept: Vec<&str> = all.filter(|(position, piece)| !ours(*position, piece)).map(|(_, piece)| piece).collect();
        let text = kept.join(";");
        let first_went = pieces.first().is_some_and(|piece| ours(0, piece));
        let text = if first_went { text.strip_prefix(' ').unwrap_or(&text).to_owned() } else { text };
        (!text.is_empty()).then_some(text)
    }

    proptest! {
        #[test]
        fn cuts_like_the_oracle(fields in proptest::collection::vec("[s=; a\"\t]{0,12}", 1..4)) {
            let map = headers(&fields.iter().map(String::as_bytes).collect::<Vec<_>>());
            let kept = match cut(&map, |name| name == b"s") {
                Cut::Unchanged => { prop_assert_eq!(fields.len(), 1); fields.first().cloned().filter(|f| !f.is_empty()) }
                Cut::Replaced(value) => Some(value.to_str().unwrap().to_owned()),
                Cut::Removed => None,
            };
            prop_assert_eq!(kept, oracle(&fields));
        }
    }
}
