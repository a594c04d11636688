//! Fail: the engine's errors in our words, and what is still answered after one.

use std::io::ErrorKind;

use nix::errno::Errno;
use pingora::proxy::FailToProxy;
use pingora::{Error, ErrorSource, ErrorType};

use super::{hold, legacy, recall};
use crate::legacy::cache::{Failure, failure_of};
use crate::proxy::context::RequestContext;
use crate::proxy::decide::refuse;
use crate::proxy::wire::Malformed;
use crate::proxy::{Downstream, downstream};
use crate::reply::ProxyError;
use crate::upstream::Turn;

/// Answers a request that the engine gave up, where an answer can still be given.
pub(in crate::proxy) async fn answer(session: &mut Downstream, ctx: &mut RequestContext, cause: &Error) -> FailToProxy {
    let nothing = FailToProxy { error_code: 0, can_reuse_downstream: false };
    if let Some(end_reason) = ctx.live.as_ref().and_then(|live| live.end_reason())
        && downstream::answered(session)
    {
        return hold::bid_farewell(session, ctx, end_reason).await;
    }
    let Some(error) = explain(ctx, cause) else { return nothing };
    // Before the client hears of it: its next request may follow at once.
    legacy::judge(ctx, Some(cause));
    if downstream::answered(session) {
        // Half an answer is out: closing the connection is all that can still be said.
        ctx.refusal = Some(error);
        return nothing;
    }
    let stale = match cause.esource() {
        ErrorSource::Downstream => None,
        _ => recall::stand_in(session, ctx, failure_of(cause), true),
    };
    if stale.is_some() {
        ctx.hop.covered = covered_label(ctx, cause);
    }
    let reply = stale.unwrap_or_else(|| refuse(ctx, error));
    let error_code = reply.status.as_u16();
    session.set_keepalive(None);
    if downstream::respond(session, ctx, reply).await.is_err() {
        return nothing;
    }
    FailToProxy { error_code, can_reuse_downstream: false }
}

/// What to tell the client; `None` when it has left and nothing can be told.
pub(super) fn explain(ctx: &RequestContext, error: &Error) -> Option<ProxyError> {
    if let Some(refusal) = &ctx.refusal {
        return Some(refusal.clone());
    }
    if let Some(refusal) = hold::refusal(ctx) {
        return Some(refusal);
    }
    let timeout = ctx.timeout();
    if ctx.hop.late && ctx.hop.turn != Some(Turn::Client) {
        return Some(ProxyError::UpstreamTimeout(timeout));
    }
    if out_of_places(error) {
        return Some(ProxyError::NoFilesOrPorts);
    }
    let line = error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::ReadError) if line == Some(ErrorKind::InvalidData) => {
            Some(Malformed.into())
        }
        (ErrorSource::Downstream, ErrorType::ReadError) if line == Some(ErrorKind::TimedOut) => {
            Some(ProxyError::ClientTimeout)
        }
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(ProxyError::ClientTimeout),
        (
            ErrorSource::Downstream,
            ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ConnectionClosed
            // Of HTTP/2: the stream is over, by RST_STREAM or with its connection.
            | ErrorType::H2Error,
        ) => None,
        (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader | ErrorType::HTTPStatus(400)) => {
            Some(ProxyError::BadRequest("the request header is not acceptable".to_owned()))
        }
        (ErrorSource::Downstream, _) => Some(ProxyError::BadRequest("the request could not be read".to_owned())),
        (
            _,
            ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout,
        ) => Some(ProxyError::UpstreamTimeout(timeout)),
        (ErrorSource::Upstream, kind) => {
            Some(ProxyError::UpstreamError(format!("the service failed: {}", words(kind))))
        }
        // Hop-by-hop policy: a client that nominates what it must not (RFC 9110 §7.6.1).
        (_, ErrorType::InvalidHTTPHeader | ErrorType::HTTPStatus(400)) => {
            Some(ProxyError::BadRequest("the request header is not acceptable".to_owned()))
        }
        (_, _) => Some(ProxyError::Internal),
    }
}

/// Whether no connection could be made because of us and not of the service: this process, or the whole machine, has
/// no file, no memory for a socket, or no port left (connect(2), socket(2)).
pub(super) fn out_of_places(error: &Error) -> bool {
    // The engine wraps what connect(2) said in an error of its own.
    let root: &(dyn std::error::Error + 'static) = error.root_cause();
    let errno = std::iter::successors(Some(root), |error| error.source())
        .find_map(|error| error.downcast_ref::<std::io::Error>()?.raw_os_error());
    *error.esource() == ErrorSource::Upstream
        && errno.map(Errno::from_raw).is_some_and(|errno| {
            matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRNOTAVAIL)
        })
}

/// The `error_type` of a fault for which a stored answer stands in.
pub(super) fn covered_label(ctx: &RequestContext, error: &Error) -> Option<&'static str> {
    match failure_of(error) {
        Failure::Answered if ctx.refusal.is_none() => Some("status_5xx"),
        _ => explain(ctx, error).as_ref().and_then(error_label),
    }
}

/// The `error_type` label: bounded.
pub(in crate::proxy) fn error_label(error: &ProxyError) -> Option<&'static str> {
    match error {
        ProxyError::UpstreamTimeout(_) => Some("timeout"),
        ProxyError::UpstreamError(_) => Some("connection"),
        _ => None,
    }
}

fn words(kind: &ErrorType) -> &'static str {
    match kind {
        ErrorType::ConnectRefused => "it refuses connections",
        ErrorType::ConnectNoRoute => "there is no route to it",
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
            "its TLS certificate or handshake is not acceptable (services.*.tls)"
        }
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => "it broke the connection",
        ErrorType::InvalidHTTPHeader => "its answer is not HTTP",
        _ => "it cannot be reached",
    }
}
