//! Upgrade: whether the client may stop speaking HTTP, and in what.

use http::Method;
use http::header::{CONNECTION, HeaderName, UPGRADE};

use crate::list_fields::members;
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::headers::Presence;
use crate::reply::ProxyError;

/// A connection that stops speaking HTTP escapes every other limit: only where a route asks for it.
pub(in crate::proxy) fn upgrade(
    session: &mut Downstream,
    ctx: &RequestContext,
    websocket_route: bool,
) -> Result<bool, ProxyError> {
    if !ctx.presence.may_have(Presence::UPGRADE) || !session.is_upgrade_req() {
        return Ok(false);
    }
    let request = session.req_header();
    let names = |field: HeaderName, word: &[u8]| {
        members(&request.headers, &field).any(|member| member.eq_ignore_ascii_case(word))
    };
    // RFC 6455 §4.1: a handshake is a GET that says so twice.
    let shakes = request.method == Method::GET && names(CONNECTION, b"upgrade");
    if !(shakes && names(UPGRADE, b"websocket")) {
        // RFC 9110 §7.8: the offer may be ignored. `h2c` must be: a service that took it would let the
        // client speak to it directly, with whatever identity it likes.
        session.req_header_mut().remove_header(&UPGRADE);
        return Ok(false);
    }
    if !websocket_route {
        return Err(ProxyError::BadRequest(
            "this path takes no protocol upgrade; a route for WebSockets says `websocket: true`".to_owned(),
        ));
    }
    // Nothing else that was on offer beside it.
    session.req_header_mut().insert_header(UPGRADE, "websocket").map_err(|_name| ProxyError::Internal)?;
    // A WebSocket may be silent for as long as its ends like.
    session.set_read_timeout(None);
    Ok(true)
}
