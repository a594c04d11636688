//! The client's end of a request: its address, its timeouts, and how an answer of ours reaches it.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method};
use pingora::http::{RequestHeader, ResponseHeader};

use super::Downstream;
use super::context::RequestContext;
use super::gateway::Gateway;
use super::headers::{FETCH_DEST, FETCH_MODE, forget_fields};
use super::stages::{limit, relay};
use super::wire::Beyond;
use crate::reply::{ProxyError, Reply};

/// A body up to this is read to its end before we refuse, so that the connection can go on.
const DRAINED: u64 = 64 * 1024;
/// In which one of unknown length must be over: who streams on must not wait for our refusal.
const ON_ITS_WAY: Duration = Duration::from_millis(100);
/// In which the whole of a body that we answer to ourselves must arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// As much of an answer the engine reads, and writes to a client, at once.
const PIECE: usize = 64 * 1024;
/// On HTTP/1 it joins so many pieces to one write.
const TOGETHER: u64 = 4;
/// What a client that is still sending gets to notice our answer before the connection closes.
const LINGER: Duration = Duration::from_secs(2);

/// Idle, header and body timeouts. The engine's own default for a kept connection is none at all,
/// and an unconditional keep-alive would undo its decision to close (RFC 9112 §9.6).
pub(super) fn set_timeouts(gateway: &Gateway, session: &mut Downstream) {
    let server = gateway.server();
    if session.get_keepalive().is_some() {
        let leaving = gateway.is_leaving() || is_beyond(session);
        session.set_keepalive((!leaving).then_some(server.idle_timeout.as_secs().max(1)));
    }
    // For who mounts the pipeline without the door, which holds later requests back: a HEAD is answered while
    // its body is still being fetched for the cache, and what comes meanwhile the engine would drop.
    let ahead = session.req_header().method == Method::HEAD;
    session.set_pipelining_enabled(ahead);
    session.set_read_timeout(Some(server.body_timeout));
    let write_time = write_time(server.body_timeout, server.min_body_rate, session.is_http2());
    session.set_write_timeout(write_time);
    session.set_total_drain_timeout(Some(LINGER));
}

/// The engine times whole writes. On HTTP/1 whoever is as fast as `server.min_body_rate` asks must be through with
/// one: the door sees every byte, and is not so patient. It cannot tell one answer of HTTP/2 from another: there only
/// the engine notices a client that takes nothing, and each piece has `server.body_timeout`.
fn write_time(window: Duration, rate: u64, http2: bool) -> Option<Duration> {
    if http2 {
        return Some(window);
    }
    (PIECE as u64 * TOGETHER).checked_div(rate).map(|seconds| window.max(Duration::from_secs(seconds)))
}

/// Whether there is no place for its connection (`server.max_connections`).
pub(super) fn is_beyond(session: &Downstream) -> bool {
    let mark = session.digest().and_then(|digest| digest.proxy_digest.as_ref()?.user_data.as_ref());
    mark.is_some_and(|mark| mark.is::<Beyond>())
}

/// The peer's address, as the socket knows it.
pub(super) fn client_ip(session: &Downstream) -> Option<IpAddr> {
    let ip = session.client_addr()?.as_inet()?.ip();
    Some(ip.to_canonical())
}

/// Whether this connection came in over TLS.
pub(super) fn is_tls(session: &Downstream) -> bool {
    session.digest().is_some_and(|digest| digest.ssl_digest.is_some())
}

/// What the client calls us: `:authority` on HTTP/2, else `Host`.
pub(super) fn authority(session: &Downstream) -> Option<HeaderValue> {
    let request = session.req_header();
    let from_uri = request.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    from_uri.or_else(|| request.headers.get(HOST).cloned())
}

/// A top-level page load (Fetch Metadata).
pub(super) fn is_navigation(request: &RequestHeader) -> bool {
    let says = |name: &HeaderName, value: &str| request.headers.get(name).is_some_and(|given| given == value);
    says(&FETCH_MODE, "navigate") && says(&FETCH_DEST, "document")
}

/// Writes an answer of ours and leaves the connection usable where HTTP allows it.
pub(super) async fn respond(
    session: &mut Downstream,
    ctx: &mut RequestContext,
    mut reply: Reply,
) -> pingora::Result<()> {
    // Whoever is too slow has had its time.
    let late = matches!(ctx.refusal, Some(ProxyError::ClientTimeout));
    let drained = !late && drain_small_body(session).await;
    // Not where something stored stands in for it.
    let for_want = |refusal: &ProxyError| refusal.is_for_want_of_room() && refusal.face().status == reply.status;
    if session.is_http2() && ctx.refusal.as_ref().is_some_and(for_want) {
        // A body would wait here for as long as the client's window is closed; a head waits for none.
        reply.body = Bytes::new();
        reply.headers.retain(|(name, _)| name != CONTENT_TYPE);
    }
    let mut head = ResponseHeader::build(reply.status, Some(reply.headers.len() + 4))?;
    for (name, value) in reply.headers {
        head.append_header(name, value)?;
    }
    if !matches!(reply.status.as_u16(), 204 | 304) {
        head.insert_header(CONTENT_LENGTH, reply.body.len())?;
    }
    relay::add_response_headers(&mut head, ctx)?;
    ctx.own_status = Some(reply.status.as_u16());
    if !drained || ctx.gateway.is_leaving() {
        session.set_keepalive(None);
    }
    if session.is_http2() {
        // A client with a window of nothing has us wait with each of a hundred answers.
        forget_fields(session.req_header_mut());
    }
    let bodiless = reply.body.is_empty() || session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(head), bodiless).await?;
    if !bodiless {
        write(session, reply.body).await?;
    } else if session.is_http2() {
        // The engine tells nobody that a head is all, and after a failure it ends no stream but by RST_STREAM.
        session.write_response_body(None, true).await?;
    }
    if !drained && !late {
        linger(session).await;
    }
    Ok(())
}

