//! Questions whose answers tell how we stand with the provider, asked without a user: for
//! `pingora-bff doctor`. Nothing is granted by any of them.

use std::sync::Arc;

use super::discovery::Metadata;
use super::error::{FetchError, GrantError, IdpError, quote, said};
use super::grant::{Ask, Grant};
use super::http::Endpoint;
use super::jwks::algorithm;
use super::random;
use super::relying_party::RelyingParty;

/// What the token endpoint thinks of our credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientStanding {
    /// It believed them.
    Known,
    /// `invalid_client`: it did not. In its words, the code first.
    Refused(String),
    /// `unauthorized_client`: most say so of a client without the refresh grant, some of a wrong secret.
    MayNotRefresh(String),
    /// It could not be asked.
    NotAsked(GrantError),
}

/// Where the authorization endpoint sends a browser that it need not show a page to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayBack {
    /// To our callback; a login may begin.
    Here,
    /// To our callback, with an error that a login would end in too: the OAuth error code, its description.
    Refused(String, String),
    /// Nowhere: an error page, as for a `redirect_uri` that is not registered.
    Page,
    /// Elsewhere: a provider that shows its login page all the same. Says nothing.
    Elsewhere,
}

impl RelyingParty {
    /// Fetches the provider's description now.
    pub async fn discover(&self) -> Result<Arc<Metadata>, IdpError> {
        self.known.discovery.fetch().await
    }

    /// How many usable signing keys the provider publishes, and how many of them are for an algorithm that is allowed.
    pub async fn published_keys(&self) -> Result<(usize, usize), IdpError> {
        let keys = self.known.jwks.get().await?;
        let fitting = keys.iter().filter(|key| self.idp.algorithms.iter().any(|one| key.fits(*one))).count();
        Ok((keys.len(), fitting))
    }

    /// Whether an ID token may be signed with an algorithm that is allowed. A provider that does not tell may.
    pub fn allows_what_is_signed(&self, told: &[String]) -> bool {
        let allowed = |name: &String| algorithm(name).is_some_and(|found| self.idp.algorithms.contains(&found));
        told.is_empty() || told.iter().any(allowed)
    }

    /// `{public_url}/auth/callback`, as the provider must have it registered.
    pub fn redirect_uri(&self) -> &str {
        self.redirect_uri.as_str()
    }

    /// Asks with a refresh token that cannot be good: credentials are looked at first, so that the
    /// refusal tells whether they were believed (RFC 6749 §5.2).
    pub async fn prove_client(&self) -> ClientStanding {
        let token = match random::draw() {
            Ok(token) => token,
            Err(error) => return ClientStanding::NotAsked(error.into()),
        };
        match self.tokens.redeem(&Grant::Refresh { token: &token }, &Ask::default()).await {
            Err(GrantError::Refused { error, description }) if error == "invalid_client" => {
                ClientStanding::Refused(said(&error, &description))
            }
            Err(GrantError::Refused { error, description }) if error == "unauthorized_client" => {
                ClientStanding::MayNotRefresh(said(&error, &description))
            }
            Err(error) if error.is_provider_down() => ClientStanding::NotAsked(error),
            _ => ClientStanding::Known,
        }
    }

    /// Asks for a login with `prompt=none` (OpenID Connect Core §3.1.2.1), which must come back to us.
    pub async fn ask_way_back(&self) -> Result<WayBack, IdpError> {
        let metadata = self.known.discovery.get().await?;
        let endpoint = metadata.authorization.clone().ok_or(IdpError::NoEndpoint("authorization_endpoint"))?;
        let question = self.question(endpoint, &self.scopes.join(" "), None);
        let failed = |cause: FetchError| IdpError::Authorization(cause);
        let Some(target) = self.http.redirect_target(Endpoint::Authorization, &question).await.map_err(failed)? else {
            return Ok(WayBack::Page);
        };
        let ours = target.as_str().split(['?', '#']).next() == Some(self.redirect_uri.as_str());
        if !ours {
            return Ok(WayBack::Elsewhere);
        }
        let answered = |key: &str| {
            let value = target.query_pairs().find(|(name, _)| name == key).map(|(_, value)| value.into_owned());
            quote(&value.unwrap_or_default())
        };
        Ok(match answered("error").as_str() {
            // Nobody is logged in there: as it should be. `invalid_target` is judged audience by audience.
            ""
            | "login_required"
            | "interaction_required"
            | "consent_required"
            | "account_selection_required"
            | "invalid_target" => WayBack::Here,
            error => WayBack::Refused(error.to_owned(), answered("error_description")),
        })
    }
}
