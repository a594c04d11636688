//! A provider as far as a proxy asks one: its keys and its discovery document. Nobody logs in here.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::upstream::{Answers, answer};

/// Of the route's service, of the provider's entry and of the façade alike.
pub const AUDIENCE: &str = "https://api.bench.example";

/// An RSA key of 2048 bits, the usual size.
pub struct Provider {
    key: EncodingKey,
    issuer: String,
}

impl Provider {
    /// `issuer` is where [`Self::publish`]ed documents will be served.
    pub fn new(issuer: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
        Self { key: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), issuer: issuer.to_owned() }
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Adds discovery and keys to what an upstream answers.
    pub fn publish(&self, answers: &mut Answers) {
        let at = |path: &str| format!("{}{path}", self.issuer);
        let discovery = json!({
            "issuer": self.issuer, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
            "jwks_uri": at("/jwks"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        let mut key = Jwk::from_encoding_key(&self.key, Algorithm::RS256).unwrap();
        key.common.key_id = Some("bench".to_owned());
        let keys = serde_json::to_value(JwkSet { keys: vec![key] }).unwrap();
        for (path, document) in [("/.well-known/openid-configuration", discovery), ("/jwks", keys)] {
            answers.insert(path.to_owned(), answer("application/json", "max-age=300", document.to_string().as_bytes()));
        }
    }

    /// An access token (RFC 9068) for [`AUDIENCE`], good for a day; about 800 bytes.
    pub fn access_token(&self, subject: &str) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": self.issuer, "sub": subject, "aud": AUDIENCE, "client_id": "bench", "iat": now, "exp": now + 86_400,
            "jti": format!("{subject}-{now}"), "scope": "orders.read orders.write reports.read",
            "roles": ["reader", "editor"],
        });
        self.sign("at+jwt", &claims)
    }

    /// An ID token for the client `bench` (OpenID Connect Core §2), for a login that asked with this nonce.
    pub fn id_token(&self, subject: &str, nonce: &str) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": self.issuer, "sub": subject, "aud": "bench", "iat": now, "exp": now + 86_400, "nonce": nonce,
        });
        self.sign("JWT", &claims)
    }

    fn sign(&self, kind: &str, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::RS256);
        header.typ = Some(kind.to_owned());
        header.kid = Some("bench".to_owned());
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}
