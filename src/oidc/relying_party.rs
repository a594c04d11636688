//! One entry of `idps.yaml`, alive.

use std::sync::Arc;

use url::Url;

use super::audiences::RefusedAudiences;
use super::bearer::BearerValidator;
use super::client_auth::ClientAuth;
use super::discovery::Metadata;
use super::error::{GrantError, IdTokenError, IdpError, SetupError};
use super::grant::{Ask, Grant};
use super::http::HttpClient;
use super::id_token::{Expected, IdTokenVerifier};
use super::jwks;
use super::jwt;
use super::known::Known;
use super::token_endpoint::TokenEndpoint;
use super::token_response::TokenResponse;
use crate::config::{IdpConfig, IdpEndpoints, Secret, is_loopback};
use crate::resilience::Clock;
use crate::telemetry::Metrics;

/// We, as a client of one provider. Shared as `Arc<RelyingParty>`.
#[derive(Debug)]
pub struct RelyingParty {
    pub(super) idp: IdpConfig,
    /// `{public_url}/auth/callback`, to the letter as the provider has it registered.
    pub(super) redirect_uri: Url,
    /// The entry's own, else `auth.oauth_scopes`.
    pub(super) scopes: Vec<String>,
    pub(super) known: Known,
    pub(super) id_tokens: IdTokenVerifier,
    pub(super) tokens: TokenEndpoint,
    pub(super) http: HttpClient,
    pub(super) refused: RefusedAudiences,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
}

impl RelyingParty {
    /// Asks nobody yet: the provider may be down, and the program starts all the same. `before`: what it keeps of the
    /// same issuer and endpoints goes on.
    pub fn new(
        idp: &IdpConfig,
        public_url: &Url,
        default_scopes: &[String],
        before: Option<&BearerValidator>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SetupError> {
        if idp.algorithms.iter().all(|algorithm| jwks::is_symmetric(*algorithm)) {
            return Err(SetupError::Algorithms);
        }
        let redirect_uri = public_url
            .join("/auth/callback")
            .map_err(|_cannot_be_a_base| SetupError::Endpoint(public_url.to_string()))?;
        let auth = ClientAuth::new(idp)?;
        let http = HttpClient::new(is_local(idp), Arc::clone(&metrics))?;
        let known = match before.and_then(|before| before.known_of(idp)) {
            Some(known) => known,
            None => Known::new(idp, http.clone(), Arc::clone(&clock))?,
        };
        let id_tokens = IdTokenVerifier::new(idp, known.jwks.clone(), Arc::clone(&clock), Arc::clone(&metrics));
        let tokens = TokenEndpoint::new(
            idp,
            auth,
            known.discovery.clone(),
            http.clone(),
            Arc::clone(&clock),
            Arc::clone(&metrics),
        );
        let scopes = idp.scopes.clone().unwrap_or_else(|| default_scopes.to_vec());
        Ok(Self {
            idp: idp.clone(),
            redirect_uri,
            scopes,
            known,
            id_tokens,
            tokens,
            clock,
            http,
            refused: RefusedAudiences::default(),
            metrics,
        })
    }

    /// The entry's name in `idps.yaml`.
    pub fn name(&self) -> &str {
        &self.idp.name
    }

    /// The entry as written.
    pub fn config(&self) -> &IdpConfig {
        &self.idp
    }

    /// As written in `idps.yaml`.
    pub fn issuer(&self) -> &str {
        &self.idp.issuer
    }

    /// Fetches discovery and keys now. An error leaves the program degraded: logins fail until a
    /// later attempt, made when somebody needs it, succeeds. `false`: there is no discovery, and what is written, or was
    /// fetched before, is enough to go on with.
    pub async fn warm(&self) -> Result<bool, IdpError> {
        let discovered = match self.known.discovery.fetch().await {
            Err(IdpError::Discovery { .. }) if self.known.discovery.peek().is_some() => false,
            fetched => fetched.map(|_| true)?,
        };
        self.known.jwks.get().await.map(|_| discovered)
    }

    /// Whether discovery and keys are in hand.
    #[cfg(test)]
    pub(super) fn ready(&self) -> bool {
        self.known.discovery.peek().is_some() && self.known.jwks.is_held()
    }

    /// What is known of the provider, without asking.
    pub fn metadata(&self) -> Option<Arc<Metadata>> {
        self.known.discovery.peek()
    }

    /// Redeems a refresh token, once. `expected` are issuer and subject of the session: an ID token
    /// that comes along must be theirs (OpenID Connect Core §12.2).
    pub async fn refresh(
        &self,
        refresh_token: &Secret,
        ask: &Ask<'_>,
        expected: (&str, &str),
    ) -> Result<TokenResponse, GrantError> {
        let mut response = self.tokens.redeem(&Grant::Refresh { token: refresh_token }, ask).await?;
        if let Some(id_token) = response.id_token.take() {
            response.id_token = match self.check_identity(id_token, &response.access_token, expected).await {
                Err(GrantError::Malformed { reason, .. }) => {
                    return Err(GrantError::Malformed { reason, rotated: response.refresh_token });
                }
                checked => checked?,
            };
        }
        Ok(response)
    }

    /// A token of our own, for nobody's session.
    pub async fn client_credentials(&self, ask: &Ask<'_>) -> Result<TokenResponse, GrantError> {
        self.tokens.redeem(&Grant::ClientCredentials, ask).await
    }

    /// The session's access token, exchanged for one that lets the service act on its behalf (RFC 8693).
    pub async fn exchange(&self, subject: &Secret, ask: &Ask<'_>) -> Result<TokenResponse, GrantError> {
        self.tokens.redeem(&Grant::Exchange { subject }, ask).await
    }

    /// The old refresh token may be spent by now, so a key set that cannot be fetched must not cost
    /// the new one: the ID token is dropped unless it says it is of somebody else. One that is wrong in
    /// another way makes the whole answer unusable, and says nothing about the person.
    async fn check_identity(
        &self,
        id_token: Secret,
        access_token: &Secret,
        (issuer, subject): (&str, &str),
    ) -> Result<Option<Secret>, GrantError> {
        let unusable = |error: IdTokenError| GrantError::Malformed { reason: error.to_string(), rotated: None };
        let said = jwt::Compact::parse(id_token.expose()).map_err(|form| unusable(IdTokenError::Malformed(form)))?;
        let said = said.claims;
        if said.text("iss") != Some(issuer) || said.text("sub") != Some(subject) {
            return Err(GrantError::IdentityChanged);
        }
        match self.id_tokens.verify(&id_token, Expected { nonce: None, access_token }).await {
            Ok(_claims) => Ok(Some(id_token)),
            Err(IdTokenError::NotChecked(error)) => {
                tracing::warn!(idp = self.name(), %error, "refreshed id_token dropped, it could not be checked");
                Ok(None)
            }
            Err(error) => Err(unusable(error)),
        }
    }
}

/// Everything that is written is on loopback over plain http.
pub(super) fn is_local(idp: &IdpConfig) -> bool {
    let IdpEndpoints { token, jwks, revocation, introspection, .. } = &idp.endpoints;
    let plain = |url: &Url| url.scheme() == "http" && is_loopback(url);
    Url::parse(&idp.issuer).is_ok_and(|issuer| plain(&issuer))
        && [token, jwks, revocation, introspection].into_iter().flatten().all(plain)
}
