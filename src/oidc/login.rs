//! Logging in: authorization code with PKCE S256, `state`, `nonce` and `iss`
//! (OpenID Connect Core §3.1, RFC 7636, RFC 9207, RFC 8707).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::callback::CallbackParams;
use super::claims::Claims;
use super::discovery::Metadata;
use super::error::{IdTokenError, IdpError, LoginError};
use super::grant::{Ask, Grant};
use super::id_token::Expected;
use super::random;
use super::relying_party::RelyingParty;
use super::token_response::TokenResponse;
use crate::config::{AudienceParameter, Secret};
use crate::resilience::UnixTime;

/// Claims people are shown, unless `claims_mapping` names more.
const SHOWN: [&str; 9] =
    ["sub", "name", "preferred_username", "email", "email_verified", "given_name", "family_name", "picture", "locale"];
/// Bytes of JSON; a session must not grow with a provider's whole directory.
const MAX_CLAIM: usize = 4096;

/// What a login is begun with.
#[derive(Debug, Clone, Default)]
pub struct LoginAsk {
    /// Every audience a token may be needed for later; the entry's own is added. Repetitions are dropped.
    pub audiences: Vec<String>,
    /// Scopes beyond the entry's own, for those audiences; the same holds.
    pub scopes: Vec<String>,
    /// Where the browser goes afterwards; checked by the caller.
    pub return_to: String,
}

/// A login under way. The caller keeps it, sealed and once, under its `state`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flow {
    /// Name of the `idps.yaml` entry.
    pub idp: String,
    /// Its issuer then. Empty in a flow of before this was kept: of nobody.
    #[serde(default)]
    pub issuer: String,
    /// 256 random bits; travels through the browser.
    #[serde(with = "plain")]
    pub state: Secret,
    /// 256 random bits; comes back in the ID token.
    #[serde(with = "plain")]
    pub nonce: Secret,
    /// PKCE.
    #[serde(with = "plain")]
    pub verifier: Secret,
    /// As asked.
    pub return_to: String,
    /// Every distinct audience asked for.
    pub audiences: Vec<String>,
    /// When it began.
    pub created_at: UnixTime,
}

/// Somebody logged in, and everything about it was checked.
#[derive(Debug, Clone)]
pub struct Login {
    /// `sub` of the ID token.
    pub subject: String,
    /// `iss` of the ID token.
    pub issuer: String,
    /// The ARN alias of the `idps.yaml` entry.
    pub provider: String,
    /// Claims people are shown, by our names. `sub` is always the token's own.
    pub claims: BTreeMap<String, Value>,
    /// `sid` of the ID token.
    pub idp_session: Option<String>,
    /// `auth_time` of the ID token, else now.
    pub authenticated_at: UnixTime,
    /// For `id_token_hint`.
    pub id_token: Secret,
    /// The login access token and, where granted, the refresh token.
    pub tokens: TokenResponse,
    /// As in the flow.
    pub audiences: Vec<String>,
}

/// How a [`Flow`] writes its secrets: the caller seals the whole.
mod plain {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::config::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

impl RelyingParty {
    /// Where to send the browser, and what to remember until it comes back.
    pub async fn begin_login(&self, ask: LoginAsk) -> Result<(Url, Flow), IdpError> {
        let metadata = self.known.discovery.get().await?;
        let endpoint = metadata.authorization.clone().ok_or(IdpError::NoEndpoint("authorization_endpoint"))?;
        let flow = Flow {
            idp: self.idp.name.clone(),
            issuer: self.idp.issuer.clone(),
            state: random::draw()?,
            nonce: random::draw()?,
            verifier: random::draw()?,
            audiences: distinct(
                self.idp.audience.iter().chain(&ask.audiences).filter(|audience| !self.refuses_audience(audience)),
            ),
            return_to: ask.return_to,
            created_at: self.clock.now(),
        };
        let scopes = distinct(self.scopes.iter().chain(&ask.scopes));
        Ok((self.authorization_url(endpoint, &flow, &scopes), flow))
    }

