//! The signing key: made at start, held in memory, gone with the process.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value};

use crate::crypto::sha256;

/// Why there is no key or no signature.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gave no key.
    #[error("no signing key could be generated")]
    Generate,
    /// The key was made and then not understood, or it did not sign.
    #[error("the signing key cannot be used: {0}")]
    Use(#[from] jsonwebtoken::errors::Error),
}

/// One ES256 key pair. P-256 because it is made in a millisecond, where RSA takes a noticeable while.
pub struct Keys {
    private: EncodingKey,
    public: DecodingKey,
    jwk: Jwk,
    id: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("kid", &self.id).finish_non_exhaustive()
    }
}

impl Keys {
    /// A new key; its `kid` is its thumbprint (RFC 7638).
    pub fn generate() -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyError::Generate)?;
        let private = EncodingKey::from_ec_der(document.as_ref());
        let mut jwk = Jwk::from_encoding_key(&private, Algorithm::ES256)?;
        let id = jwk.thumbprint(ThumbprintHash::SHA256)?;
        jwk.common.key_id = Some(id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let public = DecodingKey::from_jwk(&jwk)?;
        Ok(Self { private, public, jwk, id })
    }

    /// The public half, as served at `/jwks`.
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: vec![self.jwk.clone()] }
    }

    /// A signed JWT with header `typ`.
    pub fn sign(&self, typ: &str, claims: &Value) -> Result<String, KeyError> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.id.clone());
        Ok(jsonwebtoken::encode(&header, claims, &self.private)?)
    }

    /// The claims of a token that this key signed; whether it is still valid is not asked.
    pub fn open(&self, token: &str) -> Option<Map<String, Value>> {
        let mut rules = Validation::new(Algorithm::ES256);
        rules.validate_exp = false;
        rules.validate_aud = false;
        rules.required_spec_claims.clear();
        jsonwebtoken::decode(token, &self.public, &rules).ok().map(|opened| opened.claims)
    }
}

/// `at_hash` (`OpenID` Connect Core §3.1.3.6).
pub fn at_hash(access_token: &str) -> String {
    let hash = sha256(access_token.as_bytes());
    let (left, _) = hash.split_at(hash.len() / 2);
    URL_SAFE_NO_PAD.encode(left)
}
