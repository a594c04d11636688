//! Forward: the request as the service sees it. Runs after the engine has removed hop-by-hop fields,
//! so nothing the client names in `Connection` can remove what is set here.

use std::io::Write as _;
use std::net::IpAddr;

use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HOST, MAX_FORWARDS, VIA};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Version};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr};

use super::delegation;
use crate::proxy::context::RequestContext;
use crate::proxy::decide::abort;
use crate::proxy::forwarded::{Told, believed, client};
use crate::proxy::gateway::Gateway;
use crate::proxy::headers::{
    API_KEY, Authorization, CORRELATION_ID, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, ORIGINAL_USER, Presence,
    scrub, take_parts,
};
use crate::proxy::trace::{TRACEPARENT, TRACESTATE, traceparent};
use crate::proxy::{Downstream, downstream};
use crate::reply::ProxyError;
use crate::session::Cut;

type Fallible = pingora::Result<()>;

/// As many fields as are set here at most: the map grows once.
const OURS: usize = 10;

/// Rewrites `request` for the route's service.
pub(in crate::proxy) fn forward(
    session: &Downstream,
    ctx: &mut RequestContext,
    request: &mut RequestHeader,
) -> Fallible {
    delegation::connected(ctx)?;
    let Some(upstream) = &ctx.upstream else { return Err(abort(ctx, ProxyError::NoRoute)) };
    let gateway = &*ctx.gateway;
    let client = Client::of(gateway, session, &request.headers);
    let presence = ctx.presence;
    let trace = traceparent(presence.may_have(Presence::TRACEPARENT).then_some(&request.headers));
    let ends = request.send_end_stream();
    let mut parts = take_parts(request);
    let headers = &mut parts.headers;
    scrub(headers, if ctx.keeps_authorization { Authorization::Pass } else { Authorization::Remove });
    if presence.may_have(Presence::COOKIE) {
        cut_cookies(gateway, headers);
    }
    if presence.may_have(Presence::CONNECTION) && !ctx.websocket {
        // Where it names no field, the engine was not asked to take it away (`ends_here`).
        headers.remove(CONNECTION);
    }

    headers.try_reserve(OURS).or_err(ErrorType::InternalError, "too many fields")?;
    if let Some(arn) = ctx.who.original_user() {
        headers.insert(&ORIGINAL_USER, arn);
    }
    if let Some(bearer) = &ctx.bearer {
        headers.insert(AUTHORIZATION, bearer.0.clone());
    }
    if let Some(key) = ctx.legacy.as_ref().and_then(|call| call.service.api_key.as_ref()) {
        let mut value = HeaderValue::from_str(key.expose()).or_err(ErrorType::InternalError, "empowerid_api_key")?;
        value.set_sensitive(true);
        headers.insert(&API_KEY, value);
    }
    headers.insert(HOST, upstream.authority.clone());
    headers.insert(&CORRELATION_ID, ctx.correlation_id.value());
    if let Some((trace, new)) = trace {
        headers.insert(&TRACEPARENT, trace);
        if new && presence.may_have(Presence::TRACESTATE) {
            headers.remove(&TRACESTATE);
        }
    }
    client.announce(headers);
    if parts.method == Method::OPTIONS {
        count_down(headers);
    }
    if parts.method == Method::HEAD {
        // A service that sends a body all the same (RFC 9110 §9.3.2) would have it read as the next one's answer.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers.append(VIA, HeaderValue::from_static(via(session.req_header().version)));

    // What it is made of was read before: the engine would ask first which of the forms of a target it has.
    let target = PathAndQuery::try_from(&*ctx.hop.target).or_err(ErrorType::InvalidHTTPHeader, "no path")?;
    parts.uri = target.into();
    *request = RequestHeader::from(parts);
    if let Some(ends) = ends {
        request.set_send_end_stream(ends);
    }
    Ok(())
}

/// Scheme and authority that a service is told the client used.
pub(in crate::proxy) fn client_origin(gateway: &Gateway, session: &Downstream) -> Box<str> {
    let client = Client::of(gateway, session, &session.req_header().headers);
    let (proto, host) = (client.proto(), client.host());
    let host = String::from_utf8_lossy(host.as_ref().map_or(&b""[..], HeaderValue::as_bytes));
    [proto.to_str().unwrap_or_default(), "://", &host].concat().into()
}

/// Who asks: the peer, or whom trusted proxies in front of us name.
pub(in crate::proxy) fn client_address(gateway: &Gateway, session: &Downstream) -> Option<IpAddr> {
    let peer = downstream::client_ip(session)?;
    Some(client(peer, &gateway.server().trusted_proxies, &session.req_header().headers))
}

/// RFC 9110 §7.6.2. Zero was answered here.
fn count_down(headers: &mut HeaderMap) {
    let left = headers.get(MAX_FORWARDS).and_then(|left| left.to_str().ok()?.trim().parse::<u32>().ok());
    if let Some(left) = left {
        headers.insert(MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
}

fn cut_cookies(gateway: &Gateway, headers: &mut HeaderMap) {
    match gateway.endpoints.cookies.cut(headers) {
        Cut::Unchanged => {}
        Cut::Removed => {
            headers.remove(COOKIE);
        }
        Cut::Replaced(rest) => {
            headers.insert(COOKIE, rest);
        }
    }
}

fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2.0 pingora-bff",
        Version::HTTP_10 => "1.0 pingora-bff",
        _ => "1.1 pingora-bff",
    }
}

/// An address as text. A formatter costs several times as much.
fn written(address: IpAddr) -> Option<HeaderValue> {
    let IpAddr::V4(address) = address else { return HeaderValue::try_from(address.to_string()).ok() };
    let mut text = [0; "255.255.255.255".len()];
    let mut left = text.as_mut_slice();
    for (place, octet) in address.octets().into_iter().enumerate() {
        left.write_all(if place == 0 { b"" } else { b"." }).ok()?;
        left.write_all(itoa::Buffer::new().format(octet).as_bytes()).ok()?;
    }
    let over = left.len();
    HeaderValue::from_bytes(text.get(..text.len() - over)?).ok()
}

/// What the service is told about the client's end: what a trusted proxy in front says of it, else what is seen here.
struct Client<'a> {
    session: &'a Downstream,
    address: Option<IpAddr>,
    told: Told,
}