    fn authorization_url(&self, mut url: Url, flow: &Flow, scopes: &[String]) -> Url {
        // RFC 6749 §3.1: a query the endpoint already has stays.
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.idp.client_id)
            .append_pair("redirect_uri", self.redirect_uri.as_str())
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", flow.state.expose())
            .append_pair("nonce", flow.nonce.expose())
            .append_pair("code_challenge", &random::challenge(&flow.verifier))
            .append_pair("code_challenge_method", "S256");
        match self.idp.audience_parameter {
            AudienceParameter::Resource => query.extend_pairs(flow.audiences.iter().map(|one| ("resource", one))),
            AudienceParameter::Audience => query.extend_pairs(flow.audiences.first().map(|one| ("audience", one))),
            AudienceParameter::None => &mut query,
        };
        // OpenID Connect Core §11: without it `offline_access` is dropped in silence.
        let written = &self.idp.authorization_params;
        if !written.contains_key("prompt") && scopes.iter().any(|scope| scope == "offline_access") {
            query.append_pair("prompt", "consent");
        }
        query.extend_pairs(written.iter().filter(|(_, value)| !value.is_empty()));
        drop(query);
        url
    }

    /// Turns the browser's callback into a login. Nothing is sent to the token endpoint before the
    /// answer is known to be ours; the code is sent once.
    pub async fn finish_login(&self, flow: Flow, callback: &CallbackParams) -> Result<Login, LoginError> {
        // One entry may name another issuer since: it must not get the code and verifier of the first (RFC 9700 §4.4).
        if flow.idp != self.idp.name || flow.issuer != self.idp.issuer {
            return Err(LoginError::WrongProvider);
        }
        if !callback.state.as_ref().is_some_and(|state| random::same(state.expose(), flow.state.expose())) {
            return Err(LoginError::State);
        }
        check_issuer(&*self.known.discovery.get().await?, callback.iss.as_deref())?;
        if let Some(error) = &callback.error {
            return Err(LoginError::Denied { error: error.clone(), description: callback.error_description.clone() });
        }
        let code = callback.code.as_ref().ok_or(LoginError::NoCode)?;
        let grant = Grant::Code { code, redirect_uri: &self.redirect_uri, verifier: &flow.verifier };
        // What was left out of the login is left out here: it would be refused, or spend the code for nothing.
        let own = self.idp.audience.as_ref().filter(|own| flow.audiences.contains(own));
        let ask = Ask { audience: own.map(String::as_str), scopes: &[] };
        let tokens = self.tokens.redeem(&grant, &ask).await?;
        let id_token = tokens.id_token.clone().ok_or(IdTokenError::Absent)?;
        let expected = Expected { nonce: Some(&flow.nonce), access_token: &tokens.access_token };
        let claims = self.id_tokens.verify(&id_token, expected).await?;
        Ok(Login {
            subject: claims.text("sub").ok_or(IdTokenError::Claim("sub"))?.to_owned(),
            issuer: self.idp.issuer.clone(),
            provider: self.idp.provider.clone(),
            claims: shown(&claims, &self.idp.claims_mapping),
            idp_session: claims.text("sid").map(str::to_owned),
            authenticated_at: claims.time("auth_time").unwrap_or_else(|| self.clock.now()),
            id_token,
            tokens,
            audiences: flow.audiences,
        })
    }
}

/// RFC 9207 §2.4: in error answers as well, before anything else is believed.
fn check_issuer(metadata: &Metadata, iss: Option<&str>) -> Result<(), LoginError> {
    match iss {
        Some(iss) if iss == metadata.issuer => Ok(()),
        Some(iss) => Err(LoginError::Issuer(iss.to_owned())),
        None if metadata.announces_iss => Err(LoginError::IssuerMissing),
        None => Ok(()),
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for name in names {
        if !kept.contains(name) {
            kept.push(name.clone());
        }
    }
    kept
}

fn shown(claims: &Claims, mapping: &BTreeMap<String, String>) -> BTreeMap<String, Value> {
    let names = SHOWN.into_iter().chain(mapping.keys().map(String::as_str));
    let mut shown = BTreeMap::new();
    for name in names {
        // Whose session it is does not depend on how claims are shown.
        let source = if name == "sub" { name } else { mapping.get(name).map_or(name, String::as_str) };
        if let Some(value) = claims.get(source).filter(|value| value.to_string().len() <= MAX_CLAIM) {
            shown.insert(name.to_owned(), value.clone());
        }
    }
    shown
}
