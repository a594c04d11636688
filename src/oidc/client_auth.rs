//! How we prove to the provider who we are at its token endpoint (OpenID Connect Core §9).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use url::form_urlencoded;

use super::discovery::Metadata;
use super::error::{GrantError, IdpError, SetupError};
use super::grant::Form;
use super::random;
use crate::config::{AssertionAudience, ClientAuthMethod, IdpConfig, Secret};
use crate::pem::signing_key;
use crate::resilience::UnixTime;

/// A client assertion is used at once.
const ASSERTION_SECONDS: i64 = 60;

/// The client's credentials, ready to be added to a request.
#[derive(Debug)]
pub(super) enum ClientAuth {
    /// The whole value of `Authorization`.
    Basic(Secret),
    Post {
        client_id: String,
        secret: Secret,
    },
    Assertion(Box<Signer>),
    /// A public client only says who it is.
    None {
        client_id: String,
    },
}

/// Signs client assertions (RFC 7523 §2.2).
#[derive(Debug)]
pub(super) struct Signer {
    client_id: String,
    issuer: String,
    audience: AssertionAudience,
    key_id: Option<String>,
    key: EncodingKey,
    /// What this key can sign with, the preferred first.
    algorithms: Vec<Algorithm>,
}

impl ClientAuth {
    pub(super) fn new(idp: &IdpConfig) -> Result<Self, SetupError> {
        let secret = || idp.client_secret.clone().ok_or(SetupError::NoSecret);
        let client_id = idp.client_id.clone();
        Ok(match idp.token_auth_method {
            ClientAuthMethod::ClientSecretBasic => Self::Basic(basic(&client_id, &secret()?)),
            ClientAuthMethod::ClientSecretPost => Self::Post { client_id, secret: secret()? },
            ClientAuthMethod::PrivateKeyJwt => Self::Assertion(Box::new(Signer::new(idp, &secret()?)?)),
            ClientAuthMethod::None => Self::None { client_id },
        })
    }

    /// The same secret, sent the other way.
    pub(super) fn otherwise(idp: &IdpConfig) -> Option<Self> {
        let (client_id, secret) = (idp.client_id.clone(), idp.client_secret.clone()?);
        match idp.token_auth_method {
            ClientAuthMethod::ClientSecretBasic => Some(Self::Post { client_id, secret }),
            ClientAuthMethod::ClientSecretPost => Some(Self::Basic(basic(&client_id, &secret))),
            ClientAuthMethod::PrivateKeyJwt | ClientAuthMethod::None => None,
        }
    }

    /// As discovery lists it.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Basic(_) => "client_secret_basic",
            Self::Post { .. } => "client_secret_post",
            Self::Assertion(_) => "private_key_jwt",
            Self::None { .. } => "none",
        }
    }

    /// Adds the credentials to `form`, or returns the value of `Authorization`. `known`: what
    /// the provider says of itself.
    pub(super) fn apply(
        &self,
        form: &mut Form,
        known: Option<&Metadata>,
        now: UnixTime,
    ) -> Result<Option<&Secret>, GrantError> {
        match self {
            Self::Basic(value) => return Ok(Some(value)),
            Self::Post { client_id, secret } => {
                form.add("client_id", client_id).add("client_secret", secret.expose());
            }
            Self::Assertion(signer) => {
                let assertion = signer.sign(known, now)?;
                form.add("client_id", &signer.client_id)
                    .add("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
                    .add("client_assertion", assertion.expose());
            }
            Self::None { client_id } => {
                form.add("client_id", client_id);
            }
        }
        Ok(None)
    }
}

/// RFC 6749 §2.3.1: id and secret are form-encoded before they are joined.
fn basic(client_id: &str, secret: &Secret) -> Secret {
    Secret::new(format!("Basic {}", STANDARD.encode(format!("{}:{}", encode(client_id), encode(secret.expose())))))
}

/// A blank as `%20`: who reads forms takes that as well as `+`, and some undo nothing else.
fn encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// Whether the secret goes out as something else than it is, which some providers do not undo.
pub(super) fn is_sent_encoded(idp: &IdpConfig) -> bool {
    let altered = |text: &str| encode(text) != text;
    idp.token_auth_method == ClientAuthMethod::ClientSecretBasic
        && (altered(&idp.client_id) || idp.client_secret.as_ref().is_some_and(|secret| altered(secret.expose())))
}

#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
}

impl Signer {
    fn new(idp: &IdpConfig, pem: &Secret) -> Result<Self, SetupError> {
        let (key, algorithms) = signing_key(pem.expose()).map_err(SetupError::ClientKey)?;
        Ok(Self {
            client_id: idp.client_id.clone(),
            issuer: idp.issuer.clone(),
            audience: idp.assertion_audience,
            key_id: idp.key_id.clone(),
            key,
            algorithms,
        })
    }

    /// The audience is the issuer alone, if the entry says nothing else: an assertion for one endpoint's URL can be replayed
    /// by whoever controls that endpoint (RFC 7523bis, FAPI 2.0 §5.3.3).
    fn sign(&self, known: Option<&Metadata>, now: UnixTime) -> Result<Secret, GrantError> {
        let broken = || GrantError::Unreachable { reason: "the client assertion cannot be signed".into() };
        let jti = random::draw().map_err(|_error| IdpError::NoRandom)?;
        let accepted = known.map_or(&[][..], |metadata| &metadata.assertion_algorithms);
        let audience = match self.audience {
            AssertionAudience::Issuer => self.issuer.as_str(),
            AssertionAudience::TokenEndpoint => {
                let url = known.and_then(|metadata| metadata.token.as_ref());
                url.ok_or(IdpError::NoEndpoint("token_endpoint"))?.as_str()
            }
        };
        let mut header = Header::new(self.algorithm(accepted).ok_or_else(broken)?);
        header.kid.clone_from(&self.key_id);
        let claims = Assertion {
            iss: &self.client_id,
            sub: &self.client_id,
            aud: audience,
            jti: jti.expose(),
            iat: now.0,
            nbf: now.0,
            exp: now.0 + ASSERTION_SECONDS,
        };
        jsonwebtoken::encode(&header, &claims, &self.key).map(Secret::new).map_err(|_error| broken())
    }

    /// The preferred one the provider takes; the preferred one when it does not say.
    fn algorithm(&self, accepted: &[String]) -> Option<Algorithm> {
        let takes = |own: &&Algorithm| accepted.iter().any(|name| super::jwks::algorithm(name) == Some(**own));
        self.algorithms.iter().find(takes).or_else(|| self.algorithms.first()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_secret_are_form_encoded_inside_basic() {
        let value = basic("my client", &Secret::new("p:ä+s/ß"));
        let decoded = STANDARD.decode(value.expose().strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(String::from_utf8(decoded).unwrap(), "my%20client:p%3A%C3%A4%2Bs%2F%C3%9F");
    }
}
