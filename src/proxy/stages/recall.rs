//! Recall: the façade's answers from the response cache. One function for each callback of the engine;
//! on a request that is not the façade's each does nothing.

use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora::cache::{CacheKey, CacheMeta, ForcedFreshness, NoCacheReason, RespCacheable};
use pingora::http::ResponseHeader;
use pingora::proxy::RangeType;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::fail::{covered_label, out_of_places};
use super::forward::client_origin;
use super::legacy;
use crate::legacy::cache::{Caller, Failure, Fault, Question, Recall, failure_of};
use crate::proxy::context::RequestContext;
use crate::proxy::decide::refuse;
use crate::proxy::headers::{CORRELATION_ID, Presence, forget_answer_spelling};
use crate::proxy::hop::Reached;
use crate::proxy::who::Who;
use crate::proxy::{Downstream, downstream};
use crate::reply::{ProxyError, Reply};
use crate::resilience::Phase;
use crate::upstream::Deadline;

/// What the rest of an answer has that a stored one covers.
const REST: Duration = Duration::from_millis(100);

/// Begins with a request to the façade.
pub(in crate::proxy) fn enable(session: &mut Downstream, ctx: &mut RequestContext) {
    let Some(call) = &ctx.legacy else { return };
    let Some(caller) = caller(session, ctx) else { return };
    let with_body = !session.as_downstream_mut().is_body_empty();
    let question = Question {
        service: &call.service.stored_as,
        target: &ctx.hop.target,
        origin: client_origin(&ctx.gateway, session),
        caller,
        foreign_credential: matches!(ctx.who, Who::Session(_)) && ctx.presence.may_have(Presence::AUTHORIZATION),
        with_body,
        timeout: call.service.upstream.timeout,
    };
    let recall = ctx.gateway.facade.cache.recall(question, session.req_header());
    recall.enable(session);
    ctx.recall = Some(recall);
}

/// Whose answers these are. A token of the caller's own counts by itself: what it may read is its
/// service's to know.
fn caller(session: &Downstream, ctx: &RequestContext) -> Option<Caller> {
    match &ctx.who {
        Who::Session(login) => Some(Caller::of_session(&login.identity.issuer, &login.identity.subject)),
        Who::Caller(_) => {
            let token = session.req_header().headers.get(AUTHORIZATION)?;
            Some(Caller::by_token(token.as_bytes()))
        }
        Who::Nobody => None,
    }
}

pub(in crate::proxy) fn key(ctx: &mut RequestContext) -> Result<CacheKey> {
    let key = ctx.recall.as_mut().map(Recall::key);
    key.ok_or_else(|| Error::explain(ErrorType::InternalError, "a cache key without a question"))
}

pub(in crate::proxy) fn hit(meta: &CacheMeta, ctx: &mut RequestContext) -> Option<ForcedFreshness> {
    let open = ctx.legacy.as_ref().is_some_and(|call| matches!(call.service.phase(), Phase::Open { .. }));
    ctx.recall.as_mut().and_then(|recall| recall.hit(meta, open))
}

/// What is answered here instead of going on to the service: only a stored answer was wanted and there is none, or
/// the service may not be asked now. The engine keeps the connection of a request that is answered at this point, and
/// closes it when the same refusal comes later.
pub(in crate::proxy) fn held_back(session: &mut Downstream, ctx: &mut RequestContext) -> Option<Reply> {
    spare_heads(session);
    let stored_only = ctx.recall.as_mut().is_some_and(|recall| !recall.may_ask());
    let allowed = match shared_fault(session, ctx) {
        _ if stored_only => Err(ProxyError::NotStored),
        Some(fault) => Err(fault),
        None => legacy::ask_circuit(ctx),
    };
    let refusal = allowed.err()?;
    if session.cache.enabled() {
        // Whoever waits for this request need not wait until it is answered.
        session.cache.disable(NoCacheReason::DeclinedToUpstream);
    }
    let stale = if stored_only { None } else { stand_in(session, ctx, Failure::Disconnected, false) };
    Some(stale.unwrap_or_else(|| refuse(ctx, refusal)))
}

/// To store something at a `HEAD`, the engine asks for all of it, and on HTTP/2 holds the stream open until it is
/// there.
fn spare_heads(session: &mut Downstream) {
    if session.is_http2() && session.req_header().method == Method::HEAD && session.cache.enabled() {
        session.cache.disable(NoCacheReason::DeclinedToUpstream);
    }
}

/// What a request that changes something left behind when nobody heard what became of it: nothing stored is to be
/// trusted (RFC 9111 §4.4 asks for it only once the service has said so).
pub(super) fn in_doubt(session: &Downstream, ctx: &RequestContext) {
    if ctx.hop.socket.is_some() && ctx.hop.status.is_none() {
        invalidate(session, ctx, StatusCode::OK, &HeaderMap::new());
    }
}

/// Forgets what the façade's request has changed at its service, which answered so.
fn invalidate(session: &Downstream, ctx: &RequestContext, status: StatusCode, response: &HeaderMap) {
    let Some(call) = &ctx.legacy else { return };
    let (service, method) = (&call.service, &session.req_header().method);
    let (cache, target) = (ctx.gateway.facade.cache, &ctx.hop.target);
    cache.invalidate_after(&service.stored_as, &service.site, method, target, status, response);
}

