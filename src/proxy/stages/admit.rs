//! Admit: what cannot be read in one way only is refused before anything is decided on it, and so
//! is what there is no connection or memory for. Sets the timeouts of the client's connection, the correlation id and
//! where a login would start from here.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Version};

use crate::endpoints::{Endpoint, return_to};
use crate::proxy::context::RequestContext;
use crate::proxy::correlation::CorrelationId;
use crate::proxy::gateway::Gateway;
use crate::proxy::headers::Presence;
use crate::proxy::wire::{
    FIELDS, MISSPELT, ONE_CODING, ONE_HOST, ONE_LENGTH, REQUEST_LINE, after_scheme, is_misspelt, valid_authority,
};
use crate::proxy::{Downstream, downstream, headers};
use crate::reply::{ProxyError, login_url};
use crate::routing::CanonicalPath;

/// Requests under way that are no crowd: they cannot be what takes the memory, or the files.
const FEW: i64 = 16;

/// The only spelling of the path that anybody further on sees; `None`: it asks about us all (RFC 9110 §9.3.7).
pub(in crate::proxy) fn admit(
    gateway: &Gateway,
    session: &mut Downstream,
    ctx: &mut RequestContext,
) -> Result<Option<CanonicalPath>, ProxyError> {
    downstream::set_timeouts(gateway, session);
    headers::forget_spelling(session.req_header_mut());
    spare_old_clients(session);
    let request = session.req_header();
    if ctx.presence.may_have(Presence::CORRELATION_ID) {
        ctx.correlation_id = CorrelationId::of(&request.headers);
    } else {
        ctx.correlation_id = CorrelationId::fresh();
    }
    ctx.navigation = ctx.presence.may_have(Presence::FETCH_MODE) && downstream::is_navigation(request);
    require_bounded(session)?;
    require_one_host(session)?;
    require_plain_fields(session)?;
    if ctx.presence.may_have(Presence::TRANSFER_ENCODING) {
        require_plain_chunks(session)?;
    }
    tell_no_body(session);

    let target = request_target(session)?;
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => {
            let (path, query) = target.split_at_checked(mark).unwrap_or((&*target, b""));
            (path, Some(query))
        }
        None => (&*target, None),
    };
    if path == b"*" && query.is_none() && session.req_header().method == Method::OPTIONS {
        return require_room(gateway, session, ctx).map(|()| None);
    }
    let path = CanonicalPath::parse(path).map_err(|refusal| ProxyError::BadRequest(refusal.to_string()))?;
    if !Endpoint::at(path.as_str()).is_some_and(Endpoint::is_health) {
        require_room(gateway, session, ctx)?;
    }
    let query = match query {
        Some(query) => std::str::from_utf8(query)
            .ok()
            .filter(|query| query.bytes().all(|byte| byte > b' ' && byte != 0x7f && byte != b'#'))
            .ok_or_else(|| ProxyError::BadRequest("the query contains bytes that no URI may carry".to_owned()))?,
        None => "",
    };
    // What the login would not heed only makes a redirect that servers in front find too large.
    if ctx.navigation && path.as_str().len() + query.len() <= return_to::MOST {
        ctx.login_url = login_url(&format!("{}{query}", path.as_str())).into();
    }
    query.clone_into(&mut ctx.hop.target);
    Ok(Some(path))
}

/// A stream that ends with its head has no body, which HTTP/1.1 says in a field (RFC 9110 §8.6): there are services
/// that refuse a POST without.
fn tell_no_body(session: &mut Downstream) {
    let request = session.req_header();
    let with_content = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    if with_content
        && session.is_http2()
        && !request.headers.contains_key(CONTENT_LENGTH)
        && session.as_downstream_mut().is_body_empty()
    {
        let _one_of_few = session.req_header_mut().insert_header(CONTENT_LENGTH, 0);
    }
}

/// HTTP/1.0 knows no interim answer (RFC 9110 §15.2), and asks for none (§10.1.1).
fn spare_old_clients(session: &mut Downstream) {
    if session.req_header().version == Version::HTTP_10 {
        session.as_downstream_mut().set_ignore_info_resp(true);
        session.req_header_mut().remove_header(&EXPECT);
    }
}

/// A place for its connection, memory, and a file at the service; with too little of those, for a few at once.
fn require_room(gateway: &Gateway, session: &Downstream, ctx: &RequestContext) -> Result<(), ProxyError> {
    if downstream::is_beyond(session) {
        return Err(ProxyError::TooManyConnections);
    }
    let (requests, clients) = (gateway.metrics.http_in_flight.get(), gateway.metrics.client_connections.get());
    if requests <= FEW {
        return Ok(());
    }
    if usize::try_from(clients + requests).is_ok_and(|files| files > gateway.files) {
        tracing::warn!(correlation_id = &*ctx.correlation_id, clients, requests, "NOTHING_LEFT");
        return Err(ProxyError::NoFilesOrPorts);
    }
    if gateway.memory.is_short() { Err(ProxyError::ShortOfMemory) } else { Ok(()) }
}

