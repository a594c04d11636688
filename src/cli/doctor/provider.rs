//! One entry of `idps.yaml`: is the provider there, does it know us, would it send a browser back.

use std::sync::Arc;

use super::report::Report;
use crate::config::{ClientAuthMethod, Config, IdpConfig};
use crate::oidc::{ClientStanding, IdpError, RelyingParty, SetupError, Unusable, WayBack};
use crate::resilience::Clock;
use crate::telemetry::Metrics;

/// The files of one entry, for the ends of lines.
struct Places {
    idps: String,
    settings: String,
    entry: String,
}

impl Places {
    fn of(config: &Config, idp: &IdpConfig) -> Self {
        let file = |name| config.conf_dir.join(name).display().to_string();
        Self { idps: file("idps.yaml"), settings: file("settings.yaml"), entry: format!("idps[{}]", idp.name) }
    }

    fn key(&self, key: &str) -> String {
        format!("{}: {}.{key}", self.idps, self.entry)
    }
}

/// The party, if the provider knows it and tokens can be asked for.
pub(super) async fn examine(
    config: &Config,
    idp: &IdpConfig,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
    report: &mut Report<'_>,
) -> Option<RelyingParty> {
    report.section(format_args!("Identity provider `{}`, {}", idp.name, idp.issuer));
    let places = Places::of(config, idp);
    let settings = &config.settings;
    let (url, scopes) = (&settings.server.public_url, &settings.auth.oauth_scopes);
    let party = match RelyingParty::new(idp, url, scopes, None, Arc::clone(clock), Arc::clone(metrics)) {
        Ok(party) => party,
        Err(error) => {
            report.bad("entry", &error, places.key(key_of(&error)));
            return None;
        }
    };
    if !discover(&party, &places, report).await {
        report.skip("everything else of this provider", "nothing is known of it");
        return None;
    }
    let users_log_in = idp.name == settings.auth.idp;
    count_keys(&party, users_log_in, &places, report).await;
    if !users_log_in && idp.endpoints.introspection.is_none() {
        report.skip("client authentication", "no login and no introspection with this entry");
        return None;
    }
    let known = prove_client(&party, &places, report).await;
    if users_log_in {
        look_for_the_way_back(&party, known, &places, report).await;
    }
    known.then_some(party)
}

async fn discover(party: &RelyingParty, places: &Places, report: &mut Report<'_>) -> bool {
    match party.discover().await {
        Ok(metadata) => {
            report.good("discovery", format_args!("the issuer is {}", metadata.issuer));
            for Unusable { endpoint, found, instead, lost } in &metadata.unusable {
                report.bad(endpoint, format_args!("{found} is not https, so {lost}"), places.key(instead));
            }
        }
        // What is written is enough to go on with.
        Err(error @ IdpError::Discovery { .. }) if party.metadata().is_some() => {
            report.skip("discovery", format_args!("{error}; idps.yaml writes every endpoint that is needed"));
        }
        Err(error) => {
            let (what, place) = ("discovery", places.key("issuer"));
            if matches!(error, IdpError::Discovery { .. }) && !error.is_about_issuer() {
                report.absent(what, error, place);
            } else {
                report.bad(what, error, place);
            }
            return false;
        }
    }
    true
}

async fn count_keys(party: &RelyingParty, users_log_in: bool, places: &Places, report: &mut Report<'_>) {
    let what = "signing keys";
    let (all, fitting) = match party.published_keys().await {
        Ok(counts) => counts,
        Err(error) => return report.bad(what, error, places.key("jwks_url")),
    };
    let allowed: Vec<String> = party.config().algorithms.iter().map(|one| format!("{one:?}")).collect();
    let allowed = allowed.join(", ");
    let told = party.metadata().map(|metadata| metadata.id_token_algorithms.clone()).unwrap_or_default();
    if fitting == 0 {
        let found = format!("{all} published, none of them for {allowed}: every token is refused");
        report.bad(what, found, places.key("algorithms"));
    } else if !users_log_in || party.allows_what_is_signed(&told) {
        report.good(what, format_args!("{fitting} usable"));
    } else {
        let found = format!("the provider signs with {}, and only {allowed} is believed", told.join(", "));
        report.bad(what, found, places.key("algorithms"));
    }
}

