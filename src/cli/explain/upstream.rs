//! What a route would send to its service, and what it asks of the client first.

use http::Method;

use super::page::Page;
use super::{ANSWERED, REFUSED, headers};
use crate::cli::routes::{tokens, upstream_url};
use crate::config::{AuthMode, Config, CsrfMode, RateLimitKey};
use crate::routing::{CanonicalPath, Route};
use crate::token::{Need, RouteToken, TokenPolicy};

/// Writes the rows; the exit status says whether anybody can get through.
pub fn explain(
    page: &mut Page,
    config: &Config,
    route: &Route,
    method: &Method,
    path: &CanonicalPath,
    query: &str,
) -> u8 {
    let token = tokens(config)(route);
    explain_needs(page, config, route, method);
    explain_rate(page, route);
    let url = upstream_url(route, config, &route.upstream_path(path));
    page.row("Upstream", format!("{method} {url}{query}"));
    explain_service(page, config, route);
    explain_token(page, config, route, &token);
    if token == RouteToken::Impossible || token.need().is_some_and(|need| need.audience.is_none()) {
        return REFUSED;
    }
    explain_headers(page, config, route, &token);
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

fn explain_token(page: &mut Page, config: &Config, route: &Route, token: &RouteToken) {
    let settings = config.conf_dir.join("settings.yaml");
    match token {
        RouteToken::AsSent => {
            page.row("Token", "none is added; an Authorization header passes as the client sent it");
        }
        RouteToken::Callers => page.row("Token", "the caller's own, unchanged"),
        RouteToken::By(TokenPolicy::None) => page.row("Token", "none (token_policy.mode is none)"),
        RouteToken::By(TokenPolicy::SessionPassthrough { .. }) => {
            page.row("Token", "the session's login access token, as it is (session_passthrough)");
        }
        RouteToken::Impossible => {
            page.row("Token", "none possible: 401 no_token_available for everybody");
            page.more(format!("token_policy needs a session, which auth does not ask for: {}", route.written_at));
        }
        RouteToken::By(TokenPolicy::Session(need)) => explain_need(page, "the session's own for this service", need),
        RouteToken::By(TokenPolicy::ServiceToken { need, .. }) => {
            explain_need(page, "service_token: client_credentials, one token shared by all users", need);
        }
        RouteToken::By(TokenPolicy::OnBehalfOf { need, .. }) => {
            explain_need(page, "on_behalf_of: token exchange for the session's user", need);
        }
    }
    if let Some(need) = token.need() {
        let key = format!("service_audiences.{} in {}", route.target_service, settings.display());
        match need.audience {
            None => page.more(format!("NO AUDIENCE: 401 no_token_available for everybody; set {key}")),
            Some(_) if need.own_audience => page.more(format!("audience from token_policy, {}", route.written_at)),
            Some(_) => page.more(format!("audience from {key}")),
        }
    }
}

fn explain_need(page: &mut Page, what: &str, need: &Need) {
    page.row("Token", what);
    if let Some(audience) = &need.audience {
        page.more(format!("audience {audience} (compared with `aud` before it is sent)"));
    }
    let scopes = if need.scopes.is_empty() { "the provider's default".into() } else { need.scopes.join(" ") };
    page.more(format!("scopes   {scopes}"));
}

fn explain_headers(page: &mut Page, config: &Config, route: &Route, token: &RouteToken) {
    let mut own = Vec::new();
    let kept = token.is_the_clients();
    if !kept && *token != RouteToken::By(TokenPolicy::None) {
        own.push("Authorization: Bearer <token>".to_owned());
    }
    if route.auth != AuthMode::None {
        let idp = config.idps.iter().find(|idp| idp.name == config.settings.auth.idp);
        let provider = idp.filter(|_| route.auth == AuthMode::Session).map_or("{provider}", |idp| &idp.provider);
        own.push(format!("X-Original-User: auth:account:{provider}:{{sub}}"));
    }
    headers::explain(page, &own, kept);
}
