//! What the façade of the old services does with a path below `/api/v1/proxy/`.

use http::Method;

use super::page::Page;
use super::{ANSWERED, headers, refuse};
use crate::config::{Config, CsrfMode};
use crate::legacy::{EMPOWERID, PREFIX, split};
use crate::reply::ProxyError;
use crate::routing::{CanonicalPath, Methods, join_base};

/// Writes the rows and gives the exit status; `None`: the path is not the façade's.
pub fn explain(page: &mut Page, config: &Config, method: &Method, path: &CanonicalPath, query: &str) -> Option<u8> {
    let (name, below) = split(path)?;
    let every = Methods::new(&[]);
    if !every.accepts(method) {
        return Some(refuse(page, &ProxyError::MethodNotAllowed { allow: every.allowed().cloned().collect() }));
    }
    let legacy = &config.legacy;
    let Some(service) = legacy.services.get(name) else {
        let known: Vec<&str> = legacy.services.keys().map(String::as_str).collect();
        let status = refuse(page, &ProxyError::UnknownService);
        page.more(format!("it lists: {}", if known.is_empty() { "nothing".to_owned() } else { known.join(", ") }));
        return Some(status);
    };
    page.row("Answered by", format!("the legacy façade, service `{name}`"));
    page.row("Why", format!("everything below {PREFIX} is the façade's and comes before every route"));
    page.row("Client needs", "Authorization: Bearer, or a live session; else 401 not_authenticated");
    if !method.is_safe() {
        page.more("by session: the same origin or a listed CORS origin; else 403 csrf_failed");
        if config.settings.csrf_mode == CsrfMode::Token {
            page.more("by session: X-CSRF-Token (csrf.mode is token); else 403 csrf_failed");
        }
    }
    page.more(format!("a body of at most {} bytes; else 413 body_too_large", legacy.max_body_size));
    let base = &service.base_url;
    let target = join_base(base.path(), format!("/{below}"));
    page.row("Upstream", format!("{method} {}{target}{query}", base.origin().ascii_serialization()));
    page.more(format!("first byte and whole answer {}", humantime::format_duration(service.timeout)));
    page.more(format!(
        "503 circuit_open for {} after {} failures in a row; 503 rate_limited beyond {} at once",
        humantime::format_duration(legacy.breaker_reset_time),
        legacy.breaker_threshold,
        legacy.max_concurrent
    ));
    page.row("Token", "the caller's own, or the login access token of the session, as it is");
    let mut own = vec!["Authorization: Bearer <token> (a caller's own stays as it is)".to_owned()];
    own.push("X-Original-User: auth:account:{provider}:{sub}".to_owned());
    if name == EMPOWERID && config.settings.empowerid_api_key.is_some() {
        own.push("X-EmpowerID-Api-Key: <empowerid_api_key of settings.yaml>".to_owned());
    }
    headers::explain(page, &own, false);
    Some(ANSWERED)
}
