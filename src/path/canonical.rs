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
        if !self.0.contains('%') {
            return Cow::Borrowed(&self.0);
        }
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
            b'/' | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'['
                | b']'
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
    let segments = |bytes: &[u8]| bytes.split(|&byte| byte == b'/').count();
    let mut layer: Cow<'_, [u8]> = Cow::Borrowed(decoded.as_bytes());
    for _ in 0..MAX_LAYERS {
        let next: Cow<'_, [u8]> = percent_decode(&layer).collect::<Vec<u8>>().into();
        if next == layer {
            return Ok(());
        }
        let harmful = next.iter().any(|&byte| byte == b'\\' || is_control(byte))
            || segments(&next) != segments(&layer)
            || check_segments(&next).is_err();
        if harmful {
            return Err(PathRefusal::DoubleEncoded);
        }
        layer = next;
    }
    Err(PathRefusal::DoubleEncoded)
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
