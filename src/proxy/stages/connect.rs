//! Connect: the address to dial, and whether a failed attempt is made again. That the service may be called was asked
//! before (`recall::held_back`).

use std::os::fd::RawFd;
use std::time::Instant;

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorSource, ErrorType};

use super::timing::{self, GRPC};
use super::{fail, hold, recall};
use crate::legacy::cache::{Failure, failure_of};
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::headers::ends_here;
use crate::reply::ProxyError;
use crate::upstream::{Call, Deadline, Turn, cause_of};

/// Picks the peer for this attempt.
pub(in crate::proxy) async fn connect(
    session: &Downstream,
    ctx: &mut RequestContext,
) -> Result<Box<HttpPeer>, ProxyError> {
    let upstream = ctx.upstream.clone().ok_or(ProxyError::NoRoute)?;
    ctx.hop.fault = false;
    let attempt = ctx.hop.attempts;
    if attempt == 0 && session.req_header().method.is_idempotent() {
        upstream.retries.earn();
    }
    ctx.hop.attempts += 1;
    // The engine sends all of it again.
    ctx.body_received = 0;
    ctx.hop.started.get_or_insert_with(Instant::now);
    let (grpc, severable) = (is_grpc(session, ctx), hold::hold(session, ctx));
    ctx.hop.timed = severable.is_none() && !ctx.streaming && !grpc && Deadline::is_possible();
    let plain = !session.req_header().headers.iter().any(|(name, value)| ends_here(name, value));
    let bounded = ctx.gateway.memory.counts_sockets();
    let call = Call { streaming: ctx.streaming, timed: ctx.hop.timed, grpc, plain, bounded, severable };
    upstream.peer(attempt, call).await.map_err(|error| {
        ctx.hop.fault = true;
        tracing::error!(%error, correlation_id = &*ctx.correlation_id, "a service has no address");
        let unresolved = ProxyError::UpstreamError("the service's name does not resolve".to_owned());
        recall::record_failure(ctx, &unresolved);
        unresolved
    })
}

/// Whether this is a gRPC call, which no service takes but on HTTP/2 (its statuses are trailers). gRPC-Web, which
/// browsers speak, is made for HTTP/1.1. None at the façade: an old service that does not know HTTP/2 would break the
/// connection, and whoever says the word would open its circuit for everybody.
pub(super) fn is_grpc(session: &Downstream, ctx: &RequestContext) -> bool {
    if !session.is_http2() || ctx.legacy.is_some() {
        return false;
    }
    let kind = session.req_header().headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.and_then(|kind| kind.split_at_checked(GRPC.len())).is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// Nothing was sent: the next address of the service may be tried, whatever the method. That is no load for
/// a service, and so outside its budget.
#[allow(clippy::unnecessary_box_returns, reason = "the engine's errors are boxed")]
pub(in crate::proxy) fn failed(peer: &HttpPeer, ctx: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
    ctx.hop.fault = !fail::out_of_places(&error);
    let again = ctx.hop.attempts < 2;
    if !ctx.hop.fault && !again {
        tracing::warn!(correlation_id = &*ctx.correlation_id, %error, "NOTHING_LEFT");
    }
    error.set_retry(again);
    note(peer, ctx, &error);
    error
}

/// There is a connection; the engine says which.
pub(in crate::proxy) fn connected(ctx: &mut RequestContext, socket: RawFd) {
    ctx.hop.socket = Some(ctx.live.as_ref().map_or(socket, |live| live.socket()));
    ctx.hop.deadline = None;
    ctx.hop.turn = None;
}

/// The exchange broke. It is tried once more where that does nothing twice (RFC 9110 §9.2.2), the whole request
/// is at hand, and the error says that the service had not begun with it (a kept connection that died); and
/// within the service's budget.
#[allow(clippy::unnecessary_box_returns, reason = "the engine's errors are boxed")]
pub(in crate::proxy) fn broke(
    peer: &HttpPeer,
    session: &Downstream,
    ctx: &mut RequestContext,
    mut error: Box<Error>,
    kept: bool,
) -> Box<Error> {
    if *error.esource() == ErrorSource::Downstream {
        // The client ended it; a deadline that passed meanwhile is not the cause.
        ctx.hop.deadline = None;
    }
    timing::stop_waiting(ctx);
    // The engine's own limit of a read says the same of a service that has nothing to answer yet.
    let timed_out = *error.esource() == ErrorSource::Upstream && *error.etype() == ErrorType::ReadTimedout;
    if ctx.hop.turn == Some(Turn::Client) && (ctx.hop.late || timed_out) {
        error.as_down();
        error.etype = ErrorType::ReadTimedout;
        error.set_retry(false);
        return error;
    }
    ctx.hop.fault |= ctx.hop.late;
    let harmless = session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
    if harmless && !ctx.hop.late {
        error.retry.decide_reuse(kept);
    } else {
        error.set_retry(false);
    }
    let again = error.retry() && ctx.hop.attempts < 2 && ctx.upstream.as_ref().is_some_and(|it| it.retries.spend());
    error.set_retry(again);
    note(peer, ctx, &error);
    error
}

/// For the access line, and for the requests that wait for this one.
fn note(peer: &HttpPeer, ctx: &mut RequestContext, error: &Error) {
    if *error.esource() != ErrorSource::Upstream {
        return;
    }
    if !ctx.hop.late {
        let cause = ctx.refusal.as_ref().map_or_else(|| cause_of(error), ToString::to_string);
        ctx.hop.cause = Some(format!("{}: {cause}", peer.address()));
    }
    // A bad answer is one: what becomes of it is said by what is stored.
    let unanswered = ctx.refusal.is_some() || failure_of(error) == Failure::Disconnected;
    if unanswered && let Some(fault) = fail::explain(ctx, error) {
        recall::record_failure(ctx, &fault);
    }
}
