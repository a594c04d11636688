//! The provider's own description (OpenID Connect Discovery 1.0, RFC 8414), with what `idps.yaml`
//! writes laid over it.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::claims::words;
use super::error::{FetchError, IdpError, SetupError, quote};
use super::http::{Endpoint, HttpClient, is_safe};
use super::kept::Kept;
use crate::config::{IdpConfig, IdpEndpoints};
use crate::resilience::Clock;

/// What we know of a provider. An endpoint is `None` where neither the document nor `idps.yaml` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Equal to the letter to the one of `idps.yaml`.
    pub issuer: String,
    /// Where the browser is sent to log in.
    pub authorization: Option<Url>,
    /// Where codes and refresh tokens are redeemed.
    pub token: Option<Url>,
    /// Where the signing keys are.
    pub jwks: Option<Url>,
    /// RFC 7009.
    pub revocation: Option<Url>,
    /// How clients may say there who they are (RFC 8414 §2); empty: not told.
    pub revocation_methods: Vec<String>,
    /// OpenID Connect RP-Initiated Logout.
    pub end_session: Option<Url>,
    /// Every authorization response carries `iss` (RFC 9207 §3).
    pub announces_iss: bool,
    /// JWS algorithms of client assertions; empty: not told.
    pub assertion_algorithms: Vec<String>,
    /// JWS algorithms of ID tokens; empty: not told.
    pub id_token_algorithms: Vec<String>,
    /// Endpoints of the document that no login needs and that cannot be used; they are left out.
    pub unusable: Vec<Unusable>,
}

impl Metadata {
    /// What a login needs and nobody names. Who only issues tokens for others may do without all but keys.
    fn lack(&self) -> Option<IdpError> {
        let needed = [
            (&self.authorization, "authorization_endpoint"),
            (&self.token, "token_endpoint"),
            (&self.jwks, "jwks_uri"),
        ];
        needed.into_iter().find(|(endpoint, _)| endpoint.is_none()).map(|(_, name)| IdpError::NoEndpoint(name))
    }
}

/// An endpoint of the document that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// The key of the document.
    pub endpoint: &'static str,
    /// Its value.
    pub found: String,
    /// The key of `idps.yaml` that takes its place.
    pub instead: &'static str,
    /// What does not work without it.
    pub lost: &'static str,
}

/// The document as it is on the wire; what we do not use is not read.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    jwks_uri: Option<String>,
    revocation_endpoint: Option<Value>,
    revocation_endpoint_auth_methods_supported: Option<Value>,
    end_session_endpoint: Option<Value>,
    authorization_response_iss_parameter_supported: Option<bool>,
    token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    id_token_signing_alg_values_supported: Option<Value>,
}

/// What `idps.yaml` writes.
#[derive(Debug, Clone)]
struct Written {
    issuer: String,
    endpoints: IdpEndpoints,
}

/// Key of the document, key of `idps.yaml`, and what does not work without them.
const REVOCATION: [&str; 3] =
    ["revocation_endpoint", "revocation_url", "a logout does not revoke the refresh token at the provider"];
const END_SESSION: [&str; 3] = ["end_session_endpoint", "end_session_url", "a logout here is none at the provider"];

/// The provider's description, kept.
#[derive(Debug, Clone)]
pub(super) struct Discovery {
    kept: Kept<Metadata>,
}

impl Discovery {
    pub(super) fn new(idp: &IdpConfig, http: HttpClient, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let written = Written::new(idp)?;
        let address = well_known(&idp.issuer)?;
        // Whoever writes all that a login needs can do without discovery.
        let first = written.is_enough().then(|| written.metadata());
        let kept = Kept::new(&idp.name, "discovery", clock, first, Metadata::lack, move || {
            let (http, address, written) = (http.clone(), address.clone(), written.clone());
            Box::pin(async move { discover(&http, &address, &written).await })
        });
        Ok(Self { kept })
    }

    /// What is known, fetched when nothing is.
    pub(super) async fn get(&self) -> Result<Arc<Metadata>, IdpError> {
        self.kept.get().await
    }

    /// What is known, without asking.
    pub(super) fn peek(&self) -> Option<Arc<Metadata>> {
        self.kept.peek()
    }

    /// Asks now.
    pub(super) async fn fetch(&self) -> Result<Arc<Metadata>, IdpError> {
        self.kept.fetch().await
    }
}

