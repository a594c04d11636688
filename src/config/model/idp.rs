//! `conf/idps.yaml` as written, with its defaults.

use std::collections::BTreeMap;

use jsonwebtoken::Algorithm;
use url::Url;

use crate::config::Secret;

/// One entry of `conf/idps.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdpConfig {
    /// Unique; what `auth.idp` names.
    pub name: String,
    /// The alias in `auth:account:{provider}:{sub}`; falls back to `name`.
    pub provider: String,
    /// As written: compared byte for byte with `iss` (OpenID Connect Core §3.1.3.7).
    pub issuer: String,
    /// What a token for ourselves must carry, and what the login access token is asked for.
    pub audience: Option<String>,
    /// Whom an ID token may name beside our client id and `audience`: those that are written, and, for the entry that users
    /// log in with, those that services' tokens are for.
    pub trusted_audiences: Vec<String>,
    /// Our identifier at the provider.
    pub client_id: String,
    /// The shared secret; with `private_key_jwt` the PEM of the private key.
    pub client_secret: Option<Secret>,
    /// How we prove who we are at the token endpoint.
    pub token_auth_method: ClientAuthMethod,
    /// `kid` of the client assertion, where the provider holds several keys of ours.
    pub key_id: Option<String>,
    /// `aud` of the client assertion; default `issuer`.
    pub assertion_audience: AssertionAudience,
    /// Overrides `auth.oauth_scopes` for logins with this entry.
    pub scopes: Option<Vec<String>>,
    /// `authorization_url` and its kin.
    pub endpoints: IdpEndpoints,
    /// JWS algorithms accepted from this issuer.
    pub algorithms: Vec<Algorithm>,
    /// How a token is asked for a service; default `resource`.
    pub audience_parameter: AudienceParameter,
    /// Our claim name (`name`, `email`, …; never `sub`) → the provider's.
    pub claims_mapping: BTreeMap<String, String>,
    /// What a login asks for beyond our own parameters. `prompt` replaces ours; what is empty is not sent.
    pub authorization_params: BTreeMap<String, String>,
}

/// What an entry writes of its provider's endpoints. Absent: from discovery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdpEndpoints {
    /// `authorization_endpoint`.
    pub authorization: Option<Url>,
    /// `token_endpoint`.
    pub token: Option<Url>,
    /// `jwks_uri`.
    pub jwks: Option<Url>,
    /// `introspection_endpoint` (RFC 7662).
    pub introspection: Option<Url>,
    /// `revocation_endpoint` (RFC 7009).
    pub revocation: Option<Url>,
    /// `end_session_endpoint` (RP-Initiated Logout).
    pub end_session: Option<Url>,
}

impl IdpEndpoints {
    /// Those that are written.
    pub fn written(&self) -> impl Iterator<Item = &Url> {
        let Self { authorization, token, jwks, introspection, revocation, end_session } = self;
        [authorization, token, jwks, introspection, revocation, end_session].into_iter().flatten()
    }
}

/// `token_auth_method`, named as in OpenID Connect Core §9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuthMethod {
    /// `client_secret_basic`, the default.
    ClientSecretBasic,
    /// `client_secret_post`
    ClientSecretPost,
    /// `private_key_jwt` (RFC 7523 §2.2).
    PrivateKeyJwt,
    /// A public client.
    None,
}

/// For whom a client assertion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssertionAudience {
    /// The issuer, for every endpoint (RFC 7523bis, FAPI 2.0 §5.3.3).
    Issuer,
    /// The token endpoint's URL, as RFC 7523 §3 had it at first.
    TokenEndpoint,
}

/// How this provider is told for whom a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudienceParameter {
    /// `resource=` (RFC 8707).
    Resource,
    /// `audience=`.
    Audience,
    /// Scopes say it all.
    None,
}
