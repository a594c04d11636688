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
    /// A route that says how its token is had.
    Route,
}

impl Keys {
    fn of(self, need: &Need) -> String {
        if matches!(self, Self::Session) && need.place != need.service {
            return "the `token_policy` of its route and `audience_parameter` in idps.yaml".to_owned();
        }
        let service = &need.service;
        let settings = format!("`service_audiences.{service}` and `service_scopes.{service}` in settings.yaml");
        match self {
            Self::Session => format!("{settings} and `audience_parameter` in idps.yaml"),
            Self::Route => {
                format!("the `token_policy` of its route, {settings}, and what the client may do at the provider")
            }
        }
    }
}

/// Why a token must not be sent to the service it was asked for; `None`: it may.
pub(super) fn misfit(need: Option<&Need>, token: &AccessToken, keys: Keys) -> Option<NoBearer> {
    let need = need?;
    let wanted = need.audience.as_ref().filter(|wanted| !token.audience.contains(wanted))?;
    let found = if token.audience.is_empty() {
        "no readable `aud` (an opaque token)".to_owned()
    } else {
        format!("aud {}", token.audience.join(", "))
    };
    Some(NoBearer::NotAvailable(format!(
        "the provider answered with {found} for service `{}`, wanted {wanted}: compare what it issues with {}",
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
    NoBearer::NotAvailable(match error.about_client() {
        Some(hint) => format!("the provider refused a token for service `{service}`: {error}; {hint}"),
        None => format!(
            "the provider refused audience {} for service `{service}`: {error}; check {}",
            need.audience.as_deref().unwrap_or("-"),
            keys.of(need)
        ),
    })
}
