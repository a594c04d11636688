//! What a route would send to its service, and what it asks of the client first.

use http::Method;

use super::page::Page;
use super::{ANSWERED, REFUSED, headers};
use crate::cli::bearer::{Bearer, Target};
use crate::cli::routes::upstream_url;
use crate::config::{AuthMode, Config, CsrfMode, RateLimitKey};
use crate::routing::{CanonicalPath, Route};

/// Writes the rows; the exit status says whether anybody can get through.
pub fn explain(
    page: &mut Page,
    config: &Config,
    route: &Route,
    method: &Method,
    path: &CanonicalPath,
    query: &str,
) -> u8 {
    let bearer = Bearer::of(route, config);
    explain_needs(page, config, route, method);
    explain_rate(page, route);
    let url = upstream_url(route, config, &route.upstream_path(path));
    page.row("Upstream", format!("{method} {url}{query}"));
    explain_service(page, config, route);
    explain_token(page, config, route, &bearer);
    if bearer.is_hopeless() {
        return REFUSED;
    }
    explain_headers(page, config, route, &bearer);
    ANSWERED
}

fn explain_needs(page: &mut Page, config: &Config, route: &Route, method: &Method) {
    match route.auth {
        AuthMode::None => page.row("Client needs", "nothing: auth is none"),
        AuthMode::Bearer => {
            page.row("Client needs", "Authorization: Bearer, valid for an entry of idps.yaml; else 401");
        }
        AuthMode::Session => {
            page.row("Client needs", "a live session (cookie); else 401 not_authenticated");
            if method == Method::GET {
                page.more("a page navigation without one goes to /auth/login instead");
            }
            if !method.is_safe() {
                page.more("the same origin or a listed CORS origin; else 403 csrf_failed");
                if config.settings.csrf_mode == CsrfMode::Token {
                    page.more("X-CSRF-Token (csrf.mode is token); else 403 csrf_failed");
                }
            }
        }
    }
}

fn explain_rate(page: &mut Page, route: &Route) {
    let Some(limit) = &route.rate_limit else { return };
    let period = humantime::format_duration(limit.rate.period);
    let whose = match limit.key {
        RateLimitKey::Ip => "address",
        RateLimitKey::Session => "session",
        RateLimitKey::Identity => "person",
    };
    let burst = limit.rate.burst.map(|burst| format!(", {burst} at once")).unwrap_or_default();
    page.more(format!(
        "at most {} requests in {period} of one {whose}{burst}; else 429 rate_limited",
        limit.rate.requests
    ));
}

fn explain_service(page: &mut Page, config: &Config, route: &Route) {
    let Some(service) = config.services.get(&*route.target_service) else {
        page.more(format!("service `{}` is not defined", route.target_service));
        return;
    };
    let connect = humantime::format_duration(service.connect_timeout);
    let timeout = humantime::format_duration(service.timeout);
    let time =
        if route.streaming { format!("{timeout}, then no total time") } else { format!("and whole answer {timeout}") };
    page.more(format!("service `{}`; connect {connect}; first byte {time}", route.target_service));
}

fn explain_token(page: &mut Page, config: &Config, route: &Route, bearer: &Bearer<'_>) {
    let settings = config.conf_dir.join("settings.yaml");
    match bearer {
        Bearer::AsSent => page.row("Token", "none is added; an Authorization header passes as the client sent it"),
        Bearer::Callers => page.row("Token", "the caller's own, unchanged"),
        Bearer::Nothing => page.row("Token", "none (token_policy.mode is none)"),
        Bearer::Login => page.row("Token", "the session's login access token, as it is (session_passthrough)"),
        Bearer::Impossible => {
            page.row("Token", "none possible: 401 no_token_available for everybody");
            page.more(format!("token_policy needs a session, but auth is none: {}", route.written_at));
        }
        Bearer::Own(target) => explain_target(page, "the session's own for this service", target),
        Bearer::Service(target) => {
            explain_target(page, "service_token: client_credentials, one token shared by all users", target);
        }
        Bearer::Exchanged(target) => {
            explain_target(page, "on_behalf_of: token exchange for the session's user", target);
        }
    }
    let written = route.token_policy.as_ref().is_some_and(|policy| policy.audience.is_some());
    match bearer {
        Bearer::Own(target) | Bearer::Service(target) | Bearer::Exchanged(target) => {
            let key = format!("service_audiences.{} in {}", route.target_service, settings.display());
            match target.audience {
                None => page.more(format!("NO AUDIENCE: 401 no_token_available for everybody; set {key}")),
                Some(_) if written => page.more(format!("audience from token_policy, {}", route.written_at)),
                Some(_) => page.more(format!("audience from {key}")),
            }
        }
        _ => {}
    }
}

fn explain_target(page: &mut Page, what: &str, target: &Target<'_>) {
    page.row("Token", what);
    if let Some(audience) = target.audience {
        page.more(format!("audience {audience} (compared with `aud` before it is sent)"));
    }
    let scopes = if target.scopes.is_empty() { "the provider's default".into() } else { target.scopes.join(" ") };
    page.more(format!("scopes   {scopes}"));
}

fn explain_headers(page: &mut Page, config: &Config, route: &Route, bearer: &Bearer<'_>) {
    let mut own = Vec::new();
    let kept = matches!(bearer, Bearer::AsSent | Bearer::Callers);
    if !kept && *bearer != Bearer::Nothing {
        own.push("Authorization: Bearer <token>".to_owned());
    }
    if route.auth != AuthMode::None {
        let idp = config.idps.iter().find(|idp| idp.name == config.settings.auth.idp);
        let provider = idp.filter(|_| route.auth == AuthMode::Session).map_or("{provider}", |idp| &idp.provider);
        own.push(format!("X-Original-User: auth:account:{provider}:{{sub}}"));
    }
    headers::explain(page, &own, kept);
}
