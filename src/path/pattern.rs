//! The `path` of a route, read once: what it matches, how specific it is, and where its captures
//! lie in a path that it matched.

use super::canonical::{CanonicalPath, PathRefusal};

/// `/exact`, `/below/*`, `/a/{name}/b`, or `*`.
///
/// `/x/*` matches `/x/` and everything below it, not `/x`. `{name}` is one whole segment, never
/// empty. Literals are compared decoded, so a route may be written with or without escapes.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Box<str>,
    /// Decoded; up to the first placeholder. Ends with `/` unless the pattern is exact or bare `*`.
    literal: Box<str>,
    tail: Box<[Piece]>,
    captures: Box<[(Box<str>, Capture)]>,
}

/// One segment after the literal prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Piece {
    /// This segment, decoded.
    Literal(Box<str>),
    /// Any segment but an empty one.
    Segment,
    /// Whatever is left, also nothing; always the last piece.
    Rest,
}

/// Where in a path something was captured; segments count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capture {
    Segment(usize),
    Rest(usize),
}

/// Why a `path` cannot be a route's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Neither `*` nor starting with `/`.
    #[error("it must start with `/`, or be `*` alone")]
    NotAbsolute,
    /// `*` anywhere but as the whole last segment.
    #[error("`*` is allowed only as the whole last segment")]
    StrayStar,
    /// `{` or `}` in a segment that is not wholly a placeholder.
    #[error("a placeholder must be a whole segment: `/{{name}}/`")]
    PartialPlaceholder,
    /// Letters, digits and `_` are allowed.
    #[error("`{{{0}}}` is not a name: letters, digits and `_` are allowed")]
    BadName(String),
    /// The trailing wildcard is called `path`.
    #[error("`{{{0}}}` is captured twice")]
    DuplicateName(String),
    /// No request could ever have this path.
    #[error("no request can have this path: {0}")]
    NotCanonical(PathRefusal),
}

/// Stands for a capture while the text around it is checked; never refused.
const STAND_IN: &str = "x";

impl Pattern {
    /// Reads a route's `path`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let body = match text {
            "*" => "*",
            other => other.strip_prefix('/').ok_or(PatternError::NotAbsolute)?,
        };
        let mut captures = Vec::new();
        let mut stand_in = String::new();
        for (at, segment) in body.split('/').enumerate() {
            stand_in.push('/');
            if segment == "*" {
                captures.push(("path".into(), Capture::Rest(at)));
            } else if let Some(name) = placeholder(segment)? {
                captures.push((name.into(), Capture::Segment(at)));
                stand_in.push_str(STAND_IN);
            } else {
                stand_in.push_str(segment);
            }
        }
        check_captures(&captures, body.split('/').count())?;
        let known = CanonicalPath::parse(stand_in.as_bytes()).map_err(PatternError::NotCanonical)?;
        let (literal, tail) = split(&known.decoded(), &captures);
        let literal = if text == "*" { "".into() } else { literal };
        Ok(Self { text: text.into(), literal, tail, captures: captures.into() })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Matches one path only.
    pub fn is_exact(&self) -> bool {
        self.tail.is_empty()
    }

    /// Everything before the first placeholder, decoded.
    pub fn literal_prefix(&self) -> &str {
        &self.literal
    }

    pub(crate) fn tail(&self) -> &[Piece] {
        &self.tail
    }

    /// The same for all patterns that match the same paths, however they are written.
    pub(crate) fn shape(&self) -> (&str, &[Piece]) {
        (if self.literal.is_empty() { "/" } else { &self.literal }, &self.tail)
    }

    /// What an `upstream_path` may use.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.captures.iter().map(|(name, _)| &**name)
    }

    /// Whether a wildcard takes the rest.
    pub(crate) fn has_wildcard(&self) -> bool {
        self.tail.last() == Some(&Piece::Rest)
    }

    pub(crate) fn capture(&self, name: &str) -> Option<Capture> {
        self.captures.iter().find(|(known, _)| **known == *name).map(|&(_, capture)| capture)
    }
}

