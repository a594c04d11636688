//! `pingora-bff explain METHOD TARGET`: who answers, why, and what would be sent on. Asks nobody;
//! the same table and the same path reading as the server.

mod headers;
mod legacy;
mod nearest;
mod own;
mod page;
mod upstream;

use http::Method;

use self::page::Page;
use crate::cli::routes::auth_word;
use crate::config::Config;
use crate::endpoints::Endpoint;
use crate::proxy::objection;
use crate::reply::{Face, ProxyError};
use crate::routing::{CanonicalPath, Lookup, Methods, Route, RouteErrors, RouteTable};

/// Exit status: something answers the request.
const ANSWERED: u8 = 0;
/// Exit status: it can only end in an error.
const REFUSED: u8 = 1;

/// The explanation and the exit status (0: something answers, 1: it ends in an error whoever asks).
/// `target` is a path with or without query, or a whole URL.
pub fn render(config: &Config, method: &Method, target: &str) -> Result<(String, u8), RouteErrors> {
    let table = RouteTable::build(&config.routes)?;
    let (raw, query) = split_target(target);
    let mut page = Page::new(&format!("{method} {raw}{query}"));
    if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        page.more("Methods are written in capitals: no browser sends one like this.");
    }
    if let Some(error) = objection(&head(config, method, target)) {
        let status = refuse(&mut page, &error);
        return Ok((page.into_text(), status));
    }
    if raw == "*" {
        page.row("Answered by", "pingora-bff itself: 204");
        allow(&mut page, Methods::new(&[]).allowed());
        page.row("Why", "`OPTIONS *` asks about the program as a whole, and nothing goes upstream");
        return Ok((page.into_text(), ANSWERED));
    }
    let status = match CanonicalPath::parse(raw.as_bytes()) {
        Err(refusal) => {
            let status = refuse(&mut page, &ProxyError::BadRequest(refusal.to_string()));
            page.more("A server behind could read this path as another one, so it is not forwarded.");
            status
        }
        Ok(path) => {
            if path.as_str() != raw {
                page.row("Read as", path.as_str());
            }
            explain_path(&mut page, config, &table, method, &path, query)
        }
    };
    Ok((page.into_text(), status))
}

/// The request as a client of ours sends it.
fn head(config: &Config, method: &Method, target: &str) -> Vec<u8> {
    let origin = config.settings.server.public_url.origin().ascii_serialization();
    // A client that writes a whole URL writes its authority into `Host`, too (RFC 9112 §3.2.2). What begins with a slash
    // is a path, also where its query holds a URL.
    let whole = target.split_once("://").filter(|_| !target.starts_with('/'));
    let written = whole.map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let host = written.or_else(|| origin.split_once("://").map(|(_, host)| host)).unwrap_or_default();
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// What the client is told, and the exit status.
fn refuse(page: &mut Page, error: &ProxyError) -> u8 {
    let Face { status, code, .. } = error.face();
    page.row("Answered by", format!("pingora-bff itself: {} {code}", status.as_u16()));
    if let ProxyError::MethodNotAllowed { allow: methods } = error {
        allow(page, methods.iter());
    }
    page.row("Why", error.to_string());
    REFUSED
}

fn allow<'m>(page: &mut Page, methods: impl Iterator<Item = &'m Method>) {
    page.more(format!("Allow: {}", methods.map(Method::as_str).collect::<Vec<_>>().join(", ")));
}

fn explain_path(
    page: &mut Page,
    config: &Config,
    table: &RouteTable,
    method: &Method,
    path: &CanonicalPath,
    query: &str,
) -> u8 {
    if let Some(endpoint) = Endpoint::at(path.as_str()) {
        return own::explain(page, endpoint, method);
    }
    if let Some(status) = legacy::explain(page, config, method, path, query) {
        return status;
    }
    let matching = table.matching(path);
    match table.find(method, path) {
        Lookup::Found(route) => {
            page.row("Answered by", format!("route `{}`, {}", route.id, route.written_at));
            page.more(describe(route));
            explain_choice(page, route, &matching, method);
            upstream::explain(page, config, route, method, path, query)
        }
        Lookup::MethodNotAllowed { allow } => {
            let status = refuse(page, &ProxyError::MethodNotAllowed { allow });
            for route in matching {
                page.more(format!("`{}` {}, {}", route.id, describe(route), route.written_at));
            }
            status
        }
        Lookup::NotFound => {
            let status = refuse(page, &ProxyError::NoRoute);
            nearest::explain(page, table, path);
            status
        }
    }
}

fn describe(route: &Route) -> String {
    format!("path {}, methods {}, auth {}", route.pattern().as_str(), route.methods, auth_word(route.auth))
}

/// Why this route and none of the others that match; `matching` is in order of precedence.
fn explain_choice(page: &mut Page, winner: &Route, matching: &[&std::sync::Arc<Route>], method: &Method) {
    page.row("Why", reason(winner));
    let mut passed = false;
    for other in matching {
        if other.id == winner.id {
            passed = true;
            continue;
        }
        let name = format!("`{}` ({}), {}", other.id, other.pattern().as_str(), other.written_at);
        if !passed {
            page.more(format!("passed over {name}: it comes first, but takes only {}", other.methods));
        } else if other.methods.accepts(method) {
            page.more(format!("beats {name}: {}", defeat(winner, other)));
        }
    }
}

fn reason(route: &Route) -> String {
    match (route.pattern().is_exact(), route.pattern().literal_prefix()) {
        (true, _) => "its path is exactly this one".into(),
        (false, "") => "it takes every path".into(),
        (false, prefix) => format!("its path matches; literal prefix `{prefix}`"),
    }
}

fn defeat(winner: &Route, loser: &Route) -> &'static str {
    if winner.pattern().is_exact() && !loser.pattern().is_exact() {
        "an exact path comes first"
    } else if winner.pattern().literal_prefix().len() > loser.pattern().literal_prefix().len() {
        "its literal prefix is shorter"
    } else {
        "equally specific, but written later"
    }
}

/// Path, and `?query` or nothing. Cut by hand: a URL parser would resolve the very dots that the
/// server refuses.
fn split_target(target: &str) -> (&str, &str) {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            rest.find(['/', '?']).and_then(|end| rest.get(end..)).unwrap_or("/")
        }
        _ => target,
    };
    match path.split_at_checked(path.find('?').unwrap_or(path.len())) {
        Some(("", query)) => ("/", query),
        Some(parts) => parts,
        None => (path, ""),
    }
}
