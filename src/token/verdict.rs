//! What a provider's answer is worth for what was asked, in words to act on.

use super::bearer::NoBearer;
use super::policy::Need;
use crate::oidc::GrantError;
use crate::session::AccessToken;

/// Where it is written what was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keys {
    /// A session's own token.
    Session,
    /// The same, for an audience that its login was granted.
    Granted,
    /// A route that says how its token is had.
    Route,
}

impl Keys {
    fn of(self, need: &Need) -> String {
        let keys = format!("{}, {}", need.audience_key(), need.scopes_key());
        match self {
            Self::Session | Self::Granted => format!("{keys} and `audience_parameter` in idps.yaml"),
            Self::Route => format!("the `mode` of its route, {keys}, and what the client may do at the provider"),
        }
    }
}

/// Why a token must not be sent to the service it was asked for; `None`: it may.
pub(super) fn misfit(need: Option<&Need>, token: &AccessToken, keys: Keys) -> Option<NoBearer> {
    let need = need?;
    let wanted = need.audience.as_ref().filter(|wanted| !token.audience.contains(wanted))?;
    let found = if token.audience.is_empty() {
        "no readable `aud` (it is opaque, or a JWT without one)".to_owned()
    } else {
        format!("aud {}", token.audience.join(", "))
    };
    let way_out = match (token.audience.is_empty(), keys) {
        (false, _) => "",
        (true, Keys::Route) => "let it issue JWT access tokens for this API; ",
        (true, Keys::Session | Keys::Granted) => {
            "let it issue JWT access tokens for this API, or send the login's token as it is \
             (`token_policy: { mode: session_passthrough }` on the route); "
        }
    };
    Some(NoBearer::NotAvailable(format!(
        "the provider answered with {found} for service `{}`, wanted {wanted}: {way_out}compare what it issues with {}",
        need.service,
        keys.of(need)
    )))
}

/// A provider's refusal; without a `need` it is about the login's own token.
pub(super) fn refused(error: &GrantError, issuer: &str, need: Option<&Need>, keys: Keys) -> NoBearer {
    if error.is_provider_down() {
        return NoBearer::ProviderDown(format!("{issuer}: {error}"));
    }
    let Some(need) = need else {
        return NoBearer::NotAvailable(format!(
            "the provider refused to renew the login token: {error}; check the client's entry in idps.yaml"
        ));
    };
    let service = &need.service;
    if let Some(hint) = error.about_client() {
        return NoBearer::NotAvailable(format!(
            "the provider refused a token for service `{service}`: {error}; {hint}"
        ));
    }
    let check = match (error, keys) {
        (GrantError::Refused { error: code, .. }, Keys::Granted) if code == "invalid_target" => {
            "it granted that at this login, so its new refresh token is for another audience alone: switch rotation of \
             refresh tokens off for this client there, then log in again"
                .to_owned()
        }
        // LemonLDAP::NG says so of a refresh token that it does not know.
        (GrantError::Refused { error: code, .. }, Keys::Session | Keys::Granted) if code == "invalid_request" => {
            format!("check {}; or it no longer knows this login: log out and in", keys.of(need))
        }
        _ => format!("check {}", keys.of(need)),
    };
    NoBearer::NotAvailable(format!(
        "the provider refused audience {} for service `{service}`: {error}; {check}",
        need.audience.as_deref().unwrap_or("-")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::resilience::UnixTime;
    use crate::session::Ready;

    #[test]
    fn a_refusal_names_where_the_audience_is_written() {
        let token = AccessToken {
            secret: Secret::new("t"),
            audience: vec!["other".to_owned()],
            scopes: vec![],
            issued_at: UnixTime(0),
            expires_at: None,
            ready: Ready::default(),
        };
        for (own_audience, named) in [(true, "`audience` in the `token_policy`"), (false, "`service_audiences.api`")] {
            let (service, audience) = ("api".into(), Some("wanted".to_owned()));
            let need = Need { place: "api".into(), service, audience, scopes: vec![], own_audience, own_scopes: false };
            let reason = misfit(Some(&need), &token, Keys::Session).unwrap().to_string();
            assert!(reason.contains(named) && reason.contains("`service_scopes.api`"), "{reason}");
            assert_eq!(reason.contains("service_audiences"), !own_audience, "{reason}");
        }
    }
}
