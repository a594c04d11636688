//! The path of a request in the one spelling that is matched, authorised and forwarded. Whatever a
//! decoder further on could read as another path is refused here, so that nobody behind us can
//! disagree about which route a request was.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{percent_decode, percent_decode_str};

/// A path without query: absolute, no `.`/`..`/empty segment at any depth of decoding, escapes
/// complete and UTF-8. Escaped unreserved characters are decoded (RFC 3986 §6.2.2.2); every other
/// byte is as sent, the case of hex digits and a trailing slash included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CanonicalPath(Box<str>);

/// Why a path is not taken. Shown to the client as the detail of a 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathRefusal {
    /// No leading `/` (`OPTIONS *` included).
    #[error("the path does not start with a slash")]
    NotAbsolute,
    /// `.` or `..` in any spelling, also with `;` parameters.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// `//`, or a segment that is only a `;` parameter (`/;x/`), which some servers cut to nothing.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `\` or `%5c`.
    #[error("the path has a backslash")]
    Backslash,
    /// `%2f`.
    #[error("the path has an escaped slash")]
    EncodedSlash,
    /// 0x00–0x1f or 0x7f, raw or escaped.
    #[error("the path has a control character")]
    ControlByte,
    /// `#`.
    #[error("the path has a raw `#`")]
    Fragment,
    /// A raw byte above 0x7f.
    #[error("the path has a byte outside ASCII that is not percent-encoded")]
    NonAscii,
    /// A raw ASCII byte that RFC 3986 allows in no path, such as a space, `"`, `<` or `|`.
    #[error("the path has a character that must be percent-encoded")]
    ForbiddenByte,
    /// `%` without two hex digits.
    #[error("the path has a `%` that is not followed by two hex digits")]
    BadEscape,
    /// Escapes that are not UTF-8: overlong forms, Latin-1, lone surrogates.
    #[error("the path has escapes that are not valid UTF-8")]
    NotUtf8,
    /// `%252e`, `%252f`, `%255c`, `%2500` and deeper: harmless once decoded, harmful twice.
    #[error("the path has a doubly encoded dot, slash, backslash or control character")]
    DoubleEncoded,
}

impl CanonicalPath {
    /// Reads the path of a request target, without the query.
    pub fn parse(raw: &[u8]) -> Result<Self, PathRefusal> {
        if raw.first() != Some(&b'/') {
            return Err(PathRefusal::NotAbsolute);
        }
        let text = decode_unreserved(raw)?;
        let path = Self(std::str::from_utf8(&text).map_err(|_| PathRefusal::NonAscii)?.into());
        let Cow::Owned(_) = text else {
            // Nothing is escaped: what is written is what everybody reads.
            check_segments(raw)?;
            return Ok(path);
        };
        let decoded = percent_decode_str(&path.0).decode_utf8().map_err(|_| PathRefusal::NotUtf8)?;
        check_segments(decoded.as_bytes())?;
        if decoded.contains('%') {
            check_deeper(&decoded)?;
        }
        drop(decoded);
        Ok(path)
    }

    /// The bytes to forward.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a server behind us reads after decoding; has as many segments as the path itself.
    /// Routes are matched on this, or `/%40me` would slip past a route for `/@me`.
    pub fn decoded(&self) -> Cow<'_, str> {
        percent_decode_str(&self.0).decode_utf8_lossy()
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What may stand in a path as it is: RFC 3986 §3.3, and `[` `]`, which that section leaves out but
/// browsers send (WHATWG URL, path percent-encode set) and nobody reads in two ways.
const fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'[' | b']'
        )
}

const fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// Decodes the escapes that mean the same decoded, keeps the others, refuses bytes and escapes that
/// are wrong wherever they stand.
fn decode_unreserved(raw: &[u8]) -> Result<Cow<'_, [u8]>, PathRefusal> {
    if raw.iter().copied().all(is_plain) {
        return Ok(Cow::Borrowed(raw));
    }
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>().ok_or(PathRefusal::BadEscape)?;
                rest = after;
                push_escape(&mut text, *digits)?;
            }
            plain if is_plain(plain) => text.push(plain),
            b'#' => return Err(PathRefusal::Fragment),
            b'\\' => return Err(PathRefusal::Backslash),
            control if is_control(control) => return Err(PathRefusal::ControlByte),
            other if !other.is_ascii() => return Err(PathRefusal::NonAscii),
            _ => return Err(PathRefusal::ForbiddenByte),
        }
    }
    Ok(Cow::Owned(text))
}

fn push_escape(text: &mut Vec<u8>, digits: [u8; 2]) -> Result<(), PathRefusal> {
    let [high, low] = digits;
    match (hex(high)? << 4) | hex(low)? {
        b'/' => Err(PathRefusal::EncodedSlash),
        b'\\' => Err(PathRefusal::Backslash),
        control if is_control(control) => Err(PathRefusal::ControlByte),
        byte if is_unreserved(byte) => {
            text.push(byte);
            Ok(())
        }
        _ => {
            text.extend_from_slice(&[b'%', high, low]);
            Ok(())
        }
    }
}

fn hex(digit: u8) -> Result<u8, PathRefusal> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(PathRefusal::BadEscape),
    }
}

/// Looks at each segment as a server sees it that cuts `;` parameters off (RFC 3986 §3.3).
fn check_segments(decoded: &[u8]) -> Result<(), PathRefusal> {
    let mut segments = decoded.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
        match name {
            b"." | b".." => return Err(PathRefusal::DotSegment),
            // The last one is what a trailing slash leaves.
            b"" if !segment.is_empty() || segments.peek().is_some() => return Err(PathRefusal::EmptySegment),
            _ => {}
        }
    }
    Ok(())
}

/// More layers of escapes than this have no honest use, and each costs a pass.
const MAX_LAYERS: usize = 4;

