//! What an access token must say, and what shows that a token is another kind: a provider signs ID
//! tokens, logout tokens and access tokens with the same keys (RFC 8725 §3.11).

use super::Caller;
use super::entry::Entry;
use crate::oidc::claims::{Claims, LEEWAY};
use crate::oidc::jwt::Compact;
use crate::resilience::UnixTime;

/// `typ` of an access token (RFC 9068 §2.1).
const ACCESS_TOKEN: &str = "at+jwt";

/// The entry a JWT names by its issuer and one of its audiences; with several, the first one written.
pub(super) fn choose<'a>(claims: &Claims, entries: &'a [Entry]) -> Result<&'a Entry, &'static str> {
    let issuer = claims.text("iss").ok_or("it has no usable claim iss")?;
    let audience = claims.audience().ok_or("it has no usable claim aud")?;
    let mut of_issuer = entries.iter().filter(|entry| entry.issuer == issuer).peekable();
    of_issuer.peek().ok_or("no entry of idps.yaml has its issuer")?;
    of_issuer
        .find(|entry| audience.contains(&entry.audience))
        .ok_or("it is for another audience than any entry of idps.yaml with its issuer")
}

/// Checks everything but issuer, audience (see [`choose`]) and signature.
pub(super) fn check(token: &Compact<'_>, entry: &Entry, now: UnixTime) -> Result<Caller, &'static str> {
    check_type(token.header.kind.as_deref())?;
    let claims = &token.claims;
    check_kind(claims, token.header.kind.as_deref() == Some(ACCESS_TOKEN))?;
    let expires_at = check_times(claims, now)?.ok_or("it has no usable claim exp")?;
    let subject = subject(claims, &["sub"])?;
    Ok(caller(entry, subject, Some(expires_at)))
}

/// Checks an answer that calls a token active: what it says must fit, what it leaves out is the
/// provider's word (RFC 7662 §2.2: everything but `active` is optional).
pub(super) fn check_introspected(claims: &Claims, entry: &Entry, now: UnixTime) -> Result<Caller, &'static str> {
    if claims.get("iss").is_some() && claims.text("iss") != Some(&entry.issuer) {
        return Err("it is of another issuer");
    }
    let fits = |audience: Vec<String>| audience.contains(&entry.audience);
    if claims.get("aud").is_some() && !claims.audience().is_some_and(fits) {
        return Err("it is for another audience");
    }
    let bearer = |kind: &serde_json::Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
    let kind = claims.get("token_type");
    if kind.is_some_and(|kind| !bearer(kind)) {
        return Err("it is no bearer token");
    }
    check_kind(claims, kind.is_some())?;
    let expires_at = check_times(claims, now)?;
    // A token of a client's own has no resource owner: RFC 9068 §2.2 names the client then.
    let subject = subject(claims, &["sub", "client_id"])?;
    Ok(caller(entry, subject, expires_at))
}

fn caller(entry: &Entry, subject: &str, expires_at: Option<UnixTime>) -> Caller {
    Caller {
        issuer: entry.issuer.clone(),
        subject: subject.to_owned(),
        provider: entry.provider.clone(),
        audience: entry.audience.clone(),
        expires_at,
    }
}

/// RFC 9068 §2.1; providers older than it write `JWT` or nothing.
fn check_type(kind: Option<&str>) -> Result<(), &'static str> {
    match kind {
        None | Some("jwt" | ACCESS_TOKEN) => Ok(()),
        Some(_) => Err("its typ is that of another kind of token"),
    }
}

/// `told`: somebody else has said that it is an access token.
fn check_kind(claims: &Claims, told: bool) -> Result<(), &'static str> {
    // OpenID Connect Core §3.1.3.6 and §3.3.2.11, FAPI; RFC 8417 §2.2, of which a logout token is one; RFC 9101 §4.
    let foreign = ["at_hash", "c_hash", "s_hash", "events", "response_type"];
    // Where the audience is the client itself, an ID token may show itself by nothing else. Keycloak and B2C write it into
    // access tokens, too, which say so otherwise.
    let shows = || ["typ", "token_use"].iter().any(|name| claims.text(name).is_some()) || !claims.scopes().is_empty();
    let nonce = claims.get("nonce").is_some_and(|nonce| !nonce.is_null()) && !told && !shows();
    if nonce || foreign.iter().any(|name| claims.get(name).is_some()) {
        return Err("it is an ID token, an event or a request, not an access token");
    }
    // Keycloak and Cognito say it in claims of their own.
    let says = |name, kind: &str| claims.text(name).is_none_or(|said| said.eq_ignore_ascii_case(kind));
    if !says("typ", "bearer") || !says("token_use", "access") {
        return Err("it says itself that it is no access token");
    }
    // RFC 7800: whoever shows it must also prove to hold a key, which a bearer does not.
    if claims.get("cnf").is_some() {
        return Err("it is bound to a key (cnf)");
    }
    Ok(())
}

fn subject<'a>(claims: &'a Claims, names: &[&str]) -> Result<&'a str, &'static str> {
    let present = names.iter().find(|name| claims.get(name).is_some());
    present.and_then(|name| claims.subject_in(name)).ok_or("it has no usable claim sub")
}

/// The end of its life, where it has one. A date that is none is refused, not overlooked.
fn check_times(claims: &Claims, now: UnixTime) -> Result<Option<UnixTime>, &'static str> {
    let expires = claims.date("exp").map_err(|_| "its exp is no date")?;
    let starts = claims.date("nbf").map_err(|_| "its nbf is no date")?;
    let issued = claims.date("iat").map_err(|_| "its iat is no date")?;
    if expires.is_some_and(|at| at.plus(LEEWAY) <= now) {
        return Err("it has expired");
    }
    if starts.max(issued).is_some_and(|at| at > now.plus(LEEWAY)) {
        return Err("it is from the future; are the clocks in step?");
    }
    Ok(expires)
}
