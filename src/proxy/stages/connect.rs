//! Connect: the address to dial, the time in which its answer must begin, and whether a failed attempt is
//! made again. That the service may be called was asked before (`recall::go_on`).

use std::os::fd::RawFd;
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource};

use super::{fail, hold, recall};
use crate::legacy::cache::{Failure, failure_of};
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::reply::ProxyError;
use crate::upstream::HeadDeadline;

/// Picks the peer for this attempt.
pub(in crate::proxy) async fn connect(
    session: &Downstream,
    ctx: &mut RequestContext,
) -> Result<Box<HttpPeer>, ProxyError> {
    let upstream = ctx.upstream.clone().ok_or(ProxyError::NoRoute)?;
    ctx.upstream_fault = false;
    let attempt = ctx.attempts;
    if attempt == 0 && session.req_header().method.is_idempotent() {
        upstream.retries.earn();
    }
    ctx.attempts += 1;
    ctx.upstream_started.get_or_insert_with(Instant::now);
    let line = hold::hold(session, ctx);
    upstream.peer(ctx.streaming, attempt, line).await.map_err(|error| {
        ctx.upstream_fault = true;
        tracing::error!(%error, correlation_id = &*ctx.correlation_id, "a service has no address");
        let unresolved = ProxyError::UpstreamError("the service's name does not resolve".to_owned());
        recall::fell(ctx, &unresolved);
        unresolved
    })
}

/// Nothing was sent: the next address of the service may be tried, whatever the method. That is no load for
/// a service, and so outside its budget.
#[allow(clippy::unnecessary_box_returns, reason = "the engine's errors are boxed")]
pub(in crate::proxy) fn failed(ctx: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
    ctx.upstream_fault = !fail::out_of_places(&error);
    if !ctx.upstream_fault {
        tracing::warn!(correlation_id = &*ctx.correlation_id, %error, "NOTHING_LEFT");
    }
    error.set_retry(ctx.attempts < 2);
    note(ctx, &error);
    error
}

/// There is a connection; the engine says which.
pub(in crate::proxy) fn connected(ctx: &mut RequestContext, socket: RawFd) {
    ctx.socket = Some(socket);
    ctx.head_deadline = None;
}

/// The request is about to be sent: from here on the service's time runs. What may last has a line of its own.
pub(in crate::proxy) fn asked(ctx: &mut RequestContext) {
    awaited(ctx);
    let (Some(socket), Some(upstream)) = (ctx.socket, &ctx.upstream) else { return };
    if ctx.live.is_none() && !ctx.late {
        ctx.head_deadline = HeadDeadline::set(socket, upstream.timeout);
    }
}

/// A piece of the request's body: it is the client that takes its time.
pub(in crate::proxy) fn sending(body: Option<&Bytes>, ctx: &mut RequestContext) {
    if body.is_some() && ctx.head_deadline.is_some() {
        asked(ctx);
    }
}

/// The wait is over, for a head or for a deadline.
fn awaited(ctx: &mut RequestContext) {
    ctx.late |= ctx.head_deadline.take().is_some_and(|deadline| deadline.passed());
}

/// A head has come. After "100 Continue" the service waits for the body, and its time begins anew.
pub(in crate::proxy) fn answered(response: &ResponseHeader, ctx: &mut RequestContext) {
    if response.status == StatusCode::CONTINUE {
        asked(ctx);
    } else if !response.status.is_informational() {
        awaited(ctx);
    }
}

/// The exchange broke. It is tried once more where that does nothing twice (RFC 9110 §9.2.2), the whole request
/// is at hand, and the error says that the service had not begun with it (a kept connection that died); and
/// within the service's budget.
#[allow(clippy::unnecessary_box_returns, reason = "the engine's errors are boxed")]
pub(in crate::proxy) fn broke(
    session: &Downstream,
    ctx: &mut RequestContext,
    mut error: Box<Error>,
    kept: bool,
) -> Box<Error> {
    awaited(ctx);
    ctx.upstream_fault |= ctx.late;
    let harmless = session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
    if harmless && !ctx.late {
        error.retry.decide_reuse(kept);
    } else {
        error.set_retry(false);
    }
    let again = error.retry() && ctx.attempts < 2 && ctx.upstream.as_ref().is_some_and(|it| it.retries.spend());
    error.set_retry(again);
    note(ctx, &error);
    error
}

/// For the requests that wait for this one.
fn note(ctx: &RequestContext, error: &Error) {
    // A bad answer is one: what becomes of it is said by what is stored.
    let unanswered = ctx.refusal.is_some() || failure_of(error) == Failure::Disconnected;
    if unanswered
        && *error.esource() == ErrorSource::Upstream
        && let Some(fault) = fail::explain(ctx, error)
    {
        recall::fell(ctx, &fault);
    }
}