/// Decodes on as a careless chain of servers would, and refuses what becomes harmful on the way.
fn check_deeper(decoded: &str) -> Result<(), PathRefusal> {
    let slashes = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'/').count();
    let mut layer: Cow<'_, [u8]> = Cow::Borrowed(decoded.as_bytes());
    for _ in 0..MAX_LAYERS {
        let next: Cow<'_, [u8]> = percent_decode(&layer).collect::<Vec<u8>>().into();
        if next == layer {
            return Ok(());
        }
        let harmful = next.iter().any(|&byte| byte == b'\\' || is_control(byte))
            || slashes(&next) != slashes(&layer)
            || check_segments(&next).is_err();
        if harmful {
            return Err(PathRefusal::DoubleEncoded);
        }
        layer = next;
    }
    Err(PathRefusal::DoubleEncoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::PathRefusal::*;
    use super::*;

    fn parse(raw: &str) -> Result<String, PathRefusal> {
        CanonicalPath::parse(raw.as_bytes()).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn keeps_what_is_unambiguous() {
        for raw in [
            "/", "/a/", "/a/b;v=1/c", "/a..b/...", "/.well-known/x", "/caf%C3%A9", "/caf%c3%a9", "/a%20b%3F", "/100%25",
            "/100%2525", "/5%25off", "/a:b@c!$&'()*+,;=~-_", "/[id]", "/%40me", "/a%3Bb",
        ] {
            assert_eq!(parse(raw).as_deref(), Ok(raw));
        }
        assert_eq!(parse("/%61dmin%7e/%2D").as_deref(), Ok("/admin~/-"));
    }

    #[test]
    fn refuses_what_could_be_read_differently() {
        let cases: &[(PathRefusal, &[&str])] = &[
            (NotAbsolute, &["", "*", "a/b", "%2fa", "http://x/"]),
            (
                DotSegment,
                &[
                    "/.", "/..", "/a/../b", "/a/./b", "/a/%2e%2E/b", "/a/.%2e", "/a/..;/b", "/a/..;x=1/b", "/.;", "/.;a;b",
                    "/..%3b/b", "/%2e%2e%3Bx",
                ],
            ),
            (EmptySegment, &["//", "//a", "/a//b", "/a//", "/;/a", "/a/;x", "/a/%3b/b"]),
            (Backslash, &["/a\\b", "/a%5cb", "/a%5Cb"]),
            (EncodedSlash, &["/a%2fb", "/..%2F"]),
            (ControlByte, &["/%00", "/a\0", "/%0a", "/%1F", "/%7f", "/\u{7f}", "/a\tb", "/\r\n"]),
            (Fragment, &["/a#b"]),
            (NonAscii, &["/é"]),
            (ForbiddenByte, &["/a b", "/a\"b", "/<", "/>", "/^", "/`", "/{", "/|", "/}", "/a?b"]),
            (BadEscape, &["/%", "/%4", "/%zz", "/%u002e", "/%2", "/%+1"]),
            (NotUtf8, &["/%c0%ae", "/%e9", "/%C0%AF", "/%ED%A0%80", "/%f8%80%80%80%ae"]),
            (
                DoubleEncoded,
                &[
                    "/%252e", "/%252E%252e/a", "/a%252fb", "/a%255Cb", "/%2500", "/%250a", "/%25%32e", "/%25252e", "/a/%252e.",
                    "/a/..%253b/b", "/%25252525252525",
                ],
            ),
        ];
        for (refusal, paths) in cases {
            for raw in *paths {
                assert_eq!(parse(raw), Err(*refusal), "{raw:?}");
            }
        }
        assert_eq!(CanonicalPath::parse(b"/\xff"), Err(NonAscii));
    }

    /// Made of the parts that matter, so that most cases are near the border.
    fn any_path() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "/", "/", "/", ".", "..", ";", "a", "b", "2", "e", "5", "F", "c", "%", "%2", "%25", "%2e", "%2F", "%5c", "%3b",
            "%61", "%32", "%65", "%C3%A9", "%c0", "\\", "%00", "*",
        ]);
        prop::collection::vec(part, 0..10).prop_map(|parts| format!("/{}", parts.concat()))
    }

    /// An independent decoder, as lenient as the worst.
    fn decode_once(text: &[u8]) -> Vec<u8> {
        let digit = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
        let (mut out, mut at) = (Vec::new(), 0);
        while at < text.len() {
            match (text[at], digit(text.get(at + 1)), digit(text.get(at + 2))) {
                (b'%', Some(high), Some(low)) => {
                    out.push(u8::try_from(high * 16 + low).unwrap());
                    at += 3;
                }
                (byte, ..) => {
                    out.push(byte);
                    at += 1;
                }
            }
        }
        out
    }

    fn is_safe(text: &[u8], slashes: usize) -> bool {
        let mut segments = text.split(|&b| b == b'/').map(|s| s.split(|&b| b == b';').next().unwrap());
        text.iter().filter(|&&b| b == b'/').count() == slashes
            && !text.iter().any(|&b| b == b'\\' || b == 0)
            && !segments.any(|segment| segment == b"." || segment == b"..")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn no_decoder_further_on_finds_another_path(raw in any_path()) {
            if let Ok(path) = parse(&raw) {
                let slashes = path.matches('/').count();
                let once = decode_once(path.as_bytes());
                let twice = decode_once(&once);
                let thrice = decode_once(&twice);
                for text in [path.as_bytes(), &once, &twice, &thrice] {
                    prop_assert!(is_safe(text, slashes), "{raw:?} is read as {}", text.escape_ascii());
                }
                prop_assert!(!path.contains("//"));
                prop_assert_eq!(parse(&path), Ok(path.clone()));
                prop_assert_eq!(&once, &decode_once(raw.as_bytes()), "the meaning changed");
            }
        }

        #[test]
        fn any_bytes_are_answered(raw in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = CanonicalPath::parse(&raw);
        }

        #[test]
        fn ordinary_paths_pass_untouched(raw in "(/[a-z0-9_~-][a-z0-9._~-]{0,6}){1,5}/?") {
            prop_assert_eq!(parse(&raw), Ok(raw));
        }
    }
}
