//! What the token endpoint answers (RFC 6749 §5.1): lenient where providers differ without harm,
//! strict where a mistake would send the wrong thing upstream.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::claims::{whole_seconds, words};
use super::grant::Ask;
use super::jwt;
use crate::config::Secret;
use crate::resilience::UnixTime;

/// Larger ones do not fit a header.
const MAX_ACCESS_TOKEN: usize = 32 * 1024;
/// Nobody means more; keeps sums within bounds.
const MAX_LIFETIME: i64 = 10 * 365 * 86_400;

/// The tokens of one answer.
#[derive(Debug, Clone)]
pub struct TokenResponse {
    /// Visible ASCII only: fit for a header as it is.
    pub access_token: Secret,
    /// `aud` of a JWT. Empty: opaque, or it says nothing.
    pub audience: Vec<String>,
    /// As answered, else as the JWT says, else as asked for (RFC 6749 §5.1).
    pub scopes: Vec<String>,
    /// The answer or the JWT names some.
    pub scopes_told: bool,
    /// When we asked: never later than the provider's own time of issue.
    pub issued_at: UnixTime,
    /// From `expires_in`, which is not believed beyond the span of a JWT, else `exp` of one. `None`: the provider did
    /// not say.
    pub expires_at: Option<UnixTime>,
    /// `None` on a refresh: the old one stays in use.
    pub refresh_token: Option<Secret>,
    /// Verified where [`super::RelyingParty`] hands it out.
    pub id_token: Option<Secret>,
}

#[derive(Deserialize)]
struct Written {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Value>,
    scope: Option<Value>,
    refresh_token: Option<String>,
    id_token: Option<String>,
}

/// Reads the body of a 200 answer; the error says what is wrong without repeating any of it.
pub(super) fn read(body: &[u8], ask: &Ask<'_>, asked_at: UnixTime) -> Result<TokenResponse, &'static str> {
    let written: Written = serde_json::from_slice(body).map_err(|_error| "not a JSON token response")?;
    let access_token = written.access_token.filter(|token| !token.is_empty()).ok_or("no access_token")?;
    // RFC 6749 §7.1: a token of a type we do not understand is not used; the name has no case.
    if !written.token_type.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err("token_type is not bearer");
    }
    if access_token.len() > MAX_ACCESS_TOKEN || !access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the access_token does not fit a header");
    }
    let claims = jwt::peek(&access_token).unwrap_or_default();
    let scopes = [written.scope.as_ref().map(words).unwrap_or_default(), claims.scopes(), ask.scopes.to_vec()];
    let (issued, end) = (claims.time("iat"), claims.time("exp"));
    // The span of a JWT, not its end: the provider's clock may not be ours.
    let span = issued.zip(end).map(|(issued, end)| issued.until(end)).filter(|span| !span.is_zero());
    let lifetime = written.expires_in.as_ref().and_then(seconds).map(|told| span.map_or(told, |span| told.min(span)));
    Ok(TokenResponse {
        audience: claims.audience().unwrap_or_default(),
        scopes_told: scopes.iter().take(2).any(|one| !one.is_empty()),
        scopes: scopes.into_iter().find(|one| !one.is_empty()).unwrap_or_default(),
        issued_at: asked_at,
        expires_at: lifetime.map(|span| asked_at.plus(span)).or(end),
        refresh_token: written.refresh_token.filter(|token| !token.is_empty()).map(Secret::new),
        id_token: written.id_token.filter(|token| !token.is_empty()).map(Secret::new),
        access_token: Secret::new(access_token),
    })
}

/// The refresh token of an answer that is of no use otherwise: its predecessor is spent all the same.
pub(super) fn refresh_token_of(body: &[u8]) -> Option<Secret> {
    let members: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
    members.get("refresh_token")?.as_str().filter(|token| !token.is_empty()).map(Secret::new)
}

/// `expires_in` is a number; some send it as a text. Anything else says nothing.
fn seconds(value: &Value) -> Option<Duration> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    let seconds = whole_seconds(number)?.clamp(0, MAX_LIFETIME);
    Some(Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(json: &str) -> Result<TokenResponse, &'static str> {
        read(json.as_bytes(), &Ask::default(), UnixTime(1000))
    }

    #[test]
    fn what_providers_do_differently_is_accepted() {
        let plain = accept(r#"{"access_token":"t","token_type":"bEARER"}"#).unwrap();
        assert_eq!((plain.expires_at, plain.refresh_token, plain.audience.len()), (None, None, 0));
        for (expires_in, end) in [
            ("60", Some(1060)),
            (r#""60""#, Some(1060)),
            ("60.5", Some(1060)),
            ("-5", Some(1000)),
            (r#""soon""#, None),
            ("null", None),
            ("1e300", None),
        ] {
            let json =
                format!(r#"{{"access_token":"t","token_type":"Bearer","expires_in":{expires_in},"scope":"a b"}}"#);
            let response = accept(&json).unwrap();
            assert_eq!(response.expires_at, end.map(UnixTime), "{expires_in}");
            assert_eq!(response.scopes, ["a", "b"]);
        }
    }

    #[test]
    fn a_jwt_that_ends_before_its_expires_in_is_believed() {
        // {"alg":"none"}.{"iat":5000,"exp":5003}: its clock is not ours, its span is.
        let token = "eyJhbGciOiJub25lIn0.eyJpYXQiOjUwMDAsImV4cCI6NTAwM30.c2ln";
        let end = |expires_in: &str| {
            let json = format!(r#"{{"access_token":"{token}","token_type":"Bearer"{expires_in}}}"#);
            accept(&json).unwrap().expires_at
        };
        assert_eq!(end(r#","expires_in":3600"#), Some(UnixTime(1003)));
        assert_eq!(end(r#","expires_in":2"#), Some(UnixTime(1002)), "issued a second ago");
        assert_eq!(end(""), Some(UnixTime(5003)));
    }

    #[test]
    fn what_nobody_can_use_is_refused() {
        for json in [
            "",
            "<html></html>",
            "[]",
            r#"{"token_type":"Bearer"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            r#"{"access_token":"t"}"#,
            r#"{"access_token":"t","token_type":"mac"}"#,
            r#"{"access_token":"t","token_type":"DPoP"}"#,
            r#"{"access_token":"t\r\nX-Evil: 1","token_type":"Bearer"}"#,
            r#"{"access_token":"t","access_token":"u","token_type":"Bearer"}"#,
        ] {
            assert!(accept(json).is_err(), "{json}");
        }
    }
}
