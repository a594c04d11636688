//! What a login is to us: the person, their tokens, and how long it lasts. Immutable; every change
//! makes a new version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::key::SessionKey;
use crate::config::Secret;
use crate::resilience::UnixTime;

/// One login, opened. Shared as `Arc<Session>`; never changed in place.
#[derive(Debug, Clone)]
pub struct Session {
    /// The store's key: a hash of the cookie's id.
    pub key: SessionKey,
    /// Grows by one with every save; the store refuses a save on an older one.
    pub version: u64,
    pub identity: Identity,
    /// `sid` of the ID token (OpenID Connect Session Management); what back-channel logout names.
    pub idp_session: Option<String>,
    pub created_at: UnixTime,
    /// `auth_time` of the ID token, or the time of login.
    pub authenticated_at: UnixTime,
    /// Absolute: never moved.
    pub ends_at: UnixTime,
    pub tokens: Tokens,
}

/// Who logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `iss` of the ID token.
    pub issuer: String,
    /// `sub` of the ID token. The identity upstreams see; never a service token's `sub`.
    pub subject: String,
    /// The ARN alias of the `idps.yaml` entry.
    pub provider: String,
    /// Claims shown by `/auth/session` (`name`, `email`, …), after `claims_mapping`.
    pub claims: BTreeMap<String, serde_json::Value>,
}

/// What the provider gave us for this login. Sealed at rest.
#[derive(Debug, Clone)]
pub struct Tokens {
    pub id_token: Secret,
    pub refresh_token: Option<Secret>,
    /// The access token of the login itself.
    pub login: AccessToken,
    /// By exact `target_service`.
    pub services: BTreeMap<String, AccessToken>,
    /// The audiences asked for at login: asking for another one may cost the refresh token.
    pub granted_audiences: Vec<String>,
}

/// An access token with what we know of it without asking anybody.
#[derive(Debug, Clone)]
pub struct AccessToken {
    pub secret: Secret,
    /// `aud` of a JWT (RFC 9068 §2.2). Empty: opaque, or it says nothing.
    pub audience: Vec<String>,
    /// Space-separated `scope` of the token response, split. Empty: not told.
    pub scopes: Vec<String>,
    pub issued_at: UnixTime,
    /// `None`: the provider did not say.
    pub expires_at: Option<UnixTime>,
}
