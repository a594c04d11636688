//! Questions whose answers tell how we stand with the provider, asked without a user: for
//! `pingora-bff doctor`. No session comes of any of them.

use std::sync::Arc;

use super::discovery::Metadata;
use super::error::{FetchError, GrantError, IdpError, quote, said};
use super::grant::{Ask, Grant};
use super::http::Endpoint;
use super::jwks::algorithm;
use super::random;
use super::relying_party::RelyingParty;
use crate::config::{ClientAuthMethod, Secret};

/// What the provider thinks of our credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientStanding {
    /// It believed them.
    Known,
    /// `invalid_client`: it did not. In its words, the code first.
    Refused(String),
    /// The token endpoint did not say so, but another question was answered with `invalid_client`.
    Doubted(String),
    /// The revocation endpoint believed them, and `client_credentials` was answered with `invalid_client`.
    NoneForItself(String),
    /// It issues tokens to us, and its revocation endpoint says `invalid_client`.
    MayNotRevoke(String),
    /// `unauthorized_client`: most say so of a client without the refresh grant, some of a wrong secret.
    MayNotRefresh(String),
    /// A refusal that speaks no OAuth: it says nothing of our credentials.
    Unclear(GrantError),
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
    /// Nowhere: it answered with this status. A 4xx is what providers say to a `redirect_uri` that is not registered.
    Nowhere(u16),
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
        let Err(refusal) = self.tokens.redeem(&Grant::Refresh { token: &token }, &Ask::default()).await else {
            return ClientStanding::Known;
        };
        match &refusal {
            GrantError::Refused { error, description, .. } if error == "invalid_client" => {
                ClientStanding::Refused(said(error, description))
            }
            GrantError::Refused { error, description, .. } if error == "unauthorized_client" => {
                ClientStanding::MayNotRefresh(said(error, description))
            }
            // Glewlwyd says no more of a refresh token that it does not know.
            GrantError::Failed { status: 400 | 401 | 403 } => {
                self.ask_elsewhere(&token).await.unwrap_or(ClientStanding::Unclear(refusal))
            }
            error if error.is_provider_down() => ClientStanding::NotAsked(refusal),
            _ => self.ask_elsewhere(&token).await.unwrap_or(ClientStanding::Known),
        }
    }

    /// Some look the refresh token up before the credentials. These come first at the revocation endpoint (RFC 7009 §2.1),
    /// and for a token of our own there is nothing else to look at. `None`: that told nothing.
    async fn ask_elsewhere(&self, token: &Secret) -> Option<ClientStanding> {
        if self.idp.token_auth_method == ClientAuthMethod::None {
            return None;
        }
        let takes_us = |metadata: &Metadata| self.tokens.auth_for_revocation(metadata).is_some();
        let asks = self.metadata().is_some_and(|known| known.revocation.is_some() && takes_us(&known));
        let revoked = if asks { Some(self.tokens.revoke(token).await) } else { None };
        let own = self.client_credentials(&Ask::default()).await;
        let at_revocation = revoked.as_ref().and_then(|outcome| disbelief(outcome.as_ref().err()?));
        match (at_revocation, own.as_ref().err().and_then(disbelief)) {
            (Some(words), Some(_)) => Some(ClientStanding::Refused(words)),
            (Some(words), None) if own.is_ok() => Some(ClientStanding::MayNotRevoke(words)),
            (Some(words), None) => Some(ClientStanding::Doubted(format!("{words}, says the revocation endpoint"))),
            (None, Some(words)) if matches!(revoked, Some(Ok(()))) => Some(ClientStanding::NoneForItself(words)),
            (None, Some(words)) => {
                Some(ClientStanding::Doubted(format!("{words}, says the token endpoint of client_credentials")))
            }
            (None, None) if own.is_ok() || matches!(revoked, Some(Ok(()))) => Some(ClientStanding::Known),
            (None, None) => None,
        }
    }

    /// Whether our secret goes out form-encoded, as something else than it is: some providers do not undo that.
    pub fn sends_secret_encoded(&self) -> bool {
        self.tokens.encoded
    }

    /// What the revocation endpoint takes, where that is nothing we have.
    pub fn revocation_takes_others(&self) -> Option<String> {
        let metadata = self.metadata().filter(|metadata| metadata.revocation.is_some())?;
        let ours = self.tokens.auth_for_revocation(&metadata).is_some();
        // Few lists have `none`, and public clients revoke all the same.
        let asked = self.idp.token_auth_method != ClientAuthMethod::None;
        (asked && !ours).then(|| quote(&metadata.revocation_methods.join(", ")))
    }

    /// Asks for a login with `prompt=none` (OpenID Connect Core §3.1.2.1), which must come back to us.
    pub async fn ask_way_back(&self) -> Result<WayBack, IdpError> {
        let metadata = self.known.discovery.get().await?;
        let endpoint = metadata.authorization.clone().ok_or(IdpError::NoEndpoint("authorization_endpoint"))?;
        let question = self.question(endpoint, &self.scopes.join(" "), None);
        let failed = |cause: FetchError| IdpError::Authorization(cause);
        let target = match self.http.redirect_target(Endpoint::Authorization, &question).await.map_err(failed)? {
            Ok(target) => target,
            Err(status) => return Ok(WayBack::Nowhere(status)),
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

/// `invalid_client`, in the provider's words.
fn disbelief(error: &GrantError) -> Option<String> {
    match error {
        GrantError::Refused { error, description, .. } if error == "invalid_client" => Some(said(error, description)),
        _ => None,
    }
}
