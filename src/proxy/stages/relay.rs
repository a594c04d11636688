//! Relay: the service's answer on its way back.

use http::header::{
    ACCESS_CONTROL_EXPOSE_HEADERS, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, HeaderName, HeaderValue, SET_COOKIE,
    TE, TRANSFER_ENCODING, UPGRADE, VARY,
};
use http::{Method, StatusCode, Version};
use pingora::http::ResponseHeader;

use super::origin::{EXPOSED, cors_headers};
use crate::legacy::cache::{CDN_CACHE_CONTROL, Directives, Scope, cache_control, is_event_stream};
use crate::list_fields::{members, nominated};
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::decide::abort;
use crate::proxy::headers::{CORRELATION_ID, KEEP_ALIVE, ORIGINAL_USER, PROXY_CONNECTION, forget_answer_spelling};
use crate::reply::ProxyError;
use crate::upstream::{bound_unread, waits_for_client};

/// An answer beyond this may take much memory.
const LARGE: u64 = 128 * 1024;
/// An answer beyond this may leave more with the kernel, while its client reads nothing, than the bound for that.
const HELD_ANYWAY: u64 = 1024 * 1024;

/// What every answer gets, ours or a service's.
pub(in crate::proxy) fn add_response_headers(
    response: &mut ResponseHeader,
    ctx: &RequestContext,
) -> pingora::Result<()> {
    let id = ctx.correlation_id.value();
    let mut told = response.headers.get_all(&CORRELATION_ID).iter();
    if told.next() != Some(&id) || told.next().is_some() {
        response.insert_header(&CORRELATION_ID, id)?;
    }
    if let Some((policy, standing)) = &ctx.quota {
        response.insert_header("RateLimit-Policy", policy)?;
        response.insert_header("RateLimit", standing)?;
    }
    if ctx.who.session().is_some() {
        keep_readers_ours(response);
        // The façade tells what it stores as it was told, and its own cache knows for whom that is.
        if ctx.legacy.is_none() && !response.status.is_informational() {
            keep_for_one(response)?;
        }
    }
    if let Some(origin) = &ctx.cors_origin {
        for (name, value) in cors_headers(origin) {
            response.insert_header(name, value)?;
        }
        // A list, to which a service may have said its part.
        response.append_header(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED))?;
    }
    if !ctx.gateway.origins.allowed.is_empty() {
        vary_by_origin(response)?;
    }
    Ok(())
}

/// Where a session answers, the proxy alone says which origins may read it: a service that echoes any origin would open
/// the session to all of them. Whoever had the answer stored.
fn keep_readers_ours(response: &mut ResponseHeader) {
    let theirs = |name: &&HeaderName| name.as_str().starts_with("access-control-");
    // Most services say nothing about it.
    if response.headers.keys().any(|name| theirs(&name)) {
        let names: Vec<HeaderName> = response.headers.keys().filter(theirs).cloned().collect();
        for name in &names {
            response.remove_header(name);
        }
    }
}

/// RFC 9111 §3.5: no shared cache gives anybody else the answer to a request with `Authorization`, unless it says so; a service
/// may rely on that. A cache before us sees a cookie instead, which it does not heed, and has to be told.
fn keep_for_one(response: &mut ResponseHeader) -> pingora::Result<()> {
    // A cache for which it is does not read the other field.
    if response.headers.contains_key(&CDN_CACHE_CONTROL) {
        let told = Directives::targeted(&response.headers).is_some_and(|told| {
            let unstored = told.no_store && !told.must_understand;
            told.private == Scope::Whole || unstored || told.public || told.s_maxage.is_some()
        });
        if !told || differs_by_identity(response) {
            response.remove_header(&CDN_CACHE_CONTROL);
        }
    }
    if is_for_one(response) {
        response.append_header(CACHE_CONTROL, HeaderValue::from_static("private"))?;
    }
    Ok(())
}

/// Whether `Cache-Control` leaves it to `Authorization` whose the answer is.
fn is_for_one(response: &ResponseHeader) -> bool {
    let (mut for_all, mut unstored, mut understood) = (false, false, false);
    for (name, argument) in cache_control(&response.headers) {
        match (&*name, argument) {
            ("private", None) => return false,
            ("no-store", _) => unstored = true,
            // RFC 9111 §5.2.2.3: who knows this one and the status may store it in spite of `no-store`.
            ("must-understand", _) => understood = true,
            ("public" | "s-maxage", _) => for_all = true,
            _ => {}
        }
    }
    if unstored && !understood {
        return false;
    }
    !for_all || differs_by_identity(response)
}

