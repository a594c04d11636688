//! The ways out: `/revoke` (RFC 7009) and `/session/end` (`OpenID` Connect RP-Initiated Logout 1.0).

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use url::Url;

use super::params::Params;
use super::refusal::Refusal;
use super::{Provider, authorize, pages};

/// Ends the grant behind a refresh token. An unknown token is no error (RFC 7009 §2.2).
pub fn revoke(provider: &Provider, headers: &HeaderMap, form: &str) -> Response {
    let form = Params::read(form);
    let revoked = provider.client.authenticate(headers, &form).and_then(|()| {
        provider.ledger.revoke(form.required("token")?);
        Ok::<_, Refusal>(())
    });
    match revoked {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Ends the login that `id_token_hint` names and sends the browser back.
pub fn end_session(provider: &Provider, params: &str) -> Response {
    let params = Params::read(params);
    let hint = params.all("id_token_hint").next().and_then(|hint| provider.keys.open(hint));
    let issued_to_client = hint.as_ref().is_some_and(|claims| says(claims.get("aud"), &provider.client.id));
    if let Some(sid) = hint.as_ref().and_then(|claims| claims.get("sid")).and_then(Value::as_str) {
        provider.ledger.end_login(sid);
    }
    let named = params.all("client_id").next().is_some_and(|id| id == provider.client.id);
    let target = params.all("post_logout_redirect_uri").next().filter(|target| provider.client.owns(target));
    match target.map(Url::parse) {
        // §2: only for a client we can name, and only to an address of its own.
        Some(Ok(mut target)) if issued_to_client || named => {
            if let Some(state) = params.all("state").next() {
                target.query_pairs_mut().append_pair("state", state);
            }
            authorize::redirect(&target)
        }
        _ => pages::logged_out(provider),
    }
}

fn says(claim: Option<&Value>, wanted: &str) -> bool {
    claim.and_then(Value::as_str) == Some(wanted)
}
