//! `path` and `upstream_path` of a route, in the words of a report. What they may be is said in `path`, once for
//! this check and for the table of routes.

use super::diagnostic::{Collector, Diagnostic};
use super::node::Node;
use super::reader::{refuse, suggest};
use super::scalar::{quote, quote_text, text};
use crate::path::{PathRefusal, Pattern, PatternError, Template, TemplateError};

/// What the wildcard captures is called this in `upstream_path`.
const WILDCARD: &str = "path";

/// `/exact`, `/prefix/*`, `*`, `/users/{id}/orders`.
pub(super) fn read_pattern(node: &Node, found: &Collector) -> Option<Pattern> {
    let written = text(node, found)?;
    match Pattern::parse(&written) {
        Ok(pattern) => {
            if let Some(name) = colon_name(&written) {
                let warning = Diagnostic::warning(&node.spot, format!("`:{name}` is taken to the letter"));
                found.push(warning.label(format!("`{{{name}}}` takes any segment")));
            }
            Some(pattern)
        }
        Err(error) => {
            refuse(node, found, format!("the path {}: {error}", quote(&node.spot, &written)), hint(&error, &written))
        }
    }
}

/// The name of a segment as other routers write it: `/:user`.
fn colon_name(written: &str) -> Option<&str> {
    let named = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    written.split('/').filter_map(|segment| segment.strip_prefix(':')).find(named)
}

/// What to do about it.
fn hint(error: &PatternError, written: &str) -> &'static str {
    match error {
        PatternError::NotAbsolute => "",
        PatternError::StrayStar => "write `/*` at the end, or `*` alone; `{name}` takes one segment",
        PatternError::PartialPlaceholder | PatternError::BadName(_) => "`{name}` stands for one whole segment",
        PatternError::DuplicateName(name) if name == WILDCARD => "the wildcard's capture is called so, too",
        PatternError::DuplicateName(_) => "give each segment its own name",
        PatternError::NotCanonical(refusal) => {
            spelling(*refusal, written).unwrap_or("such requests are refused with 400")
        }
    }
}

/// Where another spelling helps.
fn spelling(refusal: PathRefusal, written: &str) -> Option<&'static str> {
    match refusal {
        PathRefusal::ForbiddenByte | PathRefusal::Fragment if written.contains(['?', '#']) => {
            Some("a path only: the query travels by itself")
        }
        PathRefusal::ForbiddenByte | PathRefusal::NonAscii => Some("write it percent-encoded, as browsers send it"),
        _ => None,
    }
}

/// An `upstream_path`; its placeholders must be captured by `pattern` (unless that is itself broken).
pub(super) fn read_template(node: &Node, pattern: Option<&Pattern>, found: &Collector) -> Option<String> {
    let written = text(node, found)?;
    let Some(pattern) = pattern else {
        return match Template::check(&written) {
            Ok(()) => Some(written),
            Err(error) => refuse_template(node, &written, &error, found),
        };
    };
    match Template::parse(&written, pattern) {
        Ok(template) => {
            if pattern.has_wildcard() && !template.takes_the_rest() {
                let warning = Diagnostic::warning(&node.spot, "what the wildcard captures is dropped");
                found.push(warning.label("every request goes to this one path; append `{path}`"));
            }
            Some(written)
        }
        Err(TemplateError::Unknown(name)) => {
            let known = quote_text(pattern.as_str());
            let message = format!("the placeholder `{{{name}}}` is not captured by the path {known}");
            let captured: Vec<String> = pattern.names().map(|name| format!("{{{name}}}")).collect();
            let captured = if captured.is_empty() { "nothing".to_owned() } else { captured.join(", ") };
            let error = Diagnostic::error(&node.spot, message).label(suggest(&name, pattern.names()));
            found.push(error.note(format!("captured: {captured}")));
            None
        }
        Err(error) => refuse_template(node, &written, &error, found),
    }
}

fn refuse_template(node: &Node, written: &str, error: &TemplateError, found: &Collector) -> Option<String> {
    let label = match error {
        TemplateError::NotCanonical(refusal) => spelling(*refusal, written).unwrap_or_default(),
        TemplateError::Shape(_) | TemplateError::Unknown(_) => "a placeholder is a whole segment: `/{name}`",
    };
    refuse(node, found, format!("the upstream path {}: {error}", quote(&node.spot, written)), label)
}