async fn prove_client(party: &RelyingParty, places: &Places, report: &mut Report<'_>) -> bool {
    let idp = party.config();
    let what = format!("client authentication as {}", idp.client_id);
    let encoded = if party.sends_secret_encoded() {
        "; the secret goes out form-encoded (RFC 6749 §2.3.1), which some providers do not undo: with `token_auth_method: \
         client_secret_post` they need not"
    } else {
        ""
    };
    match party.prove_client().await {
        ClientStanding::Known if idp.token_auth_method == ClientAuthMethod::None => {
            report.good(what, "a public client that the provider knows");
        }
        ClientStanding::Known => report.good(what, "the provider believes it"),
        ClientStanding::Refused(words) => {
            let place = format!("{} (or client_id, token_auth_method)", places.key("client_secret"));
            report.bad(what, format_args!("{words}{encoded}"), place);
            return false;
        }
        ClientStanding::MayNotRefresh(words) => {
            let found = format!(
                "{words}; either the secret is wrong, or this client may not use the \
                 refresh_token grant, and sessions get no other token than the one of their login{encoded}"
            );
            report.bad(what, found, format_args!("{}, or the client at the provider", places.key("client_secret")));
        }
        ClientStanding::Doubted(words) => {
            let found = format!(
                "{words}; of a refresh token the provider did not say so: either the secret is wrong, \
                 or this client may not ask for that{encoded}"
            );
            let place =
                format!("{} (or token_auth_method), or the client at the provider", places.key("client_secret"));
            report.bad(what, found, place);
        }
        // canaille takes client_secret_basic alone for a token of our own, whatever is registered.
        ClientStanding::NoneForItself(words) => {
            let why = "the revocation endpoint believes it, and client_credentials is answered with";
            report.skip(what, format_args!("{why} {words}: is the secret good, only a login can show"));
        }
        ClientStanding::MayNotRevoke(words) => {
            let found =
                format!("tokens are issued, and the revocation endpoint says {words}: a logout revokes nothing");
            report.bad(what, found, format_args!("{} (or revocation_url)", places.key("token_auth_method")));
        }
        ClientStanding::Unclear(error) => {
            report.skip(what, format_args!("{error}, which does not tell whether the secret is good"));
        }
        ClientStanding::NotAsked(error) => {
            report.bad(what, error, places.key("token_url"));
            return false;
        }
    }
    if let Some(methods) = party.revocation_takes_others() {
        let why = format!("the provider takes {methods} there, and not what we have: a logout revokes nothing");
        report.skip("revocation at a logout", why);
    }
    true
}

async fn look_for_the_way_back(party: &RelyingParty, known: bool, places: &Places, report: &mut Report<'_>) {
    let what = "way back from a login";
    let uri = party.redirect_uri();
    match party.ask_way_back().await {
        Ok(WayBack::Here) => report.good(what, format_args!("the provider accepts {uri}")),
        Ok(WayBack::Refused(error, words)) => {
            let key = if error == "invalid_scope" { "auth.oauth_scopes" } else { "auth" };
            let place = format!("{}: {key}, or the client at the provider", places.settings);
            report.bad(what, format_args!("a login would end in {error}: {words}"), place);
        }
        Ok(WayBack::Nowhere(_)) if !known => report.skip(what, "the client must be known to the provider first"),
        // LemonLDAP::NG shows its form all the same.
        Ok(WayBack::Nowhere(200..=299)) => {
            let why =
                format!("a page comes of it: either {uri} is not registered there, or logins begin with that page");
            report.skip(what, why);
        }
        Ok(WayBack::Nowhere(status)) if !(400..500).contains(&status) => {
            report.skip(what, format_args!("the provider answers with status {status}: only a login shows it"));
        }
        Ok(WayBack::Nowhere(_)) => {
            let found = format!("the provider does not send browsers back to {uri}; it must be registered there");
            report.bad(what, found, format_args!("{}: server.public_url, or register it", places.settings));
        }
        Ok(WayBack::Elsewhere) => report.skip(what, "the provider shows a page of its own even with prompt=none"),
        Err(error) => report.bad(what, error, places.key("authorization_url")),
    }
}

fn key_of(error: &SetupError) -> &'static str {
    match error {
        SetupError::Issuer(_) | SetupError::Tls(_) => "issuer",
        SetupError::Endpoint(_) => "authorization_url, token_url, jwks_url, …",
        SetupError::NoSecret | SetupError::ClientKey(_) => "client_secret",
        SetupError::Algorithms => "algorithms",
    }
}
