//! Timing: whose bytes are awaited at each step of an exchange with a service, the client's or the service's, and how
//! long they may take.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};

use super::connect::is_grpc;
use crate::list_fields::members;
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::headers::Presence;
use crate::proxy::wire::Pace;
use crate::reply::ProxyError;
use crate::resilience::Stage;
use crate::upstream::{Deadline, Turn};

pub(super) const GRPC: &[u8] = b"application/grpc";
/// A wait that is worth a look at who is waited for.
const SHORT: Duration = Duration::from_millis(50);
/// In which a late answer is found to be late.
const LOOK: Duration = Duration::from_millis(500);

/// The request is about to be sent: from here on time runs, the service's or the client's.
pub(in crate::proxy) fn request_sent(session: &mut Downstream, ctx: &mut RequestContext, request: &RequestHeader) {
    // RFC 9110 §10.1.1: who expects this word first, sends nothing before it. Nobody says it to whom the service does not
    // hear that it is expected.
    let word = |member: &[u8]| member.eq_ignore_ascii_case(b"100-continue");
    let expects = ctx.presence.may_have(Presence::EXPECT) && members(&request.headers, &EXPECT).any(word);
    let waits = ctx.body_received == 0 && expects;
    let whole = ctx.websocket || waits || session.as_downstream_mut().is_body_done();
    stop_waiting(ctx);
    await_head(session, ctx, if whole { Turn::Service } else { Turn::Client });
}

/// A piece of the request's body. An empty one at the end the engine would write as a last chunk, and then write
/// the last chunk: with those bytes the next request on the connection would begin (RFC 9112 §7.1).
pub(in crate::proxy) fn body_sent(session: &Downstream, body: &mut Option<Bytes>, end: bool, ctx: &mut RequestContext) {
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
        stop_waiting(ctx);
        await_head(session, ctx, if end { Turn::Service } else { Turn::Client });
    }
}

/// A head has come. After "100 Continue" the service waits for the body, and its time begins anew.
pub(in crate::proxy) fn head_received(session: &mut Downstream, response: &ResponseHeader, ctx: &mut RequestContext) {
    if response.status == StatusCode::CONTINUE {
        // Said again, or to nobody who waits for it, it is worth nothing.
        if ctx.hop.turn == Some(Turn::Service) && !session.as_downstream_mut().is_body_done() {
            stop_waiting(ctx);
            await_head(session, ctx, if ctx.websocket { Turn::Service } else { Turn::Client });
        }
    } else if !response.status.is_informational() {
        let awaited_head = ctx.hop.turn.take() == Some(Turn::Service);
        note_elapsed(ctx);
        if let (false, Some(asked), Some(upstream)) = (response.status.is_server_error(), ctx.hop.asked, &ctx.upstream)
        {
            on_the_way(ctx, Stage::Answered(asked + upstream.timeout + LOOK));
        }
        // To store something at a HEAD, the engine asks for all of it.
        let head = session.req_header().method == Method::HEAD && !session.cache.enabled();
        let length = response.headers.get(CONTENT_LENGTH);
        let bodiless = head || has_no_body(response.status, length);
        if bodiless || !ctx.hop.timed {
            stop_waiting(ctx);
            ctx.hop.turn = None;
        } else {
            let until_closed = length.is_none() && !response.headers.contains_key(TRANSFER_ENCODING);
            await_body(ctx, awaited_head, until_closed);
        }
    }
}

/// The end of an answer, unless it was made here.
pub(in crate::proxy) fn answer_ended(ctx: &mut RequestContext) -> Result<(), ProxyError> {
    let cut_short = ctx.hop.deadline.take().is_some_and(|deadline| deadline.cut_short());
    if cut_short { Err(ProxyError::UpstreamTimeout(ctx.timeout())) } else { Ok(()) }
}

/// The wait is over, for a head or for a deadline.
pub(super) fn stop_waiting(ctx: &mut RequestContext) {
    let Some(late) = ctx.hop.deadline.take().and_then(|deadline| deadline.passed()) else { return };
    ctx.hop.late = true;
    ctx.hop.turn = Some(late);
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
    let deadline = match turn {
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
    ctx.hop.deadline = if is_grpc(session, ctx) { deadline.map(Deadline::of_call) } else { deadline };
}

/// A call that may hear nothing for long before its first message: gRPC, and what browsers speak in its place.
fn is_call(session: &Downstream) -> bool {
    let kind = session.req_header().headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let begins = |with: &[u8]| kind.get(..with.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(with));
    begins(GRPC) || begins(b"application/connect+")
}

/// The rest of an answer has the rest of its service's time.
fn await_body(ctx: &mut RequestContext, awaited_head: bool, until_closed: bool) {
    if !awaited_head {
        stop_waiting(ctx);
        if let (Some(socket), Some(asked), Some(upstream)) = (ctx.hop.socket, ctx.hop.asked, &ctx.upstream) {
            ctx.hop.deadline = Deadline::set(socket, asked + upstream.timeout);
        }
    }
    if let Some(deadline) = &mut ctx.hop.deadline {
        deadline.begun(until_closed);
    }
}

/// Tells the circuit who is waited for.
fn on_the_way(ctx: &RequestContext, stage: Stage) {
    if let Some(permit) = ctx.legacy.as_ref().and_then(|call| call.permit.as_ref()) {
        permit.note(stage);
    }
}

fn has_no_body(status: StatusCode, length: Option<&HeaderValue>) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || length.is_some_and(|length| length == "0")
}

/// How long the service took: from the start where it had nothing to wait for, else from the end of the upload. One
/// that answers before that has its time for the rest from now on.
fn note_elapsed(ctx: &mut RequestContext) {
    let since = ctx.hop.asked.filter(|_| ctx.body_received > 0).or(ctx.hop.started);
    ctx.hop.elapsed = since.map(|since| since.elapsed());
    ctx.hop.asked.get_or_insert_with(Instant::now);
}
