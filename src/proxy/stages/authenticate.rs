//! Authenticate: who asks, by the route's `auth`.

use http::Method;
use http::header::AUTHORIZATION;

use crate::config::AuthMode;
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::gateway::Gateway;
use crate::reply::ProxyError;
use crate::routing::Route;

use super::origin::is_safe;

/// Puts the live session into the context where the route wants one.
pub(in crate::proxy) async fn authenticate(
    gateway: &Gateway,
    downstream: &Downstream,
    ctx: &mut RequestContext,
    route: &Route,
) -> Result<(), ProxyError> {
    match route.auth {
        AuthMode::None => Ok(()),
        AuthMode::Bearer => Err(ProxyError::NotAuthenticated),
        AuthMode::Session => by_session(gateway, downstream, ctx).await,
    }
}

/// The façade takes either credential: `Authorization: Bearer` decides, else the session.
pub(in crate::proxy) async fn either(
    gateway: &Gateway,
    downstream: &Downstream,
    ctx: &mut RequestContext,
) -> Result<(), ProxyError> {
    if downstream.req_header().headers.contains_key(AUTHORIZATION) {
        return Err(ProxyError::NotAuthenticated);
    }
    by_session(gateway, downstream, ctx).await
}

async fn by_session(gateway: &Gateway, downstream: &Downstream, ctx: &mut RequestContext) -> Result<(), ProxyError> {
    let request = downstream.req_header();
    // Only a page load by GET may be sent to the login: a redirected POST would lose its body.
    ctx.navigation &= request.method == Method::GET;
    let session = gateway.endpoints.session_of(request).await?;
    if gateway.origins.csrf_token && !is_safe(&request.method) {
        let given = request.headers.get("x-csrf-token").map_or(&b""[..], http::HeaderValue::as_bytes);
        if !gateway.endpoints.sessions.csrf_matches(&session, given) {
            gateway.metrics.csrf_violations.with_label_values(&["token"]).inc();
            return Err(ProxyError::CsrfFailed(
                "X-CSRF-Token is missing or wrong; /auth/session hands it out".to_owned(),
            ));
        }
    }
    ctx.session = Some(session);
    Ok(())
}
