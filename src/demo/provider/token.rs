//! `/token`: a code, a refresh token, or the client's own name becomes a token for one audience.

use axum::Json;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::Provider;
use super::ledger::Grant;
use super::mint::{ACCESS_LIFETIME, AccessAsk, access_token, id_token};
use super::params::Params;
use super::refusal::Refusal;
use crate::crypto::hashed;

type Tokens = Map<String, Value>;

/// Answers a token request (RFC 6749 §5).
pub fn answer(provider: &Provider, headers: &HeaderMap, form: &str) -> Response {
    match grant(provider, headers, &Params::read(form)) {
        Ok(tokens) => ([(header::CACHE_CONTROL, "no-store")], Json(tokens)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

fn grant(provider: &Provider, headers: &HeaderMap, form: &Params) -> Result<Tokens, Refusal> {
    provider.client.authenticate(headers, form)?;
    match form.required("grant_type")? {
        "authorization_code" => redeem_code(provider, form),
        "refresh_token" => refresh(provider, form),
        "client_credentials" => client_credentials(provider, form),
        other => Err(Refusal::bad("unsupported_grant_type", format!("`{other}` is not offered here"))),
    }
}

fn redeem_code(provider: &Provider, form: &Params) -> Result<Tokens, Refusal> {
    let now = provider.clock.now();
    // The code is gone whatever the rest of the request looks like: it has been shown to somebody.
    let (grant_id, code) = provider.ledger.redeem(now, form.required("code")?)?;
    if form.required("redirect_uri")? != provider.client.redirect_uri {
        return Err(Refusal::bad("invalid_grant", "redirect_uri is not the one of the authorization request"));
    }
    let verifier = form.required("code_verifier")?;
    // RFC 7636 §4.1: 43 to 128 characters.
    if !(43..=128).contains(&verifier.len()) || hashed(verifier) != code.challenge {
        return Err(Refusal::bad("invalid_grant", "code_verifier does not match the code_challenge"));
    }
    let audience = audience(provider, form, Some(&code.grant))?;
    let scopes = code.grant.scopes.clone();
    let refresh = provider.ledger.open(now, grant_id, code.grant.clone())?;
    let mut tokens = tokens_of(provider, &code.grant, &audience, &scopes, code.nonce.as_deref())?;
    if let Some(refresh) = refresh {
        tokens.insert("refresh_token".to_owned(), json!(refresh));
    }
    Ok(tokens)
}

fn refresh(provider: &Provider, form: &Params) -> Result<Tokens, Refusal> {
    let presented = form.required("refresh_token")?;
    let (successor, (grant, audience, scopes)) = provider.ledger.rotate(provider.clock.now(), presented, |grant| {
        let audience = audience(provider, form, Some(grant))?;
        let scopes = scopes(form, &grant.scopes)?;
        Ok((grant.clone(), audience, scopes))
    })?;
    let mut tokens = tokens_of(provider, &grant, &audience, &scopes, None)?;
    tokens.insert("refresh_token".to_owned(), json!(successor));
    Ok(tokens)
}

fn client_credentials(provider: &Provider, form: &Params) -> Result<Tokens, Refusal> {
    let audience = audience(provider, form, None)?;
    let offered: Vec<String> = provider.scopes.iter().filter(|scope| !is_about_a_person(scope)).cloned().collect();
    let scopes = scopes(form, &offered)?;
    let ask = AccessAsk { subject: &provider.client.id, audience: &audience, scopes: &scopes, grant: None };
    Ok(bearer(&access_token(provider, &ask)?, &scopes))
}

fn tokens_of(
    provider: &Provider,
    grant: &Grant,
    audience: &str,
    scopes: &[String],
    nonce: Option<&str>,
) -> Result<Tokens, Refusal> {
    let ask = AccessAsk { subject: grant.user.login, audience, scopes, grant: Some(grant) };
    let access = access_token(provider, &ask)?;
    let mut tokens = bearer(&access, scopes);
    if scopes.iter().any(|scope| scope == "openid") {
        tokens.insert("id_token".to_owned(), json!(id_token(provider, grant, nonce, &access)?));
    }
    Ok(tokens)
}

fn bearer(access_token: &str, scopes: &[String]) -> Tokens {
    let fields = [
        ("access_token", json!(access_token)),
        ("token_type", json!("Bearer")),
        ("expires_in", json!(ACCESS_LIFETIME.as_secs())),
        ("scope", json!(scopes.join(" "))),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The one audience of this token (RFC 8707 §2.2): known here and, for a person's token, agreed to at login.
fn audience(provider: &Provider, form: &Params, grant: Option<&Grant>) -> Result<String, Refusal> {
    let mut asked = form.all("resource");
    let Some(resource) = asked.next() else { return Ok(provider.client.audience.clone()) };
    if asked.next().is_some() {
        return Err(Refusal::bad("invalid_target", "one `resource` a token, please"));
    }
    let agreed = grant.is_none_or(|grant| grant.resources.iter().any(|granted| granted == resource));
    if !provider.knows_resource(resource) || !agreed {
        return Err(Refusal::bad("invalid_target", "this resource is unknown, or the login did not ask for it"));
    }
    Ok(resource.to_owned())
}

/// The scopes asked for, which may only be fewer than those offered (RFC 6749 §6).
fn scopes(form: &Params, offered: &[String]) -> Result<Vec<String>, Refusal> {
    let Some(asked) = form.words("scope")? else { return Ok(offered.to_vec()) };
    match asked.iter().find(|scope| !offered.contains(scope)) {
        Some(_) => Err(Refusal::bad("invalid_scope", "more scopes than were granted")),
        None => Ok(asked),
    }
}

fn is_about_a_person(scope: &str) -> bool {
    matches!(scope, "openid" | "profile" | "email" | "offline_access")
}
