//! Connect: the address to dial, the time in which its answer must begin, and whether a failed attempt is
//! made again. That the service may be called was asked before (`recall::go_on`).

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::{fail, hold, recall};
use crate::legacy::cache::{Failure, failure_of};
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::hop::Turn;
use crate::proxy::wire::Pace;
use crate::reply::ProxyError;
use crate::resilience::Stage;
use crate::upstream::{Call, Deadline, Late};

const GRPC: &[u8] = b"application/grpc";
/// A wait that is worth a look at who is waited for.
const SHORT: Duration = Duration::from_millis(50);
/// In which a late answer is found to be late.
const LOOK: Duration = Duration::from_millis(500);

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
    let (grpc, severable) = (is_grpc(session), hold::hold(session, ctx));
    ctx.hop.timed = severable.is_none() && !ctx.streaming && !grpc && Deadline::is_possible();
    let call = Call { streaming: ctx.streaming, timed: ctx.hop.timed, grpc, severable };
    upstream.peer(attempt, call).await.map_err(|error| {
        ctx.hop.fault = true;
        tracing::error!(%error, correlation_id = &*ctx.correlation_id, "a service has no address");
        let unresolved = ProxyError::UpstreamError("the service's name does not resolve".to_owned());
        recall::fell(ctx, &unresolved);
        unresolved
    })
}

