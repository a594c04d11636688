//! Signing keys of the provider in the tests, made afresh.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) kid: Option<&'static str>,
    pub(super) algorithm: Algorithm,
    private: EncodingKey,
    pub(super) pem: String,
}

impl Key {
    pub(super) fn ed25519(kid: &'static str) -> Self {
        let der = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
        let pem = pem(der.as_ref());
        Self {
            kid: Some(kid),
            algorithm: Algorithm::EdDSA,
            private: EncodingKey::from_ed_pem(pem.as_bytes()).unwrap(),
            pem,
        }
    }

    pub(super) fn p256(kid: &'static str) -> Self {
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let pem = pem(der.as_ref());
        Self {
            kid: Some(kid),
            algorithm: Algorithm::ES256,
            private: EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
            pem,
        }
    }

    pub(super) fn rsa(kid: &'static str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem = pem(der.as_ref());
        Self {
            kid: Some(kid),
            algorithm: Algorithm::RS256,
            private: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
            pem,
        }
    }

    /// As in a JWK set.
    pub(super) fn published(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.private, self.algorithm).unwrap()).unwrap();
        let fields = jwk.as_object_mut().unwrap();
        fields.remove("alg");
        fields.insert("use".into(), "sig".into());
        if let Some(kid) = self.kid {
            fields.insert("kid".into(), kid.into());
        }
        jwk
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let name = serde_json::to_value(self.algorithm).unwrap();
        let header = match self.kid {
            Some(kid) => json!({ "alg": name, "kid": kid }),
            None => json!({ "alg": name }),
        };
        self.sign_as(&header, claims)
    }

    /// With whatever header, signed as this key signs.
    pub(super) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// An HMAC over a token, as an attacker who knows `secret` would make it.
pub(super) fn hmac(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = message(header, claims);
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

pub(super) fn message(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}
