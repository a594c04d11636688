//! Forward: the request as the service sees it. Runs after the engine has removed hop-by-hop fields,
//! so nothing the client names in `Connection` can remove what is set here.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, COOKIE, HOST, VIA};
use http::{HeaderValue, Version};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr};

use crate::proxy::context::RequestContext;
use crate::proxy::forwarded::{Told, client, told};
use crate::proxy::gateway::Gateway;
use crate::proxy::headers::{Authorization, TRACEPARENT, scrub, traceparent};
use crate::proxy::{Downstream, downstream};
use crate::session::Cut;
use crate::upstream::Upstream;

type Fallible = pingora::Result<()>;

/// Rewrites `request` for the route's service.
pub(in crate::proxy) fn forward(
    gateway: &Gateway,
    session: &Downstream,
    ctx: &RequestContext,
    upstream: &Upstream,
    request: &mut RequestHeader,
) -> Fallible {
    let client = Client::of(gateway, session, request);
    let trace = traceparent(request.headers.get(&TRACEPARENT));
    scrub(request, if ctx.keeps_authorization { Authorization::Pass } else { Authorization::Remove });
    cut_cookies(gateway, request)?;

    request.set_raw_path(ctx.upstream_target.as_bytes())?;
    if let Some(arn) = ctx.who.original_user() {
        request.insert_header("X-Original-User", arn)?;
    }
    if let Some(bearer) = &ctx.bearer {
        request.insert_header(AUTHORIZATION, bearer.0.clone())?;
    }
    if let Some(key) = ctx.legacy.as_ref().and_then(|call| call.service.api_key.as_ref()) {
        let mut value = HeaderValue::from_str(key.expose()).or_err(ErrorType::InternalError, "empowerid_api_key")?;
        value.set_sensitive(true);
        request.insert_header("X-EmpowerID-Api-Key", value)?;
    }
    request.insert_header(HOST, upstream.authority.clone())?;
    request.insert_header("X-Correlation-ID", ctx.correlation_id.as_str())?;
    request.insert_header("traceparent", trace)?;
    client.announce(request)?;
    request.append_header(VIA, via(session.req_header().version))?;
    Ok(())
}

/// Scheme and authority that a service is told the client used.
pub(in crate::proxy) fn client_origin(gateway: &Gateway, session: &Downstream) -> String {
    let client = Client::of(gateway, session, session.req_header());
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    format!("{}://{}", text(&client.proto), client.host.as_ref().map(text).unwrap_or_default())
}

/// Who asks: the peer, or whom trusted proxies in front of us name.
pub(in crate::proxy) fn client_address(gateway: &Gateway, session: &Downstream) -> Option<IpAddr> {
    let peer = downstream::client_ip(session)?;
    Some(client(peer, &gateway.trusted_proxies, &session.req_header().headers))
}

fn cut_cookies(gateway: &Gateway, request: &mut RequestHeader) -> Fallible {
    match gateway.endpoints.cookies.cut(&request.headers) {
        Cut::Unchanged => {}
        Cut::Removed => {
            request.remove_header(&COOKIE);
        }
        Cut::Replaced(rest) => {
            request.remove_header(&COOKIE);
            request.insert_header(COOKIE, rest)?;
        }
    }
    Ok(())
}

fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2.0 pingora-bff",
        Version::HTTP_10 => "1.0 pingora-bff",
        _ => "1.1 pingora-bff",
    }
}

/// What the service is told about the client's end. A trusted proxy in front is believed; from
/// anybody else these headers are ours alone.
struct Client {
    forwarded_for: Option<HeaderValue>,
    proto: HeaderValue,
    host: Option<HeaderValue>,
}

impl Client {
    fn of(gateway: &Gateway, session: &Downstream, request: &RequestHeader) -> Self {
        let address = downstream::client_ip(session);
        let trusted = address.is_some_and(|address| gateway.trusted_proxies.iter().any(|net| net.contains(&address)));
        let told = if trusted { told(&request.headers) } else { Told::default() };
        let value = |text: Option<String>| text.and_then(|text| HeaderValue::try_from(text).ok());
        let own_proto = if downstream::is_tls(session) { "https" } else { "http" };
        let forwarded_for = address.map(|address| match told.chain {
            Some(chain) => format!("{chain}, {address}"),
            None => address.to_string(),
        });
        Self {
            forwarded_for: value(forwarded_for),
            proto: value(told.proto).unwrap_or_else(|| HeaderValue::from_static(own_proto)),
            host: value(told.host).or_else(|| downstream::authority(session)),
        }
    }

    fn announce(self, request: &mut RequestHeader) -> Fallible {
        if let Some(addresses) = self.forwarded_for {
            request.insert_header("X-Forwarded-For", addresses)?;
        }
        request.insert_header("X-Forwarded-Proto", self.proto)?;
        if let Some(host) = self.host {
            request.insert_header("X-Forwarded-Host", host)?;
        }
        Ok(())
    }
}
