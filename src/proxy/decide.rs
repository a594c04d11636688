//! Everything up to the decision to forward: admit ► route ► origin ► rate ► authenticate ► rate ► upgrade ► limit ►
//! bearer. Each step continues or has answered; the order is this function.

use std::sync::Arc;

use pingora::{Error, ErrorType};

use super::context::RequestContext;
use super::gateway::Gateway;
use super::headers::Presence;
use super::stages::route::Routed;
use super::stages::{admit, authenticate, authorize, forward, legacy, limit, origin, rate, route, upgrade};
use super::{Downstream, downstream};
use crate::config::AuthMode;
use crate::endpoints::{Asked, Endpoint};
use crate::reply::{Circumstances, ProxyError, Reply, from_error};

/// `Some`: the answer is ours. `None`: the request goes to a service.
pub(super) async fn decide(session: &mut Downstream, ctx: &mut RequestContext) -> Result<Option<Reply>, ProxyError> {
    let gateway = &*Arc::clone(&ctx.gateway);
    ctx.presence = Presence::of(&session.req_header().headers);
    // First, so that a page may read whatever is refused from here on.
    let from = origin::origin_of(gateway, session, ctx);
    let Some(path) = admit::admit(gateway, session, ctx)? else { return Ok(Some(route::allow_reply())) };
    let routed = route::route(gateway, session, ctx, &path)?;
    let guarded = match &routed {
        Routed::Ours(endpoint) => endpoint.acts_by_session(),
        Routed::Theirs(route, _) => route.auth == AuthMode::Session,
        Routed::Legacy(_) => legacy::acts_by_session(session, ctx),
    };
    let options = origin::origin(gateway, session, from, guarded)?;
    let options = options.or_else(|| route::last_stop(gateway, session, &routed, &path));
    // There it is another proxy's request, which any good answer lets pass: whoever has no session gets none.
    if options.is_some() && !matches!(routed, Routed::Ours(Endpoint::Verify)) {
        return Ok(options);
    }
    match routed {
        Routed::Ours(endpoint) => {
            // What is rare is boxed here and below: the future of every request has room for the largest.
            Box::pin(answer(gateway, session, ctx, endpoint)).await.map(Some)
        }
        Routed::Theirs(route, destination) => {
            rate::by_address(gateway, session, ctx, &route).await?;
            authenticate::authenticate(gateway, session, ctx, &route).await?;
            rate::by_caller(gateway, ctx, &route).await?;
            ctx.websocket = upgrade::upgrade(session, ctx, route.websocket)?;
            limit::declared(session, ctx.body_limit)?;
            authorize::obtain_bearer(gateway, ctx, &destination.token).await?;
            Ok(None)
        }
        Routed::Legacy(service) => Box::pin(legacy::enter(gateway, session, ctx, service)).await.map(|()| None),
    }
}

async fn answer(
    gateway: &Gateway,
    session: &mut Downstream,
    ctx: &RequestContext,
    endpoint: Endpoint,
) -> Result<Reply, ProxyError> {
    let body = match endpoint.body_limit() {
        Some(limit) => downstream::read_body(session, limit).await?,
        None => Vec::new(),
    };
    let client = endpoint.is_login().then(|| forward::client_address(gateway, session)).flatten();
    let asked = Asked { parts: session.req_header(), body: &body, client, correlation_id: &ctx.correlation_id };
    gateway.endpoints.answer(endpoint, asked).await
}

/// The client's view of a refusal.
pub(super) fn refuse(ctx: &mut RequestContext, error: ProxyError) -> Reply {
    let around =
        Circumstances { correlation_id: &ctx.correlation_id, login_url: &ctx.login_url, navigation: ctx.navigation };
    let reply = from_error(&error, around);
    ctx.refusal = Some(error);
    reply
}

/// Stops the engine with a reason of ours, which `fail_to_proxy` finds in the context.
#[allow(clippy::unnecessary_box_returns, reason = "the engine's errors are boxed")]
pub(super) fn abort(ctx: &mut RequestContext, error: ProxyError) -> Box<Error> {
    let status = error.face().status.as_u16();
    ctx.refusal = Some(error);
    Error::new(ErrorType::HTTPStatus(status))
}