/// By fields that we send: by none that a cache before us sees.
fn differs_by_identity(response: &ResponseHeader) -> bool {
    let ours = [AUTHORIZATION.as_str(), ORIGINAL_USER.as_str()];
    members(&response.headers, &VARY).any(|name| ours.iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes())))
}

/// Fetch, "CORS protocol and HTTP caches": told also where no listed origin asks, or a cache would give a listed one
/// this answer without the headers it needs.
fn vary_by_origin(response: &mut ResponseHeader) -> pingora::Result<()> {
    if !members(&response.headers, &VARY).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin")) {
        response.append_header(VARY, HeaderValue::from_static("Origin"))?;
    }
    Ok(())
}

/// Whether the connection goes on behind this answer. RFC 9112 §6.1: HTTP/1.0 knows no chunks, which the engine would
/// send; a body whose length nobody told ends with the connection there (§6.3).
pub(in crate::proxy) fn settle_connection(
    session: &mut Downstream,
    response: &mut ResponseHeader,
    ctx: &RequestContext,
) {
    let old = session.req_header().version == Version::HTTP_10;
    let endless = old && response.remove_header(&TRANSFER_ENCODING).is_some();
    if endless || (!response.status.is_informational() && ctx.gateway.is_leaving()) {
        session.set_keepalive(None);
    }
}

/// A service's answer becomes ours to tell.
pub(in crate::proxy) fn take_over(
    session: &Downstream,
    response: &mut ResponseHeader,
    ctx: &mut RequestContext,
) -> pingora::Result<()> {
    if !response.status.is_informational() {
        // What may be stored is given an id each time it is told.
        forget_answer_spelling(response, |fields| {
            if !session.cache.enabled() {
                fields.insert(&CORRELATION_ID, ctx.correlation_id.value());
            }
        })?;
    }
    let told = Told::by(response);
    let length = settle_length(response, &told).and_then(|length| end_hop(response, &told, ctx).map(|()| length));
    let length = length.map_err(|error| abort(ctx, error).into_up())?;
    if response.version == Version::HTTP_10 {
        // RFC 9112 §2.3: an answer has the version of who tells it.
        response.set_version(Version::HTTP_11);
    }
    let bodiless = session.req_header().method == Method::HEAD || response.status == StatusCode::NOT_MODIFIED;
    if !bodiless {
        hold_memory(session, response, length, ctx).map_err(|error| abort(ctx, error))?;
    }
    if told.cookies {
        keep_cookies_ours(response, ctx)?;
    }
    received(response, ctx);
    Ok(())
}

/// Whether the engine may hold much of it, for a client that does not take it. An event stream is small at any time.
fn is_large(response: &ResponseHeader, length: Option<u64>) -> bool {
    length.map_or_else(|| !is_event_stream(&response.headers), |length| length > LARGE)
}

/// More large answers than memory has room for are refused, where the client may well ask again; and of no answer does
/// much stay with the kernel.
fn hold_memory(
    session: &Downstream,
    response: &ResponseHeader,
    length: Option<u64>,
    ctx: &mut RequestContext,
) -> Result<(), ProxyError> {
    let memory = &ctx.gateway.memory;
    if is_large(response, length) {
        if memory.is_spoken_for() && session.req_header().method.is_safe() {
            return Err(ProxyError::ShortOfMemory);
        }
        ctx.large = Some(memory.hold());
    }
    let bounded = memory.counts_sockets();
    if let Some(socket) = ctx.hop.socket.filter(|_| !bounded && length.is_none_or(|length| length > HELD_ANYWAY)) {
        bound_unread(socket);
    }
    Ok(())
}

/// No service sets our cookies: one that could would choose whose session the browser goes on with.
fn keep_cookies_ours(response: &mut ResponseHeader, ctx: &RequestContext) -> pingora::Result<()> {
    let ours = |field: &HeaderValue| ctx.gateway.endpoints.cookies.would_be_ours(field.as_bytes());
    let fields = response.headers.get_all(SET_COOKIE);
    if !fields.iter().any(ours) {
        return Ok(());
    }
    let others: Vec<HeaderValue> = fields.iter().filter(|field| !ours(field)).cloned().collect();
    response.remove_header(&SET_COOKIE);
    others.into_iter().try_for_each(|field| response.append_header(SET_COOKIE, field).map(drop))
}

