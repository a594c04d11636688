//! Conclude: metrics and the access line, once a request is over.

use pingora::Error;

use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::gateway::Gateway;
use crate::reply::{Face, ProxyError};
use crate::telemetry::AccessLine;

use super::fail::error_label;
use super::{legacy, recall};

/// The client left before it was answered: nginx's word for it.
const LEFT: u16 = 499;

/// Counts the request and writes its line.
pub(in crate::proxy) fn conclude(session: &Downstream, ctx: &mut RequestContext, error: Option<&Error>) {
    legacy::judge(ctx, error);
    recall::in_doubt(session, ctx);
    let ctx = &*ctx;
    let gateway = &*ctx.gateway;
    if session.subrequest_ctx.is_some() {
        // A stored answer is being refreshed; the request that caused it has its own line.
        return count_service(gateway, ctx);
    }
    let elapsed = ctx.started.elapsed();
    let written = session.response_written().map(|response| response.status.as_u16());
    let status = ctx.own_status.or(written.filter(|status| *status >= 200 || *status == 101)).unwrap_or(LEFT);
    let method = method_label(session);
    ctx.meters.answered(method, status_label(status), elapsed.as_secs_f64());
    count_service(gateway, ctx);

    let gone = error.is_some() && ctx.own_status.is_none() && ctx.refusal.is_none();
    if gone && tracing::enabled!(tracing::Level::DEBUG) {
        let kind = error.map(|error| error.etype().as_str()).unwrap_or_default();
        tracing::debug!(correlation_id = &*ctx.correlation_id, kind, "a request ended early");
    }
    if !gateway.access_log.wanted() {
        return;
    }
    let hash = ctx.who.session().map(|login| login.log_id());
    gateway.access_log.write(&AccessLine {
        service: ctx.service.as_deref(),
        upstream_status: ctx.hop.status,
        upstream_error: ctx.hop.cause.as_deref(),
        code: ctx.refusal.as_ref().map(|refusal| refusal.face().code),
        bytes_in: ctx.body_received.max(session.body_bytes_read() as u64),
        bytes_out: session.body_bytes_sent() as u64,
        duration: elapsed,
        upstream: ctx.hop.elapsed,
        session: hash.as_deref(),
        token_found: ctx.token_found,
        ..AccessLine::new(&ctx.correlation_id, method, ctx.meters.endpoint(), status)
    });
}

/// The same of what never became a request.
pub(in crate::proxy) fn refused(gateway: &Gateway, correlation_id: &str, error: &ProxyError, bytes_out: usize) {
    let Face { status, code, .. } = error.face();
    let label = status_label(status.as_u16());
    gateway.metrics.http_requests.with_label_values(&["OTHER", "unmatched", label]).inc();
    if !gateway.access_log.wanted() {
        return;
    }
    gateway.access_log.write(&AccessLine {
        code: Some(code),
        bytes_out: bytes_out as u64,
        ..AccessLine::new(correlation_id, "OTHER", "unmatched", status.as_u16())
    });
}

fn count_service(gateway: &Gateway, ctx: &RequestContext) {
    let (Some(service), Some(_asked)) = (ctx.service.as_deref(), ctx.hop.started) else { return };
    ctx.meters.asked(ctx.hop.elapsed.map(|waited| waited.as_secs_f64()));
    let fault = ctx.refusal.as_ref().and_then(error_label);
    let answered = ctx.hop.status.filter(|status| *status >= 500).map(|_| "status_5xx");
    // A stored answer that stands in hides the fault from the client, not from whoever looks after the service.
    let fault = fault.or(answered).or(ctx.hop.covered);
    if let Some(kind) = fault {
        gateway.metrics.service_errors.with_label_values(&[service, kind]).inc();
    }
}

/// The registered methods; anything else is one label, since clients make them up.
fn method_label(session: &Downstream) -> &'static str {
    const KNOWN: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
    let method = session.req_header().method.as_str();
    KNOWN.iter().find(|known| **known == method).copied().unwrap_or("OTHER")
}

/// Status as text without an allocation for the usual ones.
fn status_label(status: u16) -> &'static str {
    macro_rules! labels {
        ($($code:literal)*) => { match status { $($code => stringify!($code),)* 100..=199 => "1xx", 200..=299 => "2xx",
            300..=399 => "3xx", 400..=499 => "4xx", 500..=599 => "5xx", _ => "0" } };
    }
    labels!(101 200 201 202 204 206 301 302 303 304 307 308 400 401 403 404 405 408 409 410 412 413 414 415 416 422
        429 431 499 500 501 502 503 504 505)
}
