//! Authenticate: who asks, by the route's `auth`.

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};

use crate::config::AuthMode;
use crate::oidc::BearerError;
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::gateway::Gateway;
use crate::proxy::headers::Presence;
use crate::proxy::who::Who;
use crate::reply::ProxyError;
use crate::routing::Route;

/// Finds out whose request this is, as the route wants it.
pub(in crate::proxy) async fn authenticate(
    gateway: &Gateway,
    downstream: &Downstream,
    ctx: &mut RequestContext,
    route: &Route,
) -> Result<(), ProxyError> {
    ctx.who = match route.auth {
        AuthMode::None => Who::Nobody,
        AuthMode::Bearer => by_token(gateway, downstream, ctx).await?,
        AuthMode::Session => by_session(gateway, downstream, ctx).await?,
    };
    Ok(())
}

/// The façade takes either credential: `Authorization: Bearer` decides, else the session.
pub(in crate::proxy) async fn either(
    gateway: &Gateway,
    downstream: &Downstream,
    ctx: &mut RequestContext,
) -> Result<(), ProxyError> {
    if brings_token(downstream, ctx) {
        ctx.who = by_token(gateway, downstream, ctx).await?;
        ctx.keeps_authorization = true;
    } else {
        ctx.who = by_session(gateway, downstream, ctx).await.map_err(|refusal| match refusal {
            ProxyError::NotAuthenticated => ProxyError::NoCredential,
            other => other,
        })?;
    }
    Ok(())
}

/// Whether the request names `Authorization: Bearer`, however badly.
pub(in crate::proxy) fn brings_token(downstream: &Downstream, ctx: &RequestContext) -> bool {
    ctx.presence.may_have(Presence::AUTHORIZATION) && !matches!(bearer(&downstream.req_header().headers), Ok(None))
}

async fn by_session(gateway: &Gateway, downstream: &Downstream, ctx: &mut RequestContext) -> Result<Who, ProxyError> {
    let request = downstream.req_header();
    // Only a page load by GET may be sent to the login: a redirected POST would lose its body.
    ctx.navigation &= request.method == Method::GET;
    let session = gateway.endpoints.session_of(request, &ctx.correlation_id).await?;
    gateway.endpoints.require_csrf_token(request, &session)?;
    Ok(Who::Session(session))
}

/// The caller's own access token decides; a session cookie beside it is not looked at.
async fn by_token(gateway: &Gateway, downstream: &Downstream, ctx: &mut RequestContext) -> Result<Who, ProxyError> {
    // A login brings a cookie, which would not help here: the browser would go in circles.
    ctx.navigation = false;
    let token = bearer(&downstream.req_header().headers)?.ok_or(ProxyError::BearerMissing)?;
    let service = ctx.service.as_deref().unwrap_or_default();
    match gateway.bearers.validate(token).await {
        Ok(caller) => Ok(Who::Caller(caller)),
        Err(BearerError::Invalid { reason }) => {
            tracing::info!(service, reason, correlation_id = &*ctx.correlation_id, "INVALID_TOKEN");
            Err(ProxyError::InvalidToken)
        }
        Err(BearerError::CannotAsk { reason }) => {
            tracing::error!(service, reason, correlation_id = &*ctx.correlation_id, "UPSTREAM_AUTH_FAILED");
            Err(ProxyError::UpstreamAuthFailed(
                "the access token could not be checked: its provider does not answer".to_owned(),
            ))
        }
    }
}

/// The token of `Authorization: Bearer`; `None` without one, or with another scheme (RFC 9110 §11.1:
/// schemes in any case).
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ProxyError> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(ProxyError::BadRequest("Authorization is there more than once".to_owned()));
    }
    let (scheme, token) = value.as_bytes().split_at_checked(6).unwrap_or((value.as_bytes(), b""));
    if !scheme.eq_ignore_ascii_case(b"bearer") || !matches!(token.first(), None | Some(b' ')) {
        return Ok(None);
    }
    std::str::from_utf8(token).map(|token| Some(token.trim_matches(' '))).map_err(|_bytes| ProxyError::InvalidToken)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_token_is_what_follows_the_scheme() {
        let read = |values: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
            }
            bearer(&headers).map(|token| token.map(str::to_owned))
        };
        for value in [&b"Bearer abc"[..], b"bearer abc", b"BEARER  abc"] {
            assert_eq!(read(&[value]), Ok(Some("abc".into())));
        }
        for none in [&b"Basic YTpi"[..], b"Bearerabc", b"Bear", b"", b"DPoP abc", b"Bearer,abc"] {
            assert_eq!(read(&[none]), Ok(None), "{none:?}");
        }
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[b"Bearer"]), Ok(Some(String::new())));
        assert_eq!(read(&[b"Bearer a\tb"]), Ok(Some("a\tb".into())), "refused by its form");
        assert_eq!(read(&[b"Bearer \xff"]), Err(ProxyError::InvalidToken));
        assert!(matches!(read(&[b"Bearer a", b"Bearer b"]), Err(ProxyError::BadRequest(_))));
    }
}
