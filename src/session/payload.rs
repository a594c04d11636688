//! What is inside a sealed record, as JSON. `Secret` cannot be serialised on purpose; these shapes
//! exist only between the session and the cipher.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::model::{AccessToken, Identity, Tokens};
use super::ready::Ready;
use crate::config::Secret;
use crate::resilience::UnixTime;

/// A session without what stands beside it in the clear.
pub(super) struct Payload {
    pub identity: Identity,
    pub authenticated_at: UnixTime,
    pub tokens: Tokens,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload([redacted])")
    }
}

#[derive(Serialize)]
struct Written<'a> {
    identity: &'a Identity,
    authenticated_at: UnixTime,
    id_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    login: WrittenToken<'a>,
    services: BTreeMap<&'a str, WrittenToken<'a>>,
    granted_audiences: &'a [String],
}

#[derive(Serialize)]
struct WrittenToken<'a> {
    token: &'a str,
    audience: &'a [String],
    scopes: &'a [String],
    issued_at: UnixTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<UnixTime>,
}

// Slices, not vectors: these are kept for as long as the session is near, and a vector that grew has room to spare.
#[derive(Deserialize)]
struct Read {
    identity: Identity,
    authenticated_at: UnixTime,
    id_token: String,
    refresh_token: Option<String>,
    login: ReadToken,
    services: BTreeMap<String, ReadToken>,
    granted_audiences: Box<[String]>,
}

#[derive(Deserialize)]
struct ReadToken {
    token: String,
    audience: Box<[String]>,
    scopes: Box<[String]>,
    issued_at: UnixTime,
    expires_at: Option<UnixTime>,
}

impl<'a> From<&'a AccessToken> for WrittenToken<'a> {
    fn from(token: &'a AccessToken) -> Self {
        Self {
            token: token.secret.expose(),
            audience: &token.audience,
            scopes: &token.scopes,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
        }
    }
}

impl From<ReadToken> for AccessToken {
    fn from(read: ReadToken) -> Self {
        Self {
            secret: Secret::new(read.token),
            audience: read.audience.into_vec(),
            scopes: read.scopes.into_vec(),
            issued_at: read.issued_at,
            expires_at: read.expires_at,
            ready: Ready::default(),
        }
    }
}

/// The bytes to seal.
pub(super) fn write(
    identity: &Identity,
    authenticated_at: UnixTime,
    tokens: &Tokens,
) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let written = Written {
        identity,
        authenticated_at,
        id_token: tokens.id_token.expose(),
        refresh_token: tokens.refresh_token.as_ref().map(Secret::expose),
        login: (&tokens.login).into(),
        services: tokens.services.iter().map(|(service, token)| (service.as_str(), (&**token).into())).collect(),
        granted_audiences: &tokens.granted_audiences,
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
    serde_json::to_writer(&mut *bytes, &written)?;
    Ok(bytes)
}

/// One token, to be sealed by itself.
pub(super) fn write_token(token: &AccessToken) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 * 1024));
    serde_json::to_writer(&mut *bytes, &WrittenToken::from(token))?;
    Ok(bytes)
}

/// What [`write_token`] wrote.
pub(super) fn read_token(bytes: &[u8]) -> serde_json::Result<AccessToken> {
    serde_json::from_slice::<ReadToken>(bytes).map(AccessToken::from)
}

/// What [`write`] wrote.
pub(super) fn read(bytes: &[u8]) -> serde_json::Result<Payload> {
    let read: Read = serde_json::from_slice(bytes)?;
    Ok(Payload {
        identity: read.identity,
        authenticated_at: read.authenticated_at,
        tokens: Tokens {
            id_token: Secret::new(read.id_token),
            refresh_token: read.refresh_token.map(Secret::new),
            login: read.login.into(),
            services: read.services.into_iter().map(|(service, token)| (service, Box::new(token.into()))).collect(),
            granted_audiences: read.granted_audiences.into_vec(),
        },
    })
}
