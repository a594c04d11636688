//! Delegation: what wraps the plugin passes every callback on. One that it leaves out would switch a check off
//! without a word: the next callback finds out, and the request ends in 500.

use http::StatusCode;
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::decide::abort;
use crate::proxy::hop::Reached;
use crate::reply::ProxyError;

/// A service is about to be dialled: its circuit was asked.
pub(in crate::proxy) fn permitted(ctx: &mut RequestContext) -> Result<()> {
    let asked = ctx.legacy.as_ref().is_none_or(|call| call.permit.is_some());
    require(ctx, asked, "proxy_upstream_filter")
}

/// A request is about to be written: its socket can be timed.
pub(in crate::proxy) fn connected(ctx: &mut RequestContext) -> Result<()> {
    require(ctx, ctx.hop.socket.is_some(), "connected_to_upstream")?;
    ctx.hop.reached = Reached::Service;
    Ok(())
}

/// A head of the service has come: the request was ours to write.
pub(in crate::proxy) fn forwarded(ctx: &mut RequestContext) -> Result<()> {
    require(ctx, ctx.hop.reached != Reached::Nothing, "upstream_request_filter")?;
    ctx.hop.reached = Reached::Answer;
    Ok(())
}

/// A head is about to be told: if it is the service's, it was taken over, and every piece of the request counted.
pub(in crate::proxy) fn taken_over(
    session: &Downstream,
    response: &ResponseHeader,
    ctx: &mut RequestContext,
) -> Result<()> {
    require(ctx, ctx.hop.reached != Reached::Service, "upstream_response_filter, or should_serve_stale")?;
    if ctx.hop.reached != Reached::Answer {
        return Ok(());
    }
    require(ctx, ctx.hop.body_came || session.body_bytes_read() == 0, "request_body_filter")?;
    if !response.status.is_informational() || response.status == StatusCode::SWITCHING_PROTOCOLS {
        ctx.hop.reached = Reached::Client;
    }
    Ok(())
}

/// A piece of the service's answer has come: its head was told. With a cache, the engine may fetch it for that alone.
pub(in crate::proxy) fn told(session: &Downstream, ctx: &mut RequestContext) -> Result<()> {
    require(ctx, ctx.hop.reached == Reached::Client || session.cache.enabled(), "response_filter")
}

fn require(ctx: &mut RequestContext, came: bool, callback: &'static str) -> Result<()> {
    if came {
        return Ok(());
    }
    let correlation_id = &*ctx.correlation_id;
    tracing::error!(correlation_id, callback, "CALLBACK_LEFT_OUT: what wraps the plugin must pass it on");
    Err(abort(ctx, ProxyError::Internal))
}