/// Whether this is a gRPC call, which no service takes but on HTTP/2 (its statuses are trailers). gRPC-Web, which browsers
/// speak, is made for HTTP/1.1.
fn is_grpc(session: &Downstream) -> bool {
    if !session.is_http2() {
        return false;
    }
    let kind = session.req_header().headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.and_then(|kind| kind.split_at_checked(GRPC.len())).is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// A call that may hear nothing for long before its first message: gRPC, and what browsers speak in its place.
fn is_call(session: &Downstream) -> bool {
    let kind = session.req_header().headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let begins = |with: &[u8]| kind.get(..with.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(with));
    begins(GRPC) || begins(b"application/connect+")
}

/// Nothing was sent: the next address of the service may be tried, whatever the method. That is no load for
/// a service, and so outside its budget.
#[allow(clippy::unnecessary_box_returns, reason = "the engine's errors are boxed")]
pub(in crate::proxy) fn failed(ctx: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
    ctx.hop.fault = !fail::out_of_places(&error);
    if !ctx.hop.fault {
        tracing::warn!(correlation_id = &*ctx.correlation_id, %error, "NOTHING_LEFT");
    }
    error.set_retry(ctx.hop.attempts < 2);
    note(ctx, &error);
    error
}

/// There is a connection; the engine says which.
pub(in crate::proxy) fn connected(ctx: &mut RequestContext, socket: RawFd) {
    ctx.hop.socket = Some(ctx.live.as_ref().map_or(socket, |live| live.socket()));
    ctx.hop.deadline = None;
    ctx.hop.turn = None;
}

/// The request is about to be sent: from here on time runs, the service's or the client's. `invited`: the service
/// has said that it wants the body.
pub(in crate::proxy) fn asked(session: &mut Downstream, ctx: &mut RequestContext, invited: bool) {
    awaited(ctx);
    // RFC 9110 §10.1.1: who expects a word first, sends nothing before it.
    let waits = !invited && ctx.body_received == 0 && session.req_header().headers.contains_key(EXPECT);
    let whole = ctx.websocket || waits || session.as_downstream_mut().is_body_done();
    await_head(session, ctx, if whole { Turn::Service } else { Turn::Client });
}

/// A piece of the request's body. An empty one at the end the engine would write as a last chunk, and then write
/// the last chunk: with those bytes the next request on the connection would begin (RFC 9112 §7.1).
pub(in crate::proxy) fn sending(session: &Downstream, body: &mut Option<Bytes>, end: bool, ctx: &mut RequestContext) {
    ctx.hop.body_came = true;
    if end && body.as_ref().is_some_and(Bytes::is_empty) {
        *body = None;
    }
    if let (Some(pace), Some(bytes)) = (&mut ctx.hop.upload, &*body) {
        // While the service takes nothing, nothing is taken from the client either.
        let excused = pace.waited() > SHORT && ctx.hop.deadline.as_ref().is_some_and(Deadline::excuses);
        if excused { pace.renew() } else { pace.moved(bytes.len()) }
    }
    // The end alone of a body that is not there changes nothing.
    let known = body.is_none() && ctx.hop.turn == Some(Turn::Service);
    if ctx.hop.turn.is_some() && !known && (body.is_some() || end) {
        awaited(ctx);
        await_head(session, ctx, if end { Turn::Service } else { Turn::Client });
    }
}

/// An answer that may last has no longer to begin than another. Only a call (`is_call`) may hear nothing for
/// long. A client on HTTP/1 is timed at the door, where nobody knows whether its service takes what it sends.
fn await_head(session: &Downstream, ctx: &mut RequestContext, turn: Turn) {
    if ctx.hop.late {
        return;
    }
    ctx.hop.turn = Some(turn);
    on_the_way(ctx, if turn == Turn::Client { Stage::Uploading } else { Stage::Asked });
    let (Some(socket), Some(upstream)) = (ctx.hop.socket, &ctx.upstream) else { return };
    ctx.hop.deadline = match turn {
        _ if ctx.websocket => None,
        Turn::Service => {
            let now = Instant::now();
            ctx.hop.asked = Some(now);
            if ctx.streaming && is_call(session) { None } else { Deadline::set(socket, now + upstream.timeout) }
        }
        Turn::Client => {
            ctx.hop.asked = None;
            let server = ctx.gateway.server();
            let (rate, window) = (server.min_body_rate, server.body_timeout);
            let pace = session.is_http2().then(|| ctx.hop.upload.get_or_insert_with(|| Pace::new(rate, window)).wait());
            Deadline::of_upload(socket, pace, upstream.timeout)
        }
    };
}

/// The wait is over, for a head or for a deadline.
fn awaited(ctx: &mut RequestContext) {
    let Some(late) = ctx.hop.deadline.take().and_then(|deadline| deadline.passed()) else { return };
    ctx.hop.late = true;
    ctx.hop.turn = Some(if late == Late::Client { Turn::Client } else { Turn::Service });
}

/// A head has come. After "100 Continue" the service waits for the body, and its time begins anew.
pub(in crate::proxy) fn answered(session: &mut Downstream, response: &ResponseHeader, ctx: &mut RequestContext) {
    if response.status == StatusCode::CONTINUE {
        // Said again, or to nobody who waits for it, it is worth nothing.
        if ctx.hop.turn == Some(Turn::Service) && !session.as_downstream_mut().is_body_done() {
            asked(session, ctx, true);
        }
    } else if !response.status.is_informational() {
        let awaited_head = ctx.hop.turn.take() == Some(Turn::Service);
        begun(ctx);
        if let (false, Some(asked), Some(upstream)) = (response.status.is_server_error(), ctx.hop.asked, &ctx.upstream)
        {
            on_the_way(ctx, Stage::Answered(asked + upstream.timeout + LOOK));
        }
        // To store something at a HEAD, the engine asks for all of it.
        let head = session.req_header().method == Method::HEAD && !session.cache.enabled();
        let bodiless = head || has_no_body(response);
        if bodiless || !ctx.hop.timed {
            awaited(ctx);
            ctx.hop.turn = None;
        } else {
            let until_closed = ![CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|it| response.headers.contains_key(it));
            await_body(ctx, awaited_head, until_closed);
        }
    }
}

/// Tells the circuit who is waited for.
fn on_the_way(ctx: &RequestContext, stage: Stage) {
    if let Some(permit) = ctx.legacy.as_ref().and_then(|call| call.permit.as_ref()) {
        permit.note(stage);
    }
}

fn has_no_body(response: &ResponseHeader) -> bool {
    matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0")
}

/// The rest of an answer has the rest of its service's time.
fn await_body(ctx: &mut RequestContext, awaited_head: bool, until_closed: bool) {
    if !awaited_head {
        awaited(ctx);
        if let (Some(socket), Some(asked), Some(upstream)) = (ctx.hop.socket, ctx.hop.asked, &ctx.upstream) {
            ctx.hop.deadline = Deadline::set(socket, asked + upstream.timeout);
        }
    }
    if let Some(deadline) = &mut ctx.hop.deadline {
        deadline.begun(until_closed);
    }
}

/// The end of an answer, unless it was made here.
pub(in crate::proxy) fn ended(ctx: &mut RequestContext) -> Result<(), ProxyError> {
    let cut_short = ctx.hop.deadline.take().is_some_and(|deadline| deadline.cut_short());
    if cut_short { Err(ProxyError::UpstreamTimeout(ctx.timeout())) } else { Ok(()) }
}

/// How long the service took: from the start where it had nothing to wait for, else from the end of the upload. One that
/// answers before that has its time for the rest from now on.
fn begun(ctx: &mut RequestContext) {
    let since = ctx.hop.asked.filter(|_| ctx.body_received > 0).or(ctx.hop.started);
    ctx.hop.elapsed = since.map(|since| since.elapsed());
    ctx.hop.asked.get_or_insert_with(Instant::now);
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
    if *error.esource() == ErrorSource::Downstream {
        // The client ended it; a deadline that passed meanwhile is not the cause.
        ctx.hop.deadline = None;
    }
    awaited(ctx);
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