impl Capture {
    /// The captured text, as sent and without a leading slash.
    pub(crate) fn of(self, path: &CanonicalPath) -> Option<&str> {
        let (Self::Segment(at) | Self::Rest(at)) = self;
        // A path starts with `/`: what is before the first slash is no segment.
        let mut rest = path.as_str();
        for _ in 0..=at {
            rest = rest.get(memchr::memchr(b'/', rest.as_bytes())? + 1..)?;
        }
        let end = matches!(self, Self::Segment(_)).then(|| memchr::memchr(b'/', rest.as_bytes())).flatten();
        end.map_or(Some(rest), |end| rest.get(..end))
    }
}

/// The name in `{name}`; `None` for a literal segment.
pub(super) fn placeholder(segment: &str) -> Result<Option<&str>, PatternError> {
    if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return if fits { Ok(Some(name)) } else { Err(PatternError::BadName(name.to_owned())) };
    }
    if segment.contains(['{', '}']) {
        return Err(PatternError::PartialPlaceholder);
    }
    if segment.contains('*') { Err(PatternError::StrayStar) } else { Ok(None) }
}

fn check_captures(captures: &[(Box<str>, Capture)], segments: usize) -> Result<(), PatternError> {
    for (at, (name, capture)) in captures.iter().enumerate() {
        if matches!(capture, Capture::Rest(last) if last + 1 != segments) {
            return Err(PatternError::StrayStar);
        }
        if captures.iter().take(at).any(|(earlier, _)| earlier == name) {
            return Err(PatternError::DuplicateName(name.to_string()));
        }
    }
    Ok(())
}

/// Cuts the decoded stand-in path at the first capture.
fn split(decoded: &str, captures: &[(Box<str>, Capture)]) -> (Box<str>, Box<[Piece]>) {
    let Some((_, first)) = captures.first() else { return (decoded.into(), Box::default()) };
    let (Capture::Segment(first) | Capture::Rest(first)) = *first;
    let mut literal = String::from("/");
    let mut tail = Vec::new();
    for (at, segment) in decoded.split('/').skip(1).enumerate() {
        if at < first {
            literal.push_str(segment);
            literal.push('/');
            continue;
        }
        let here = captures
            .iter()
            .find(|(_, capture)| matches!(capture, Capture::Segment(here) | Capture::Rest(here) if *here == at));
        tail.push(match here {
            Some((_, Capture::Segment(_))) => Piece::Segment,
            Some((_, Capture::Rest(_))) => Piece::Rest,
            None => Piece::Literal(segment.into()),
        });
    }
    (literal.into(), tail.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_literal() {
        for (text, literal, exact) in [
            ("/a/b", "/a/b", true),
            ("/", "/", true),
            ("/a/*", "/a/", false),
            ("/*", "/", false),
            ("*", "", false),
            ("/a/{x}/b", "/a/", false),
            ("/caf%C3%A9/{x}", "/café/", false),
        ] {
            let pattern = Pattern::parse(text).unwrap();
            assert_eq!((pattern.literal_prefix(), pattern.is_exact()), (literal, exact), "{text}");
        }
    }

    #[test]
    fn patterns_that_match_the_same_paths_have_one_shape() {
        let read = |text: &str| Pattern::parse(text).unwrap();
        for (one, other) in [("*", "/*"), ("/a/{b}/c", "/a/{x}/c"), ("/caf%C3%A9", "/caf%c3%a9"), ("/%61/*", "/a/*")] {
            assert_eq!(read(one).shape(), read(other).shape(), "{one} {other}");
        }
        for (one, other) in [("/a", "/a/"), ("/a/%7B%7D", "/a/{x}"), ("/a/{b}/c", "/a/{b}/*")] {
            assert_ne!(read(one).shape(), read(other).shape(), "{one} {other}");
        }
    }

    #[test]
    fn refuses_what_cannot_match() {
        use PatternError::*;
        for (text, error) in [
            ("", NotAbsolute),
            ("a", NotAbsolute),
            ("/*/a", StrayStar),
            ("/a*", StrayStar),
            ("/a{x}", PartialPlaceholder),
            ("/{}", BadName(String::new())),
            ("/{a-b}", BadName("a-b".into())),
            ("/{x}/{x}", DuplicateName("x".into())),
            ("/{path}/*", DuplicateName("path".into())),
            ("/a/../b", NotCanonical(PathRefusal::DotSegment)),
            ("/é", NotCanonical(PathRefusal::NonAscii)),
        ] {
            assert_eq!(Pattern::parse(text).unwrap_err(), error, "{text}");
        }
    }
}
