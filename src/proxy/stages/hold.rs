//! Hold: answers that last are ended with their session, and when the process stops. The register
//! (`session::live`) cuts the connection to the service; the engine reports that as an error, and here
//! the client is told in the words of its protocol.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use pingora::http::ResponseHeader;
use pingora::proxy::FailToProxy;

use crate::legacy::cache::is_event_stream;
use crate::list_fields::members;
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::headers::Presence;
use crate::reply::ProxyError;
use crate::session::{EndReason, Held};
use crate::upstream::{FrameCursor, Severable, WebSocketTimeouts, close_code, close_frame};

const EVENT_STREAM: &[u8] = b"text/event-stream";
/// What a client gets to say its own `Close`, before its unread bytes reset the connection.
const FAREWELL: Duration = Duration::from_millis(500);

/// A request in the register.
#[derive(Debug)]
pub(in crate::proxy) struct Live {
    held: Held,
    socket: Arc<AtomicI32>,
    upgraded: Arc<AtomicBool>,
    form: Form,
    to_client: FrameCursor,
    from_client: FrameCursor,
}

/// What the service began to answer.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    /// Nothing yet, or something whose end a client expects: cut short, it must not look whole.
    Body,
    /// May end after any event; the client comes again.
    Events,
    WebSocket,
}

impl Live {
    /// Why it is being ended, if it is.
    pub(in crate::proxy) fn end_reason(&self) -> Option<EndReason> {
        self.held.end_reason()
    }

    /// Its connection to the service; below 0 before there is one.
    pub(in crate::proxy) fn socket(&self) -> RawFd {
        self.socket.load(Ordering::Relaxed)
    }
}

/// Registers a request whose answer may last; its connection is then to be one that can be cut. The façade's answers
/// are bounded by their timeout, and stored ones belong to nobody.
pub(in crate::proxy) fn hold(session: &Downstream, ctx: &mut RequestContext) -> Option<Severable> {
    // Of an earlier attempt.
    ctx.live = None;
    let events = || ctx.legacy.is_none() && ctx.presence.may_have(Presence::ACCEPT) && wants_events(session);
    let lasting = ctx.websocket || ctx.streaming || events();
    if !lasting {
        return None;
    }
    let (held, cord) = ctx.gateway.endpoints.sessions.hold(ctx.who.session());
    let (to_client, from_client) = (FrameCursor::default(), FrameCursor::default());
    let (socket, upgraded) = (Arc::new(AtomicI32::new(-1)), Arc::<AtomicBool>::default());
    ctx.live = Some(Box::new(Live {
        held,
        socket: Arc::clone(&socket),
        upgraded: Arc::clone(&upgraded),
        form: Form::Body,
        to_client,
        from_client,
    }));
    let timeouts = WebSocketTimeouts { handshake: ctx.timeout(), silence: ctx.gateway.server().websocket_idle_timeout };
    Some(Severable { cord, websocket: ctx.websocket.then_some(timeouts), socket, upgraded })
}

/// What every `EventSource` says.
fn wants_events(session: &Downstream) -> bool {
    let events = |kind: &[u8]| kind.get(..EVENT_STREAM.len()).is_some_and(|it| it.eq_ignore_ascii_case(EVENT_STREAM));
    members(&session.req_header().headers, &ACCEPT).any(events)
}

/// The service has begun to answer.
pub(in crate::proxy) fn answered(response: &ResponseHeader, ctx: &mut RequestContext) {
    let Some(live) = &mut ctx.live else { return };
    if ctx.websocket && response.status == 101 {
        live.form = Form::WebSocket;
        live.upgraded.store(true, Ordering::Relaxed);
    } else if is_event_stream(&response.headers) {
        live.form = Form::Events;
    } else {
        return;
    }
    live.held.never_ends();
}

/// Bytes on their way to the client.
pub(in crate::proxy) fn to_client(body: Option<&Bytes>, ctx: &mut RequestContext) {
    if let (Some(live), Some(bytes)) = (&mut ctx.live, body)
        && live.form == Form::WebSocket
    {
        live.to_client.pass(bytes);
    }
}

/// Bytes that came from the client.
pub(in crate::proxy) fn from_client(body: Option<&Bytes>, ctx: &mut RequestContext) {
    if let (Some(live), Some(bytes)) = (&mut ctx.live, body)
        && live.form == Form::WebSocket
    {
        live.from_client.pass(bytes);
    }
}

/// Ends an answer that has begun: an event stream by its regular end (RFC 9112 §7.1, RFC 9113 §8.1), a
/// `WebSocket` by `Close` (RFC 6455 §5.5.1) where a frame may be said, anything else by closing early, as
/// an answer that is not whole must look.
pub(in crate::proxy) async fn bid_farewell(
    session: &mut Downstream,
    ctx: &mut RequestContext,
    end_reason: EndReason,
) -> FailToProxy {
    session.set_keepalive(None);
    tracing::debug!(correlation_id = &*ctx.correlation_id, ?end_reason, "a live connection is ended");
    if let Some(live) = &mut ctx.live {
        match live.form {
            Form::Body => {}
            Form::Events => drop(session.write_response_body(None, true).await),
            Form::WebSocket => close_websocket(session, live, end_reason).await,
        }
    }
    FailToProxy { error_code: 0, can_reuse_downstream: false }
}

async fn close_websocket(session: &mut Downstream, live: &mut Live, end_reason: EndReason) {
    if !live.to_client.between_frames() || live.to_client.closed() {
        return;
    }
    let (code, reason) = close_code(end_reason);
    let frame = Bytes::from(close_frame(code, reason));
    let said = tokio::time::timeout(FAREWELL, session.write_response_body(Some(frame), false)).await;
    if !matches!(said, Ok(Ok(()))) {
        return;
    }
    // §7.1.1: the client answers; what it sent before that is nobody's any more.
    let answer = async {
        while !live.from_client.closed() {
            let Ok(Some(bytes)) = session.read_request_body().await else { return };
            live.from_client.pass(&bytes);
        }
    };
    let _ = tokio::time::timeout(FAREWELL, answer).await;
}

/// What to tell a client whose answer had not begun.
pub(in crate::proxy) fn refusal(ctx: &RequestContext) -> Option<ProxyError> {
    match ctx.live.as_ref()?.end_reason()? {
        EndReason::SessionOver => Some(ProxyError::NotAuthenticated),
        EndReason::Silent => Some(ProxyError::UpstreamTimeout(ctx.timeout())),
        // Not reached: `GoingAway` is said only to answers that have begun.
        EndReason::GoingAway => Some(ProxyError::Internal),
    }
}
