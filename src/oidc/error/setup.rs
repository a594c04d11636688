//! What no provider can mend.

use thiserror::Error;

/// An `idps.yaml` entry that cannot work whatever the provider does.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetupError {
    /// `issuer` is not a URL we may talk to.
    #[error("issuer {0} is not an https URL (http is for loopback only)")]
    Issuer(String),
    /// A written endpoint that is neither https nor on loopback.
    #[error("endpoint {0} is not an https URL (http is for loopback only)")]
    Endpoint(String),
    /// The way the client authenticates needs `client_secret`.
    #[error("token_auth_method needs client_secret")]
    NoSecret,
    /// `client_secret` is no private key that can sign.
    #[error("client_secret is not a usable private key: a PKCS#8 PEM of RSA, P-256, P-384 or Ed25519 is needed ({0})")]
    ClientKey(String),
    /// Nothing in `algorithms` is an asymmetric JWS algorithm.
    #[error("algorithms names none of RS*, PS*, ES256, ES384, EdDSA")]
    Algorithms,
    /// The HTTP client cannot be made, most often for want of CA certificates.
    #[error("TLS for requests to the provider cannot be set up: {0}")]
    Tls(String),
}
