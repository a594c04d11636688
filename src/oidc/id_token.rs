//! Whether an ID token is believed: OpenID Connect Core §3.1.3.7, in its order.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;

use super::claims::{Claims, LEEWAY};
use super::error::{IdTokenError, quote};
use super::jwks::{Bringer, Jwks};
use super::jwt::Compact;
use super::random::same;
use super::signature;
use crate::config::{IdpConfig, Secret};
use crate::resilience::{Clock, UnixTime};
use crate::telemetry::Metrics;

/// Knows what an ID token for us looks like.
#[derive(Debug)]
pub(super) struct IdTokenVerifier {
    issuer: String,
    client_id: String,
    /// Whom a token may name beside us.
    trusted: Vec<String>,
    algorithms: Vec<Algorithm>,
    jwks: Jwks,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// What one particular ID token must say beyond that.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    /// Of this login; `None` on a refresh (§12.2).
    pub(super) nonce: Option<&'a Secret>,
    /// The one it came with, for `at_hash`.
    pub(super) access_token: &'a Secret,
}

impl IdTokenVerifier {
    pub(super) fn new(idp: &IdpConfig, jwks: Jwks, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            issuer: idp.issuer.clone(),
            client_id: idp.client_id.clone(),
            trusted: idp.audience.iter().chain(&idp.trusted_audiences).cloned().collect(),
            algorithms: idp.algorithms.clone(),
            jwks,
            clock,
            metrics,
        }
    }

    /// The claims of a token that passed every check.
    pub(super) async fn verify(&self, token: &Secret, expected: Expected<'_>) -> Result<Claims, IdTokenError> {
        let outcome = self.check(token, &expected).await;
        let status = match &outcome {
            Ok(_) => "valid",
            Err(error) if error.is_provider_down() => "not_checked",
            Err(_) => "invalid",
        };
        self.metrics.token_validation.with_label_values(&["id_token", status]).inc();
        outcome
    }

    async fn check(&self, token: &Secret, expected: &Expected<'_>) -> Result<Claims, IdTokenError> {
        let compact = Compact::parse(token.expose()).map_err(IdTokenError::Malformed)?;
        refuse_other_kinds(compact.header.kind.as_deref())?;
        let algorithm = signature::verify(&compact, &self.algorithms, &self.jwks, Bringer::Provider).await?;
        let claims = compact.claims;
        let issuer = claims.text("iss").ok_or(IdTokenError::Claim("iss"))?;
        if issuer != self.issuer {
            return Err(IdTokenError::Issuer(quote(issuer)));
        }
        self.check_audience(&claims)?;
        claims.subject_in("sub").ok_or(IdTokenError::Claim("sub"))?;
        check_times(&claims, self.clock.now())?;
        if let Some(nonce) = expected.nonce {
            let found = claims.text("nonce").ok_or(IdTokenError::Claim("nonce"))?;
            if !same(found, nonce.expose()) {
                return Err(IdTokenError::Nonce);
            }
        }
        check_access_token(&claims, expected.access_token, algorithm)?;
        Ok(claims)
    }

    /// Our client id must be there (§3.1.3.7 point 3).
    pub(super) fn is_for_us(&self, audience: &[String]) -> bool {
        audience.contains(&self.client_id)
    }

    /// Whom a token names beside us that nobody here trusts (the same point), fit for a log.
    pub(super) fn strangers(&self, audience: &[String]) -> Option<String> {
        let strange = |one: &&String| **one != self.client_id && !self.trusted.contains(one);
        let strangers: Vec<&str> = audience.iter().filter(strange).map(String::as_str).collect();
        (!strangers.is_empty()).then(|| quote(&strangers.join(", ")))
    }

    /// And we are the one it was issued to, where it says to whom: with audiences that are all trusted it need not (points
    /// 4 and 5 since errata set 2).
    fn check_audience(&self, claims: &Claims) -> Result<(), IdTokenError> {
        let audience = claims.audience().ok_or(IdTokenError::Claim("aud"))?;
        if !self.is_for_us(&audience) {
            return Err(IdTokenError::Audience(quote(&audience.join(" "))));
        }
        if let Some(strangers) = self.strangers(&audience) {
            return Err(IdTokenError::Strangers(strangers));
        }
        match claims.get("azp") {
            Some(party) if party.as_str() != Some(&self.client_id) => Err(IdTokenError::AuthorizedParty),
            _ => Ok(()),
        }
    }
}

/// An access token or a logout token is signed with the same keys (RFC 8725 §3.11).
fn refuse_other_kinds(kind: Option<&str>) -> Result<(), IdTokenError> {
    if matches!(kind, Some("at+jwt" | "logout+jwt")) {
        return Err(IdTokenError::Malformed("it is another kind of token"));
    }
    Ok(())
}

fn check_times(claims: &Claims, now: UnixTime) -> Result<(), IdTokenError> {
    let expires = claims.time("exp").ok_or(IdTokenError::Claim("exp"))?;
    let issued = claims.time("iat").ok_or(IdTokenError::Claim("iat"))?;
    if expires.plus(LEEWAY) <= now {
        return Err(IdTokenError::Expired);
    }
    let starts = claims.date("nbf").map_err(IdTokenError::Claim)?.unwrap_or(issued).max(issued);
    if starts > now.plus(LEEWAY) { Err(IdTokenError::NotYet) } else { Ok(()) }
}

/// §3.1.3.6: the left half of the hash of the access token, with the hash of the signature's algorithm.
fn check_access_token(claims: &Claims, access_token: &Secret, algorithm: Algorithm) -> Result<(), IdTokenError> {
    let Some(found) = claims.get("at_hash") else { return Ok(()) };
    let hash = digest::digest(hash_of(algorithm), access_token.expose().as_bytes());
    let half = hash.as_ref().get(..hash.as_ref().len() / 2).unwrap_or_default();
    if found.as_str() == Some(URL_SAFE_NO_PAD.encode(half).as_str()) {
        Ok(())
    } else {
        Err(IdTokenError::AccessTokenHash)
    }
}

fn hash_of(algorithm: Algorithm) -> &'static digest::Algorithm {
    match algorithm {
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &digest::SHA384,
        // Ed25519 hashes with SHA-512 inside (RFC 8032 §5.1), which is what providers use here.
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => &digest::SHA512,
        _ => &digest::SHA256,
    }
}