async fn write(session: &mut Downstream, mut body: Bytes) -> pingora::Result<()> {
    while body.len() > PIECE {
        session.write_response_body(Some(body.split_to(PIECE)), false).await?;
    }
    session.write_response_body(Some(body), true).await
}

/// The whole body of a request that is answered here, if it has at most `limit` bytes.
pub(super) async fn read_body(session: &mut Downstream, limit: u64) -> Result<Vec<u8>, ProxyError> {
    limit::declared(session, Some(limit))?;
    tokio::time::timeout(BODY_TIME, collect_body(session, limit)).await.unwrap_or(Err(ProxyError::ClientTimeout))
}

async fn collect_body(session: &mut Downstream, limit: u64) -> Result<Vec<u8>, ProxyError> {
    let unreadable = |_error| ProxyError::BadRequest("the body could not be read".to_owned());
    // RFC 9110 §10.1.1: whoever asked waits for this word.
    let expects = session.req_header().headers.get(EXPECT);
    let waits = expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let kept = session.get_keepalive();
    if waits {
        session.as_downstream_mut().write_continue_response().await.map_err(unreadable)?;
    }
    let mut body = Vec::new();
    while let Some(chunk) = session.read_request_body().await.map_err(unreadable)? {
        limit::streamed(body.len() as u64 + chunk.len() as u64, Some(limit))?;
        body.extend_from_slice(&chunk);
    }
    // The engine takes that word for an answer before the body's end, and would close after it.
    session.set_keepalive(kept);
    Ok(body)
}

/// Whether the request's body is over: read to its end here if it is short and on its way.
async fn drain_small_body(session: &mut Downstream) -> bool {
    if session.as_downstream_mut().is_body_done() {
        return true;
    }
    if session.is_http2() {
        // Only the stream ends. It lingers, too: some clients lose an answer that is followed at
        // once by RST_STREAM, even by the friendly one of RFC 9113 §8.1.
        return false;
    }
    let headers = &session.req_header().headers;
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let time = match length {
        Some(length) if length <= DRAINED => LINGER,
        None if headers.contains_key(TRANSFER_ENCODING) => ON_ITS_WAY,
        _ => return false,
    };
    // A client that waits for "100 Continue" has sent nothing, and may not.
    let sent = !headers.contains_key(EXPECT);
    sent && tokio::time::timeout(time, read_to_end(session)).await.is_ok_and(|whole| whole)
}

async fn read_to_end(session: &mut Downstream) -> bool {
    let mut read = 0;
    while let Ok(chunk) = session.read_request_body().await {
        let Some(chunk) = chunk else { return true };
        read += chunk.len() as u64;
        if read > DRAINED {
            break;
        }
    }
    false
}

/// Closing with unread bytes in the socket makes the kernel reset it, and the client would never
/// read our answer (RFC 9112 §9.6): so read on for a moment.
pub(super) async fn linger(session: &mut Downstream) {
    session.set_read_timeout(Some(Duration::from_millis(500)));
    let _ = tokio::time::timeout(LINGER, session.drain_request_body()).await;
}

/// Whether a client on HTTP/1 still sends what its service, which has answered, did not want: the engine ends both
/// connections.
pub(super) fn still_sends(session: &mut Downstream) -> bool {
    let relayed = session.response_written().is_some_and(|head| head.status.as_u16() >= 200);
    let whole = session.is_http2() || session.as_downstream_mut().is_body_done();
    relayed && !whole && session.subrequest_ctx.is_none()
}

/// Whether an answer to this request has begun. An interim one (RFC 9110 §15.2) is none.
pub(super) fn answered(session: &Downstream) -> bool {
    session.response_written().is_some_and(|head| !head.status.is_informational() || head.status == 101)
}

/// Bytes of a body chunk.
pub(super) fn chunk_len(body: Option<&Bytes>) -> u64 {
    body.map_or(0, |chunk| chunk.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_has_the_time_that_the_least_pace_takes() {
        let seconds = |rate, http2| write_time(Duration::from_secs(60), rate, http2).map(|time| time.as_secs());
        assert_eq!((seconds(240, true), seconds(240, false)), (Some(60), Some(1092)));
        assert_eq!(seconds(1_000_000, false), Some(60), "who takes nothing has no less");
        assert_eq!((seconds(0, true), seconds(0, false)), (Some(60), None), "the door times single bytes");
    }
}
