//! Access tokens (RFC 9068) and `id_token`s.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::ledger::Grant;
use super::refusal::Refusal;
use super::{Provider, keys};
use crate::crypto::draw_text;

/// Short enough that a patient visitor sees a refresh.
pub const ACCESS_LIFETIME: Duration = Duration::from_secs(300);
const ID_TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// What an access token says.
#[derive(Debug)]
pub struct AccessAsk<'a> {
    /// A user's login, or the client's id.
    pub subject: &'a str,
    /// The one `aud`.
    pub audience: &'a str,
    /// `scope`.
    pub scopes: &'a [String],
    /// The login behind it, if a person is.
    pub grant: Option<&'a Grant>,
}

/// A signed `at+jwt`.
pub fn access_token(provider: &Provider, ask: &AccessAsk<'_>) -> Result<String, Refusal> {
    let now = provider.clock.now();
    let mut claims = json!({
        "iss": provider.issuer,
        "sub": ask.subject,
        "aud": ask.audience,
        "client_id": provider.client.id,
        "scope": ask.scopes.join(" "),
        "iat": now,
        "exp": now.plus(ACCESS_LIFETIME),
        "jti": draw_text().map_err(|_| Refusal::broken())?,
    });
    if let (Some(claims), Some(grant)) = (claims.as_object_mut(), ask.grant) {
        claims.insert("auth_time".to_owned(), json!(grant.authenticated_at));
        claims.insert("sid".to_owned(), json!(grant.sid));
    }
    provider.keys.sign("at+jwt", &claims).map_err(|_| Refusal::broken())
}

/// A signed `id_token` that names `access_token` in its `at_hash`.
pub fn id_token(
    provider: &Provider,
    grant: &Grant,
    nonce: Option<&str>,
    access_token: &str,
) -> Result<String, Refusal> {
    let now = provider.clock.now();
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say("iss", json!(provider.issuer));
    say("sub", json!(grant.user.login));
    say("aud", json!(provider.client.id));
    say("iat", json!(now));
    say("exp", json!(now.plus(ID_TOKEN_LIFETIME)));
    say("auth_time", json!(grant.authenticated_at));
    say("sid", json!(grant.sid));
    say("at_hash", json!(keys::at_hash(access_token)));
    if let Some(nonce) = nonce {
        say("nonce", json!(nonce));
    }
    let asked = |scope: &str| grant.scopes.iter().any(|granted| granted == scope);
    if asked("profile") {
        say("name", json!(format!("{} {}", grant.user.given_name, grant.user.family_name)));
        say("given_name", json!(grant.user.given_name));
        say("family_name", json!(grant.user.family_name));
        say("preferred_username", json!(grant.user.login));
    }
    if asked("email") {
        say("email", json!(grant.user.email));
        say("email_verified", json!(true));
    }
    provider.keys.sign("JWT", &Value::Object(claims)).map_err(|_| Refusal::broken())
}
