//! `upstream_path`: the path the service is asked for. A rewrite of a canonical path is canonical
//! again, because captures and literals meet only at a slash.

use std::borrow::Cow;

use super::canonical::{CanonicalPath, PathRefusal};
use super::pattern::{Capture, Pattern, PatternError, placeholder};

/// A compiled `upstream_path`.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    text: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Debug, Clone)]
enum Part {
    Literal(Box<str>),
    Capture(Capture),
}

/// Why an `upstream_path` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The placeholders themselves are wrong; a `*` means `{path}` was meant.
    #[error("{0}; the wildcard of `path` is written `{{path}}` here")]
    Shape(PatternError),
    /// The route's `path` has no such placeholder.
    #[error("`{{{0}}}` is not captured by the route's `path`")]
    Unknown(String),
    /// No path could ever come out of it.
    #[error("it makes a path that is not forwarded: {0}")]
    NotCanonical(PathRefusal),
}

impl Template {
    /// Compiles `text` for the captures of `pattern`.
    pub(crate) fn parse(text: &str, pattern: &Pattern) -> Result<Self, TemplateError> {
        Self::read(text, |name| pattern.capture(name))
    }

    /// As far as it can be judged without the pattern it belongs to.
    pub(crate) fn check(text: &str) -> Result<(), TemplateError> {
        Self::read(text, |_any| Some(Capture::Segment(0))).map(drop)
    }

    fn read(text: &str, capture: impl Fn(&str) -> Option<Capture>) -> Result<Self, TemplateError> {
        let body = text.strip_prefix('/').ok_or(TemplateError::NotCanonical(PathRefusal::NotAbsolute))?;
        let mut captures = Vec::new();
        let mut stand_in = String::new();
        for segment in body.split('/') {
            let name = placeholder(segment).map_err(TemplateError::Shape)?;
            let unknown = |name: &str| TemplateError::Unknown(name.to_owned());
            captures.push(name.map(|name| capture(name).ok_or_else(|| unknown(name))).transpose()?);
            stand_in.push('/');
            stand_in.push_str(name.map_or(segment, |_| "x"));
        }
        let known = CanonicalPath::parse(stand_in.as_bytes()).map_err(TemplateError::NotCanonical)?;
        let mut parts = Vec::new();
        let mut literal = String::new();
        for (segment, capture) in known.as_str().split('/').skip(1).zip(captures) {
            literal.push('/');
            match capture {
                Some(capture) => {
                    parts.push(Part::Literal(std::mem::take(&mut literal).into()));
                    parts.push(Part::Capture(capture));
                }
                None => literal.push_str(segment),
            }
        }
        parts.push(Part::Literal(literal.into()));
        Ok(Self { text: text.into(), parts: parts.into() })
    }

    /// Whether what the wildcard captures is in it.
    pub(crate) fn takes_the_rest(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Capture(Capture::Rest(_))))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// `None` for a path that the route does not match.
    pub(crate) fn apply(&self, path: &CanonicalPath) -> Option<String> {
        let mut out = String::with_capacity(self.text.len() + path.as_str().len());
        for part in &self.parts {
            match part {
                Part::Literal(text) => push_below(&mut out, text),
                Part::Capture(capture) => out.push_str(capture.of(path)?),
            }
        }
        Some(out)
    }
}

/// The path to ask of a service: its `base_url`'s path, then the request's. Never makes `//`.
pub fn join_base<'a>(base_path: &str, path: impl Into<Cow<'a, str>>) -> String {
    let path = path.into();
    if base_path.is_empty() || (base_path == "/" && path.starts_with('/')) {
        return path.into_owned();
    }
    let mut out = String::with_capacity(base_path.len() + path.len());
    out.push_str(base_path);
    push_below(&mut out, &path);
    out
}

/// An empty wildcard, one that ends with `/`, and a base path that does would double the slash.
fn push_below(out: &mut String, text: &str) {
    let text = if out.ends_with('/') { text.strip_prefix('/').unwrap_or(text) } else { text };
    out.push_str(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewrite(pattern: &str, template: &str, path: &str) -> String {
        let pattern = Pattern::parse(pattern).unwrap();
        Template::parse(template, &pattern).unwrap().apply(&CanonicalPath::parse(path.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn fills_captures_in() {
        assert_eq!(rewrite("/api/v1/a/*", "/v2/{path}", "/api/v1/a/x%20y/z/"), "/v2/x%20y/z/");
        assert_eq!(rewrite("/api/*", "/v2/{path}", "/api/"), "/v2/");
        assert_eq!(rewrite("/api/*", "/v2/{path}/end", "/api/"), "/v2/end");
        assert_eq!(rewrite("/api/*", "/v2/{path}/end", "/api/a/"), "/v2/a/end");
        assert_eq!(rewrite("*", "/{path}", "/a/b"), "/a/b");
        assert_eq!(rewrite("/t/{tenant}/{id}/*", "/{id}/of/{tenant}/{path}", "/t/a/b/c/d"), "/b/of/a/c/d");
        assert_eq!(rewrite("/x", "/%7euser/%C3%A9", "/x"), "/~user/%C3%A9");
    }

    #[test]
    fn refuses_templates_that_could_break_a_path() {
        let parse = |text: &str| Template::parse(text, &Pattern::parse("/{id}/*").unwrap()).unwrap_err();
        assert_eq!(parse("/{nope}"), TemplateError::Unknown("nope".into()));
        assert_eq!(parse("/v{id}"), TemplateError::Shape(PatternError::PartialPlaceholder));
        assert_eq!(parse("/v/*"), TemplateError::Shape(PatternError::StrayStar));
        assert_eq!(parse("v"), TemplateError::NotCanonical(PathRefusal::NotAbsolute));
        assert_eq!(parse("/../{path}"), TemplateError::NotCanonical(PathRefusal::DotSegment));
        assert_eq!(parse("/a?b=1"), TemplateError::NotCanonical(PathRefusal::ForbiddenByte));
    }

    #[test]
    fn joins_without_doubling_the_slash() {
        for (base, path, joined) in
            [("", "/a", "/a"), ("/", "/a", "/a"), ("/", "a", "/a"), ("/b", "/a", "/b/a"), ("/b/", "/", "/b/")]
        {
            assert_eq!(join_base(base, path), joined);
        }
    }

    proptest! {
        #[test]
        fn a_rewrite_of_a_canonical_path_is_canonical(
            template in "(/(v1|~u|%C3%A9|a;b|\\{one\\}|\\{two\\}|\\{path\\})){1,5}/?",
            path in "/p/[a-z;%25]{1,6}/([a-z0-9;.%]{1,4})(/[a-z0-9;.%]{1,4}){0,3}/?",
        ) {
            let pattern = Pattern::parse("/p/{one}/{two}/*").unwrap();
            let template = Template::parse(&template, &pattern).unwrap();
            if let Ok(path) = CanonicalPath::parse(path.as_bytes())
                && let Some(rewritten) = template.apply(&path)
            {
                let again = CanonicalPath::parse(rewritten.as_bytes());
                prop_assert_eq!(again.as_ref().map(CanonicalPath::as_str), Ok(rewritten.as_str()));
            }
        }
    }
}
