//! Connect: the address to dial. That the service may be called was asked before (`recall::go_on`).

use std::time::Instant;

use pingora::Error;
use pingora::upstreams::peer::HttpPeer;

use super::hold;
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::gateway::Gateway;
use crate::reply::ProxyError;

/// Picks the peer for this attempt.
pub(in crate::proxy) async fn connect(
    gateway: &Gateway,
    session: &Downstream,
    ctx: &mut RequestContext,
) -> Result<Box<HttpPeer>, ProxyError> {
    let upstream = ctx.upstream.clone().ok_or(ProxyError::NoRoute)?;
    ctx.upstream_fault = false;
    let attempt = ctx.attempts;
    ctx.attempts += 1;
    ctx.upstream_started.get_or_insert_with(Instant::now);
    let line = hold::hold(gateway, session, ctx);
    upstream.peer(ctx.streaming, attempt, line).await.map_err(|error| {
        ctx.upstream_fault = true;
        tracing::error!(%error, correlation_id = &*ctx.correlation_id, "a service has no address");
        ProxyError::UpstreamError("the service's name does not resolve".to_owned())
    })
}

/// Nothing was sent: the next address of the service may be tried, whatever the method.
#[allow(clippy::unnecessary_box_returns, reason = "the engine's errors are boxed")]
pub(in crate::proxy) fn failed(ctx: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
    ctx.upstream_fault = true;
    error.set_retry(ctx.attempts < 2);
    error
}