/// The failure of the request that this one has waited for.
fn shared_fault(session: &Downstream, ctx: &RequestContext) -> Option<ProxyError> {
    Some(match ctx.recall.as_ref()?.shared_fault(session)? {
        Fault::Late => ProxyError::UpstreamTimeout(ctx.timeout()),
        Fault::Broken => ProxyError::UpstreamError("the service failed others who asked the same".to_owned()),
    })
}

/// Remembers a failure for those who wait for this request.
pub(super) fn record_failure(ctx: &RequestContext, fault: &ProxyError) {
    let Some(recall) = &ctx.recall else { return };
    match fault {
        ProxyError::UpstreamTimeout(_) => recall.record_failure(Fault::Late),
        ProxyError::UpstreamError(_) => recall.record_failure(Fault::Broken),
        _ => {}
    }
}

/// What is stored, instead of an error. `asked`: the service was.
pub(super) fn stand_in(session: &Downstream, ctx: &RequestContext, failure: Failure, asked: bool) -> Option<Reply> {
    ctx.recall.as_ref()?.stand_in(session.req_header(), failure, asked)
}

/// Takes note of a service's answer: a 304 updates, an unsafe request invalidates. An error for which
/// something stored may stand in is none the client has to see.
pub(in crate::proxy) fn received(
    session: &Downstream,
    response: &ResponseHeader,
    ctx: &mut RequestContext,
) -> Result<()> {
    if let Some(recall) = &mut ctx.recall {
        recall.received(response);
        // The engine sees to it as long as its cache is on.
        if response.status.is_server_error() && !session.cache.enabled() && recall.covers(Failure::Answered) {
            return Err(Error::new(ErrorType::HTTPStatus(response.status.as_u16())).into_up());
        }
    }
    invalidate(session, ctx, response.status, &response.headers);
    if response.status == StatusCode::NOT_MODIFIED {
        // It has no body, and of what is sent in its place the service knows nothing.
        legacy::leave(ctx);
    }
    Ok(())
}

pub(in crate::proxy) fn admit(
    session: &Downstream,
    response: &ResponseHeader,
    ctx: &mut RequestContext,
) -> RespCacheable {
    match &mut ctx.recall {
        Some(recall) => recall.admit(session, response),
        None => RespCacheable::Uncacheable(NoCacheReason::Custom("no question")),
    }
}

pub(in crate::proxy) fn not_modified(session: &Downstream, response: &ResponseHeader, ctx: &RequestContext) -> bool {
    ctx.recall.is_some() && Recall::not_modified(session, response)
}

/// Whether the client gets the stale answer: while somebody asks again, or in the place of `error`, which the engine
/// then swallows. The circuit must not.
pub(in crate::proxy) fn serve_stale(session: &mut Downstream, ctx: &mut RequestContext, error: Option<&Error>) -> bool {
    let theirs = |error: &Error| *error.esource() == ErrorSource::Upstream && !out_of_places(error);
    ctx.hop.fault |= error.is_some_and(theirs);
    if !ctx.recall.as_ref().is_some_and(|recall| recall.should_serve_stale(session, error)) {
        return false;
    }
    let Some(error) = error else {
        speak_http1(session);
        return true;
    };
    ctx.hop.covered = covered_label(ctx, error);
    ctx.hop.reached = Reached::Nothing;
    // What we did not like about the answer is not told: the client gets another.
    let refused = ctx.refusal.take().is_some();
    let answered = failure_of(error) == Failure::Answered && !refused;
    if let (true, ErrorType::HTTPStatus(status)) = (answered, error.etype()) {
        ctx.hop.status = Some(*status);
        // Nobody wants the rest of it, and the engine waits for that before it reads the client's next request.
        ctx.hop.deadline = ctx.hop.socket.and_then(|socket| Deadline::set(socket, Instant::now() + REST));
    }
    // Before the client has its answer: its next request may follow at once.
    legacy::judge(ctx, Some(error));
    if !answered {
        // The engine closes after this answer, and the client must know before its next request.
        session.set_keepalive(None);
    }
    true
}

/// The engine refreshes a stale answer by a copy of its request, which it writes in the words of HTTP/1 and reads
/// again: one of HTTP/2 it could not read, and without a host it would be another request.
fn speak_http1(session: &mut Downstream) {
    if !session.is_http2() {
        return;
    }
    let authority = downstream::authority(session);
    let request = session.req_header_mut();
    request.set_version(Version::HTTP_11);
    if let Some(authority) = authority {
        let _ = request.insert_header(HOST, authority);
    }
}

/// Which part of a stored answer is sent.
pub(in crate::proxy) fn part(
    session: &Downstream,
    response: &mut ResponseHeader,
    ctx: &mut RequestContext,
) -> RangeType {
    ctx.recall.as_mut().map_or(RangeType::None, |recall| recall.part(session.req_header(), response))
}

/// Tells the client how its request fared with the cache.
pub(in crate::proxy) fn add_cache_headers(
    session: &Downstream,
    response: &mut ResponseHeader,
    ctx: &RequestContext,
) -> Result<()> {
    let Some(recall) = ctx.recall.as_ref().filter(|_| !response.status.is_informational()) else { return Ok(()) };
    forget_answer_spelling(response, |fields| {
        fields.insert(&CORRELATION_ID, ctx.correlation_id.value());
        recall.add_cache_headers(session, fields);
    })
}
