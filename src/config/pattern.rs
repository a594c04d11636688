//! The syntax of `path` and `upstream_path`, as far as it can be judged before any request: what could never
//! match, what could never be filled, and when two patterns are the same.

use super::diagnostic::{Collector, Diagnostic};
use super::node::Node;
use super::reader::{refuse, suggest};
use super::scalar::{quote, quote_text, text};

/// What the wildcard captures is called this in `upstream_path`.
const WILDCARD: &str = "path";

/// A checked `path`.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// As in the file.
    pub(super) written: String,
    /// The same for all patterns that match the same paths: names become `{}`, `*` becomes `/*`.
    pub(super) shape: String,
    /// What `upstream_path` may use.
    names: Vec<String>,
}

/// `/exact`, `/prefix/*`, `*`, `/users/{id}/orders`.
pub(super) fn read_pattern(node: &Node, found: &Collector) -> Option<Pattern> {
    let written = text(node, found)?;
    match parse_pattern(&written) {
        Ok(pattern) => Some(pattern),
        Err((message, label)) => {
            refuse(node, found, format!("the path {} {message}", quote(&node.spot, &written)), label)
        }
    }
}

type Refusal = (String, &'static str);

fn parse_pattern(written: &str) -> Result<Pattern, Refusal> {
    let fail = |message: &str, label| Err((message.to_owned(), label));
    let (literal, wildcard) = match written.strip_suffix('*') {
        Some("") => ("/", true),
        Some(literal) if literal.ends_with('/') => (literal, true),
        Some(_) => return fail("ends in a `*` that is not a whole segment", "write `/*` at the end, or `*` alone"),
        None => (written, false),
    };
    if !literal.starts_with('/') {
        return fail("does not begin with `/`", "only a bare `*` does not");
    }
    if literal.contains('*') {
        return fail(
            "has a `*` that is not at its end",
            "a wildcard takes the rest of the path; `{name}` takes one segment",
        );
    }
    if literal.contains(['?', '#']) {
        return fail("has a query or fragment", "a route matches the path only");
    }
    check_bytes(literal)?;
    let mut names: Vec<String> = Vec::new();
    let mut shape = String::new();
    let segments: Vec<&str> = literal.split('/').skip(1).collect();
    for (index, segment) in segments.iter().enumerate() {
        shape.push('/');
        let last = index + 1 == segments.len();
        match *segment {
            "" if last => {}
            "" => return fail("has an empty segment (`//`)", "such requests are refused with 400"),
            "." | ".." => return fail("has a dot segment", "such requests are refused with 400"),
            _ => match parameter(segment)? {
                None => shape.push_str(segment),
                Some(name) if names.contains(&name) => {
                    return fail("has one name twice", "give each segment its own name");
                }
                Some(name) => {
                    names.push(name);
                    shape.push_str("{}");
                }
            },
        }
    }
    if wildcard {
        if names.iter().any(|name| name == WILDCARD) {
            return fail(
                "names a segment `{path}` and has a wildcard",
                "`{path}` is what the wildcard captures: rename the segment",
            );
        }
        names.push(WILDCARD.to_owned());
        shape.push('*');
    }
    Ok(Pattern { written: written.to_owned(), shape, names })
}

/// `Some(name)` for a segment `{name}`.
fn parameter(segment: &str) -> Result<Option<String>, Refusal> {
    if !segment.contains(['{', '}']) {
        return Ok(None);
    }
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match name {
        Some("") => Err(("has a `{}` without a name".to_owned(), "write `{name}`")),
        Some(name) if is_name(name) => Ok(Some(name.to_owned())),
        _ => Err((
            "has braces that are not a whole segment".to_owned(),
            "`{name}` stands for one whole segment: letters, digits and `_`",
        )),
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(plain) && !name.starts_with(|letter: char| letter.is_ascii_digit())
}

/// Bytes that no accepted request path holds: the route would never match.
fn check_bytes(path: &str) -> Result<(), Refusal> {
    if path.bytes().any(|byte| !(0x21..=0x7e).contains(&byte)) {
        return Err((
            "has a character outside printable ASCII".to_owned(),
            "write it percent-encoded, as browsers send it",
        ));
    }
    if path.contains('\\') {
        return Err(("has a backslash".to_owned(), "such requests are refused with 400"));
    }
    for escape in path.split('%').skip(1) {
        let hex = escape.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match hex.map(str::to_ascii_lowercase).as_deref() {
            None => return Err(("has a `%` that is no escape".to_owned(), "two hexadecimal digits follow a `%`")),
            Some("2e" | "2f" | "5c" | "00") => {
                return Err((
                    "has an escape that is always refused".to_owned(),
                    "requests with %2e, %2f, %5c or %00 get 400",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// An `upstream_path`; its placeholders must be captured by `pattern` (unless that is itself broken).
pub(super) fn read_template(node: &Node, pattern: Option<&Pattern>, found: &Collector) -> Option<String> {
    let template = text(node, found)?;
    let refused = |message: &str, label: &str| {
        refuse(node, found, format!("the upstream path {} {message}", quote(&node.spot, &template)), label)
    };
    if !template.starts_with('/') {
        return refused("does not begin with `/`", "");
    }
    if template.contains(['*', '?', '#']) {
        return refused("has a `*`, `?` or `#`", "the wildcard's capture is `{path}`; the query travels by itself");
    }
    if let Err((message, label)) = check_bytes(&template) {
        return refused(&message, label);
    }
    let names = match placeholders(&template) {
        Ok(names) => names,
        Err(message) => return refused(message, "a placeholder is `{name}`"),
    };
    let Some(pattern) = pattern else { return Some(template) };
    for name in &names {
        if !pattern.names.iter().any(|known| known == name) {
            let message =
                format!("the placeholder `{{{name}}}` is not captured by the path {}", quote_text(&pattern.written));
            let captured: Vec<String> = pattern.names.iter().map(|name| format!("{{{name}}}")).collect();
            let captured = if captured.is_empty() { "nothing".to_owned() } else { captured.join(", ") };
            let error =
                Diagnostic::error(&node.spot, message).label(suggest(name, pattern.names.iter().map(String::as_str)));
            found.push(error.note(format!("captured: {captured}")));
            return None;
        }
    }
    if pattern.shape.ends_with('*') && !names.contains(&WILDCARD) {
        let warning = Diagnostic::warning(&node.spot, "what the wildcard captures is dropped");
        found.push(warning.label("every request goes to this one path; append `{path}`"));
    }
    Some(template)
}

fn placeholders(template: &str) -> Result<Vec<&str>, &'static str> {
    let mut names = Vec::new();
    let mut pieces = template.split('{');
    if pieces.next().is_some_and(|literal| literal.contains('}')) {
        return Err("has a `}` without its `{`");
    }
    for piece in pieces {
        let Some((name, literal)) = piece.split_once('}') else { return Err("has a `{` without its `}`") };
        if name.is_empty() || !is_name(name) || literal.contains('}') {
            return Err("has braces that are no placeholder");
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_match_the_same_paths_have_one_shape() {
        for (path, shape) in [
            ("*", "/*"),
            ("/*", "/*"),
            ("/", "/"),
            ("/a/{b}/c", "/a/{}/c"),
            ("/a/{x}/c", "/a/{}/c"),
            ("/a/", "/a/"),
            ("/a/{id}/*", "/a/{}/*"),
            ("/caf%C3%A9", "/caf%C3%A9"),
        ] {
            assert_eq!(parse_pattern(path).unwrap().shape, shape, "{path}");
        }
    }

    #[test]
    fn paths_that_could_never_match_are_refused() {
        for path in [
            "",
            "a",
            "/a*",
            "/*/b",
            "**",
            "/a//b",
            "/a/../b",
            "/a/{}",
            "/a/{b",
            "/a/x{b}",
            "/{a}/{a}",
            "/{path}/*",
            "/é",
            "/a b",
            "/%2F",
            "/%zz",
            "/a%",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/{1a}",
        ] {
            assert!(parse_pattern(path).is_err(), "{path}");
        }
    }

    #[test]
    fn placeholders_are_found_and_braces_must_pair() {
        assert_eq!(placeholders("/v2-{id}/{path}"), Ok(vec!["id", "path"]));
        for template in ["/{", "/}", "/{a}}", "/{}", "/{a b}"] {
            assert!(placeholders(template).is_err(), "{template}");
        }
    }
}