/// OpenID Connect Discovery §4.1: a terminating slash of the issuer goes before the path is added.
fn well_known(issuer: &str) -> Result<Url, SetupError> {
    let refuse = || SetupError::Issuer(quote(issuer));
    let url = Url::parse(issuer).map_err(|_invalid| refuse())?;
    if !is_safe(&url) || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse());
    }
    Url::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))).map_err(|_bad| refuse())
}

async fn discover(http: &HttpClient, address: &Url, written: &Written) -> Result<Metadata, IdpError> {
    let failed = |cause| IdpError::Discovery { issuer: written.issuer.clone(), cause };
    let body = http.get(Endpoint::Discovery, address).await.map_err(failed)?;
    let document: Document = serde_json::from_slice(&body)
        .map_err(|error| failed(FetchError::Malformed(quote(&format!("not a discovery document: {error}")))))?;
    // §4.3: the issuer must be the one that was asked, exactly.
    if document.issuer != written.issuer {
        return Err(IdpError::WrongIssuer { wanted: written.issuer.clone(), found: quote(&document.issuer) });
    }
    let metadata = written.merge(document)?;
    for Unusable { endpoint, found, lost, .. } in &metadata.unusable {
        tracing::warn!(
            issuer = metadata.issuer,
            endpoint,
            found,
            lost,
            "an endpoint of discovery is not https and is left out"
        );
    }
    Ok(metadata)
}

impl Written {
    fn new(idp: &IdpConfig) -> Result<Self, SetupError> {
        if let Some(url) = idp.endpoints.written().find(|url| !is_safe(url)) {
            return Err(SetupError::Endpoint(url.to_string()));
        }
        Ok(Self { issuer: idp.issuer.clone(), endpoints: idp.endpoints.clone() })
    }

    fn is_enough(&self) -> bool {
        let IdpEndpoints { authorization, token, jwks, .. } = &self.endpoints;
        authorization.is_some() && token.is_some() && jwks.is_some()
    }

    fn metadata(&self) -> Metadata {
        let IdpEndpoints { authorization, token, jwks, revocation, end_session, introspection: _ } =
            self.endpoints.clone();
        Metadata {
            issuer: self.issuer.clone(),
            authorization,
            token,
            jwks,
            revocation,
            revocation_methods: Vec::new(),
            end_session,
            announces_iss: false,
            assertion_algorithms: Vec::new(),
            id_token_algorithms: Vec::new(),
            unusable: Vec::new(),
        }
    }

    fn merge(&self, found: Document) -> Result<Metadata, IdpError> {
        let choose = |written: &Option<Url>, endpoint, found: Option<String>| match (written, found) {
            (Some(url), _) => Ok(Some(url.clone())),
            (None, Some(text)) => usable(&text).map(Some).ok_or(IdpError::Insecure { endpoint, url: quote(&text) }),
            (None, None) => Ok(None),
        };
        let mut unusable = Vec::new();
        let mut choose_optional = |written: &Option<Url>, found: Option<Value>, [endpoint, instead, lost]: [_; 3]| {
            if written.is_some() {
                return written.clone();
            }
            let value = found?;
            let url = value.as_str().and_then(usable);
            if url.is_none() {
                unusable.push(Unusable { endpoint, found: quote(&value.to_string()), instead, lost });
            }
            url
        };
        let endpoints = &self.endpoints;
        Ok(Metadata {
            authorization: choose(&endpoints.authorization, "authorization_endpoint", found.authorization_endpoint)?,
            token: choose(&endpoints.token, "token_endpoint", found.token_endpoint)?,
            jwks: choose(&endpoints.jwks, "jwks_uri", found.jwks_uri)?,
            revocation: choose_optional(&endpoints.revocation, found.revocation_endpoint, REVOCATION),
            revocation_methods: listed(found.revocation_endpoint_auth_methods_supported.as_ref()),
            end_session: choose_optional(&endpoints.end_session, found.end_session_endpoint, END_SESSION),
            announces_iss: found.authorization_response_iss_parameter_supported.unwrap_or(false),
            assertion_algorithms: found.token_endpoint_auth_signing_alg_values_supported.unwrap_or_default(),
            id_token_algorithms: listed(found.id_token_signing_alg_values_supported.as_ref()),
            unusable,
            issuer: found.issuer,
        })
    }
}

fn listed(value: Option<&Value>) -> Vec<String> {
    value.map(words).unwrap_or_default()
}

fn usable(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(is_safe)
}