/// The bounds that the door holds on HTTP/1; on HTTP/2 the engine bounds the bytes of all fields.
fn require_bounded(session: &mut Downstream) -> Result<(), ProxyError> {
    let request = session.req_header_mut();
    if request.raw_path().len() > REQUEST_LINE {
        return Err(ProxyError::TargetTooLong);
    }
    if request.headers.len() > FIELDS {
        headers::join_crumbs(request);
    }
    if request.headers.len() > FIELDS { Err(ProxyError::HeaderTooLarge) } else { Ok(()) }
}

/// RFC 9112 §3.2: an HTTP/1.1 request has exactly one `Host`.
fn require_one_host(session: &Downstream) -> Result<(), ProxyError> {
    let request = session.req_header();
    let hosts = request.headers.get_all(HOST).iter().count();
    let missing = hosts == 0 && request.version == Version::HTTP_11 && !session.is_http2();
    if hosts > 1 || missing {
        return Err(ProxyError::BadRequest(ONE_HOST.to_owned()));
    }
    Ok(())
}

/// What the door holds against a request on HTTP/1: on HTTP/2 nobody has, and the service may read HTTP/1.
fn require_plain_fields(session: &Downstream) -> Result<(), ProxyError> {
    if !session.is_http2() {
        return Ok(());
    }
    let refused = |why: &str| Err(ProxyError::BadRequest(why.to_owned()));
    let headers = &session.req_header().headers;
    // RFC 9113 §8.2.1: a value with blanks around it is malformed. On HTTP/1 they are no part of it.
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let padded = |value: &HeaderValue| blank(value.as_bytes().first()) || blank(value.as_bytes().last());
    if headers.values().any(padded) {
        return refused("a header value begins or ends with a blank");
    }
    // The same number twice is read by some as a list, by some as an error.
    if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return refused(ONE_LENGTH);
    }
    if headers.keys().any(|name| is_misspelt(name.as_str().as_bytes())) {
        return refused(MISSPELT);
    }
    // Of which HTTP/1 has only what the connection says; services may build addresses of it.
    let known = |scheme: &str| ["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
    if session.req_header().uri.scheme_str().is_some_and(|scheme| !known(scheme)) {
        return refused("the scheme is neither http nor https");
    }
    match downstream::authority(session) {
        Some(host) if !valid_authority(host.as_bytes()) => {
            refused("the authority is not a host name with at most one port")
        }
        _ => Ok(()),
    }
}

/// RFC 9112 §6.1: a body coded otherwise would be forwarded as if it were plain, for the engine takes
/// the other codings' names away.
fn require_plain_chunks(session: &Downstream) -> Result<(), ProxyError> {
    let mut codings = session.req_header().headers.get_all(TRANSFER_ENCODING).iter();
    let plain = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if plain && codings.next().is_none() {
        return Ok(());
    }
    Err(ProxyError::BadRequest(ONE_CODING.to_owned()))
}

/// Path and query as sent. The engine drops a fragment and folds absolute-form, so on HTTP/1 the
/// request line itself is read: nothing may be decided on less than what was sent.
fn request_target(session: &Downstream) -> Result<Bytes, ProxyError> {
    if session.as_http1().is_none() {
        return Ok(Bytes::copy_from_slice(session.req_header().raw_path()));
    }
    let raw = session.as_downstream().to_h1_raw();
    let mut words = raw.split(|byte| matches!(byte, b' ' | b'\r' | b'\n')).filter(|word| !word.is_empty());
    let target = words.nth(1).unwrap_or_default();
    if target.contains(&b'#') {
        return Err(ProxyError::BadRequest("the request target contains a fragment".to_owned()));
    }
    if target.first() == Some(&b'/') {
        return Ok(raw.slice_ref(target));
    }
    Ok(origin_form(target).map_or_else(|| raw.slice_ref(target), Bytes::from))
}

/// Absolute-form (RFC 9112 §3.2.2) without scheme and authority; the engine has checked the authority
/// against Host. It ends at the first of `/` and `?` (RFC 3986 §3.2), so a path may be missing.
fn origin_form(target: &[u8]) -> Option<Vec<u8>> {
    let after = after_scheme(target)?;
    let end = after.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(after.len());
    let (_authority, rest) = after.split_at_checked(end)?;
    let slash: &[u8] = if rest.first() == Some(&b'/') { b"" } else { b"/" };
    Some([slash, rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_form_loses_its_authority_and_nothing_else() {
        let path = |target: &str| origin_form(target.as_bytes()).map(|path| String::from_utf8(path).unwrap());
        for (target, left) in [
            ("http://h/a/b?c=/d", "/a/b?c=/d"),
            ("https://h:8443/", "/"),
            ("HTTP://h/a", "/a"),
            ("http://h", "/"),
            ("http://h?x=/api/secret", "/?x=/api/secret"),
            ("http://h//a", "//a"),
        ] {
            assert_eq!(path(target).as_deref(), Some(left), "{target}");
        }
        for other in ["*", "h:443", "ftp://h/a", "http:/a", ""] {
            assert_eq!(path(other), None, "{other}");
        }
    }
}