impl<'a> Client<'a> {
    fn of(gateway: &Gateway, session: &'a Downstream, headers: &HeaderMap) -> Self {
        let address = downstream::client_ip(session);
        let told = address.map(|address| believed(address, &gateway.server().trusted_proxies, headers));
        Self { session, address, told: told.unwrap_or_default() }
    }

    fn forwarded_for(&self) -> Option<HeaderValue> {
        let address = self.address?;
        match &self.told.chain {
            Some(chain) => HeaderValue::try_from(format!("{chain}, {address}")).ok(),
            None => written(address),
        }
    }

    fn proto(&self) -> HeaderValue {
        let own = if downstream::is_tls(self.session) { "https" } else { "http" };
        value(self.told.proto.as_deref()).unwrap_or_else(|| HeaderValue::from_static(own))
    }

    fn host(&self) -> Option<HeaderValue> {
        value(self.told.host.as_deref()).or_else(|| downstream::authority(self.session))
    }

    fn announce(&self, headers: &mut HeaderMap) {
        if let Some(addresses) = self.forwarded_for() {
            headers.insert(&FORWARDED_FOR, addresses);
        }
        headers.insert(&FORWARDED_PROTO, self.proto());
        if let Some(host) = self.host() {
            headers.insert(&FORWARDED_HOST, host);
        }
    }
}

/// What a proxy in front said, where a field can say it.
fn value(told: Option<&str>) -> Option<HeaderValue> {
    HeaderValue::from_str(told?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_is_printed() {
        for address in ["0.0.0.0", "127.0.0.1", "10.20.30.40", "255.255.255.255", "100.99.9.10", "2001:db8::1", "::"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(written(address).unwrap(), address.to_string());
        }
    }
}
