//! `pingora-bff routes`: the effective table, the most specific route first.

use std::collections::HashMap;

use crate::config::{AuthMode, Config, RouteConfig};
use crate::routing::{Route, RouteErrors, RouteTable, join_base};
use crate::token::{Need, RouteToken, TokenPolicy};

const TITLES: [&str; 8] = ["METHOD", "PATH", "SERVICE", "UPSTREAM", "AUTH", "TOKEN", "ROUTE", "WRITTEN AT"];

/// The table as text, a line a route; columns two spaces apart.
pub fn render(config: &Config) -> Result<String, RouteErrors> {
    let table = RouteTable::build(&config.routes)?;
    let mut rows = vec![TITLES.map(str::to_owned)];
    let token = tokens(config);
    rows.extend(table.in_order().into_iter().map(|route| describe(route, &token(route), config)));
    Ok(align(&rows))
}

fn describe(route: &Route, token: &RouteToken, config: &Config) -> [String; 8] {
    [
        route.methods.to_string(),
        route.pattern().as_str().to_owned(),
        route.target_service.to_string(),
        upstream_url(route, config, route.upstream_pattern()),
        auth_word(route.auth).to_owned(),
        token_words(token),
        route.id.to_string(),
        route.written_at.to_string(),
    ]
}

/// The service's `base_url` with `path` below it.
pub(super) fn upstream_url(route: &Route, config: &Config, path: &str) -> String {
    let Some(service) = config.services.get(&*route.target_service) else {
        return format!("(no service `{}`)", route.target_service);
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    format!("{}{}", service.base_url.origin().ascii_serialization(), join_base(service.base_url.path(), path))
}

/// What goes upstream in `Authorization`, for each route of the table.
pub(super) fn tokens(config: &Config) -> impl Fn(&Route) -> RouteToken {
    let written: HashMap<&str, &RouteConfig> = config.routes.iter().map(|route| (&*route.id, route)).collect();
    // Every route of a table is one of these.
    move |route| written.get(&*route.id).map_or(RouteToken::AsSent, |written| RouteToken::of(written, &config.settings))
}

fn token_words(token: &RouteToken) -> String {
    let aud = |need: &Need| need.audience.as_ref().map_or("NO AUDIENCE MAPPED".to_owned(), |aud| format!("aud {aud}"));
    match token {
        RouteToken::AsSent => "as the client sent it".to_owned(),
        RouteToken::Callers => "the caller's token".to_owned(),
        RouteToken::Impossible => "IMPOSSIBLE without a session".to_owned(),
        RouteToken::By(TokenPolicy::None) => "none".to_owned(),
        RouteToken::By(TokenPolicy::SessionPassthrough { .. }) => "session_passthrough".to_owned(),
        RouteToken::By(TokenPolicy::Session(need)) => format!("own token, {}", aud(need)),
        RouteToken::By(TokenPolicy::ServiceToken { need, .. }) => format!("service_token, {}", aud(need)),
        RouteToken::By(TokenPolicy::OnBehalfOf { need, .. }) => format!("on_behalf_of, {}", aud(need)),
    }
}

/// As written in `auth:`.
pub(super) fn auth_word(auth: AuthMode) -> &'static str {
    match auth {
        AuthMode::Session => "session",
        AuthMode::Bearer => "bearer",
        AuthMode::None => "none",
    }
}

fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let widths = rows.iter().fold([0; N], |widths, row| {
        let mut cells = row.iter();
        widths.map(|width: usize| width.max(cells.next().map_or(0, |cell| cell.chars().count())))
    });
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}
