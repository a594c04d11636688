//! For each audience that is configured: does the provider take it where it is asked for, at a login or for
//! a token of our own, and does it mint a token whose `aud` says so.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Report;
use crate::cli::routes::tokens;
use crate::config::{AudienceParameter, Config, IdpConfig, Place, RouteConfig};
use crate::oidc::{Ask, GrantError, RelyingParty, TokenResponse};
use crate::routing::RouteTable;
use crate::token::{RouteToken, TokenPolicy};

/// One audience and who wants it.
struct Wanted {
    /// The service.
    service: String,
    audience: String,
    scopes: Vec<String>,
    /// File and key of the audience.
    place: String,
    /// File and key of the scopes.
    scopes_place: String,
    asked: Asked,
}

/// Where the program that runs asks for it.
enum Asked {
    /// At logins, and then with what they gave.
    AtLogins,
    /// At logins only, for the login's own token, which is sent as it is.
    WithTheLogin,
    /// With a token of the user.
    LaterOn,
    /// For a token of our own, as it is asked for here. File and key of the policy that says so.
    ForOurselves(String),
}

pub(super) async fn examine(config: &Config, idp: &IdpConfig, party: Option<&RelyingParty>, report: &mut Report<'_>) {
    let (all, unmapped) = (wanted(config, idp), unmapped(config));
    if all.is_empty() && unmapped.is_empty() {
        return;
    }
    report.section("Audiences");
    let file = config.conf_dir.join("settings.yaml");
    for (service, (route, written_at)) in &unmapped {
        let found = format!("none is mapped: requests of route {route} get 401 no_token_available");
        let place =
            format!("{}: service_audiences.{service} (or {written_at}: routes[{route}].token_policy)", file.display());
        report.bad(format_args!("an audience for {service}"), found, place);
    }
    let Some(party) = party else {
        for one in &all {
            report.skip(what(one), format_args!("provider `{}` must be well first", idp.name));
        }
        return;
    };
    let at_login = |one: &&Wanted| matches!(one.asked, Asked::AtLogins | Asked::WithTheLogin);
    let distinct: BTreeSet<String> = all.iter().filter(at_login).map(|one| one.audience.clone()).collect();
    party.sort_out_audiences(&Vec::from_iter(distinct)).await;
    for one in &all {
        if at_login(&one) && party.refuses_audience(&one.audience) {
            let place = format!("{} (or allow it for client {} at the provider)", one.place, idp.client_id);
            report.bad(what(one), "the provider refuses it at a login (invalid_target)", place);
        } else if matches!(one.asked, Asked::WithTheLogin) {
            report.good(what(one), "a login is not refused for it");
        } else {
            mint(party, one, report).await;
        }
    }
}

/// The first route of each service that needs a token nothing is mapped for.
fn unmapped(config: &Config) -> BTreeMap<String, (String, Place)> {
    let (mut services, token) = (BTreeMap::new(), tokens(config));
    // The check has refused what cannot be built.
    for route in RouteTable::build(&config.routes).iter().flat_map(RouteTable::in_order) {
        if token(route).need().is_some_and(|need| need.audience.is_none()) {
            let first = || (route.id.to_string(), route.written_at.clone());
            services.entry(route.target_service.to_string()).or_insert_with(first);
        }
    }
    services
}

fn what(one: &Wanted) -> String {
    format!("{} for {}", one.audience, one.service)
}

/// The entry's own, `service_audiences`, and the policies of routes that ask for tokens of their own or name an audience
/// of their own.
fn wanted(config: &Config, idp: &IdpConfig) -> Vec<Wanted> {
    let settings = &config.settings;
    let file = config.conf_dir.join("settings.yaml").display().to_string();
    let scopes_of = |service: &str| settings.service_scopes.get(service).cloned().unwrap_or_default();
    let mapped = settings.service_audiences.iter().map(|(service, audience)| Wanted {
        service: service.clone(),
        audience: audience.clone(),
        scopes: scopes_of(service),
        place: format!("{file}: service_audiences.{service}"),
        scopes_place: format!("{file}: service_scopes.{service}"),
        asked: Asked::AtLogins,
    });
    // Only a `resource` can be asked for without a page.
    let own = idp.audience.as_ref().filter(|_| idp.audience_parameter == AudienceParameter::Resource);
    let own = own.map(|audience| Wanted {
        service: "the login itself".to_owned(),
        audience: audience.clone(),
        scopes: Vec::new(),
        place: format!("{}: idps[{}].audience", config.conf_dir.join("idps.yaml").display(), idp.name),
        scopes_place: String::new(),
        asked: Asked::WithTheLogin,
    });
    own.into_iter().chain(mapped).chain(config.routes.iter().filter_map(|route| of_route(config, route))).collect()
}