/// Of what a service may tell beside its answer, what it does tell: one walk says so, where each field would be looked
/// for by itself.
#[derive(Default)]
struct Told {
    /// `Transfer-Encoding`.
    coding: bool,
    cookies: bool,
    /// Fields of one hop, or more than `Connection: keep-alive`.
    hop: bool,
}

impl Told {
    fn by(response: &ResponseHeader) -> Self {
        let mut told = Self::default();
        for (name, value) in &response.headers {
            match name.as_str() {
                "transfer-encoding" => told.coding = true,
                "set-cookie" => told.cookies = true,
                "connection" => told.hop |= !value.as_bytes().eq_ignore_ascii_case(b"keep-alive"),
                "keep-alive" | "proxy-connection" | "te" | "upgrade" => told.hop = true,
                _ => {}
            }
        }
        told
    }
}

/// The body's length is told once and in one way, whatever the service wrote (RFC 9110 §8.6, RFC 9112 §6.1): the engine
/// reads it generously and passes it on, and a client may read it otherwise. `None`: nobody knows.
fn settle_length(response: &mut ResponseHeader, told: &Told) -> Result<Option<u64>, ProxyError> {
    if response.status.is_informational() || response.status == StatusCode::NO_CONTENT {
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            response.remove_header(&name);
        }
        return Ok(Some(0));
    }
    let refused = |why: &str| Err(ProxyError::UpstreamError(format!("the service's answer has {why}")));
    if response.version == Version::HTTP_10 && told.coding {
        // §6.1: whoever wrote it, or passed it on, did not know what it means.
        return refused("a transfer coding, which HTTP/1.0 does not know");
    }
    if told.coding {
        let mut codings = response.headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
        let chunked = codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        if !chunked || codings.next().is_some() {
            // `identity`, too: the engine forgets the length told beside it, and takes what came of the body for all.
            return refused("a transfer coding that nobody asked for");
        }
    }
    let mut lengths = members(&response.headers, &CONTENT_LENGTH);
    let Some(length) = lengths.next() else { return Ok(None) };
    let number = str::from_utf8(length).ok().and_then(|length| length.parse().ok());
    let mut repeated = false;
    for other in lengths {
        if other != length {
            return refused("two lengths");
        }
        repeated = true;
    }
    if repeated {
        let once = HeaderValue::from_bytes(length).map_err(|_bytes| ProxyError::Internal)?;
        response.insert_header(CONTENT_LENGTH, once).map_err(|_name| ProxyError::Internal)?;
    }
    Ok(number.filter(|_| !told.coding))
}

/// Fields for this hop alone (RFC 9110 §7.6.1), those that the service nominates among them; and a protocol
/// that nobody asked for.
fn end_hop(response: &mut ResponseHeader, told: &Told, ctx: &RequestContext) -> Result<(), ProxyError> {
    let switches = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if switches && !(ctx.websocket && response.version == Version::HTTP_11) {
        let unasked = "the service switched to another protocol, which nobody had asked for";
        return Err(ProxyError::UpstreamError(unasked.to_owned()));
    }
    // Most services have none, and nominate nothing.
    if !told.hop {
        return Ok(());
    }
    let nominated = nominated(&response.headers);
    let names = [&KEEP_ALIVE, &PROXY_CONNECTION, &TE, &UPGRADE];
    // §7.8: there it is what the answer is about.
    let about_upgrade = switches || response.status == StatusCode::UPGRADE_REQUIRED;
    for name in nominated.iter().chain(names).filter(|name| !(about_upgrade && **name == UPGRADE)) {
        response.remove_header(name);
    }
    Ok(())
}

/// Takes note of the service's answer.
fn received(response: &ResponseHeader, ctx: &mut RequestContext) {
    if !response.status.is_informational() {
        ctx.hop.status = Some(response.status.as_u16());
    }
}

/// The time of a whole answer that does not stream, looked at with each piece where no deadline holds till its end. A
/// client that takes it slowly is timed at the door, and is no fault of the service.
pub(in crate::proxy) fn within(session: &Downstream, ctx: &RequestContext) -> Result<(), ProxyError> {
    let unbounded = ctx.hop.timed || ctx.streaming || session.was_upgraded();
    let (Some(asked), Some(upstream)) = (ctx.hop.asked.filter(|_| !unbounded), &ctx.upstream) else { return Ok(()) };
    if asked.elapsed() <= upstream.timeout || ctx.hop.socket.is_some_and(waits_for_client) {
        return Ok(());
    }
    Err(ProxyError::UpstreamTimeout(upstream.timeout))
}