fn of_route(config: &Config, route: &RouteConfig) -> Option<Wanted> {
    route.token_policy.as_ref()?;
    let service = &route.target_service;
    let file = config.conf_dir.join("settings.yaml").display().to_string();
    let key = |key| format!("{}: routes[{}].token_policy.{key}", route.written_at, route.id);
    let (need, asked) = match RouteToken::of(route, &config.settings) {
        RouteToken::By(TokenPolicy::ServiceToken { need, .. }) => (need, Asked::ForOurselves(key("mode"))),
        RouteToken::By(TokenPolicy::Session(need)) if need.own_audience => (need, Asked::AtLogins),
        // With an audience of the service's, it is looked at there.
        RouteToken::By(TokenPolicy::OnBehalfOf { need, .. }) if need.own_audience => (need, Asked::LaterOn),
        _ => return None,
    };
    let place = |own: bool, word, map: &str| if own { key(word) } else { format!("{file}: {map}.{service}") };
    Some(Wanted {
        service: format!("{service} (route {})", route.id),
        audience: need.audience.clone()?,
        scopes: need.scopes.clone(),
        place: place(need.own_audience, "audience", "service_audiences"),
        scopes_place: place(need.own_scopes, "scopes", "service_scopes"),
        asked,
    })
}

async fn mint(party: &RelyingParty, one: &Wanted, report: &mut Report<'_>) {
    let ask = |scopes| Ask { audience: Some(&one.audience), scopes };
    match party.client_credentials(&ask(&one.scopes)).await {
        Ok(tokens) => compare(party, one, (&tokens, &one.scopes), "", report),
        Err(error) if matches!(one.asked, Asked::ForOurselves(_)) => refused(party, one, &error, report),
        Err(GrantError::Refused { error, .. }) if error == "invalid_scope" && !one.scopes.is_empty() => {
            let note = format!(
                "; {} was refused for a token of our own (invalid_scope) and could not be tested: {}",
                one.scopes.join(" "),
                one.scopes_place
            );
            match party.client_credentials(&ask(&[])).await {
                Ok(tokens) => compare(party, one, (&tokens, &[]), &note, report),
                Err(error) => judge(party, one, &error, report),
            }
        }
        Err(error) => judge(party, one, &error, report),
    }
}

/// Exactly what the request path compares before it sends a token on.
fn compare(
    party: &RelyingParty,
    one: &Wanted,
    (tokens, asked): (&TokenResponse, &[String]),
    note: &str,
    report: &mut Report<'_>,
) {
    if tokens.audience.contains(&one.audience) {
        let good = format!("a token was minted, and its aud says so{note}");
        let missing: Vec<&str> =
            asked.iter().filter(|scope| !tokens.scopes.contains(scope)).map(String::as_str).collect();
        if asked.is_empty() || tokens.scopes_told && missing.is_empty() {
            return report.good(what(one), good);
        }
        if !tokens.scopes_told {
            // Then it has what was asked for (RFC 6749 §5.1), if the provider knows that scope at all.
            return report
                .good(what(one), format_args!("{good} (it names no scope; {} was asked for)", asked.join(" ")));
        }
        let may_be_refused = if matches!(one.asked, Asked::ForOurselves(_)) { "" } else { "; a login may be refused" };
        let found = format!("the token came without scope {}{may_be_refused}", missing.join(" "));
        return report.skip(what(one), format_args!("{found}: {}", one.scopes_place));
    }
    let found = match tokens.audience.as_slice() {
        [] if !matches!(one.asked, Asked::ForOurselves(_)) => {
            // canaille has JWTs for users alone.
            let why = "a token of our own has no readable aud (it is opaque, or a JWT without one); only a login shows \
                       what users get, and for them it must be a JWT with that aud";
            return report.skip(what(one), format_args!("{why}{note}"));
        }
        [] => "has no readable aud (it is opaque, or a JWT without one), and must be a JWT with it".to_owned(),
        audience => format!("has aud {}", audience.join(", ")),
    };
    let place = format!("{} (or audience_parameter of idps[{}] in idps.yaml)", one.place, party.name());
    report.bad(what(one), format_args!("the token that was minted {found}{note}"), place);
}

/// Every request of the route will be refused alike.
fn refused(party: &RelyingParty, one: &Wanted, error: &GrantError, report: &mut Report<'_>) {
    let (Asked::ForOurselves(mode), GrantError::Refused { error: code, .. }) = (&one.asked, error) else {
        return judge(party, one, error, report);
    };
    let (key, what_else) = match code.as_str() {
        "invalid_target" => (&one.place, "it"),
        "invalid_scope" => (&one.scopes_place, "that scope"),
        _ => (mode, "client_credentials"),
    };
    let client = &party.config().client_id;
    report.bad(what(one), error, format_args!("{key} (or allow {what_else} for client {client} at the provider)"));
}

/// A client that gets no tokens of its own may get them for its users all the same.
fn judge(party: &RelyingParty, one: &Wanted, error: &GrantError, report: &mut Report<'_>) {
    let client = &party.config().client_id;
    match error {
        GrantError::Refused { error: code, .. } if code == "invalid_target" => {
            let place = format!("{} (or allow it for client {client} at the provider)", one.place);
            report.bad(what(one), error, place);
        }
        GrantError::Refused { .. } | GrantError::InvalidGrant { .. } => {
            let login = match party.config().audience_parameter {
                AudienceParameter::Resource => "a login is not refused for it, but only one can show aud",
                AudienceParameter::Audience | AudienceParameter::None => "only a login can show aud",
            };
            report.skip(what(one), format_args!("no client_credentials for client {client} ({error}); {login}"));
        }
        _ => report.bad(what(one), error, format_args!("idps.yaml: idps[{}].token_url", party.name())),
    }
}
