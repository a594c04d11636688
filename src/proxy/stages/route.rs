//! Route: one of our own endpoints, one route of the table, or a refusal.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ALLOW, MAX_FORWARDS};
use http::{HeaderValue, Method, StatusCode};

use crate::endpoints::Endpoint;
use crate::legacy::{Called, LegacyService};
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::gateway::{Destination, Gateway};
use crate::reply::{LOGIN, ProxyError, Reply};
use crate::routing::{CanonicalPath, Lookup, Methods, Route, join_base};

/// Whose request this is.
pub(in crate::proxy) enum Routed {
    Ours(Endpoint),
    Theirs(Arc<Route>, Arc<Destination>),
    /// A legacy service, listed or not.
    Legacy(Option<Arc<LegacyService>>),
}

/// Finds who answers, and what a service would be asked.
pub(in crate::proxy) fn route(
    gateway: &Gateway,
    session: &Downstream,
    ctx: &mut RequestContext,
    path: &CanonicalPath,
) -> Result<Routed, ProxyError> {
    if let Some(endpoint) = Endpoint::at(path.as_str()) {
        if let Some(meters) = gateway.own_meters.get(endpoint.name()) {
            ctx.meters = Arc::clone(meters);
        }
        // Nobody wants to come back to one of these after a login, and a redirect is no answer of theirs: behind
        // nginx's `auth_request` one of /auth/verify is an error.
        ctx.navigation = false;
        ctx.login_url = Cow::Borrowed(LOGIN);
        endpoint.require_method(&effective_method(session))?;
        return Ok(Routed::Ours(endpoint));
    }
    if let Some(called) = gateway.facade.called(path) {
        return Ok(Routed::Legacy(to_legacy(gateway, ctx, called)));
    }
    match gateway.routes.find(&effective_method(session), path) {
        Lookup::Found(route) => {
            let Some(destination) = gateway.destination(route) else { return Err(ProxyError::NoRoute) };
            let target = join_base(&destination.upstream.base_path, route.upstream_path(path));
            put_before_query(ctx, target);
            ctx.meters = Arc::clone(&destination.meters);
            ctx.service = Some(Arc::clone(&route.target_service));
            ctx.upstream = Some(Arc::clone(&destination.upstream));
            ctx.streaming = route.streaming;
            ctx.body_limit = route.max_body_size;
            ctx.keeps_authorization = destination.token.is_the_clients();
            Ok(Routed::Theirs(Arc::clone(route), Arc::clone(destination)))
        }
        Lookup::MethodNotAllowed { allow } => Err(ProxyError::MethodNotAllowed { allow }),
        Lookup::NotFound => Err(ProxyError::NoRoute),
    }
}

/// What `OPTIONS *` asks (RFC 9110 §9.3.7): no service's business.
pub(in crate::proxy) fn allow_reply() -> Reply {
    allowing(Methods::new(&[]).allowed())
}

/// RFC 9110 §7.6.2: an `OPTIONS` that may be handed on no further is answered here.
pub(in crate::proxy) fn last_stop(
    gateway: &Gateway,
    session: &Downstream,
    routed: &Routed,
    path: &CanonicalPath,
) -> Option<Reply> {
    max_forwards_is_zero(session).then(|| match routed {
        Routed::Theirs(..) => allowing(&gateway.routes.allowed(path)),
        Routed::Ours(_) | Routed::Legacy(_) => allow_reply(),
    })
}

fn allowing<'a>(methods: impl IntoIterator<Item = &'a Method>) -> Reply {
    let allow: Vec<_> = methods.into_iter().map(Method::as_str).collect();
    let mut reply = Reply::empty(StatusCode::NO_CONTENT);
    reply.headers.extend(HeaderValue::from_str(&allow.join(", ")).ok().map(|methods| (ALLOW, methods)));
    reply
}

fn max_forwards_is_zero(session: &Downstream) -> bool {
    let request = session.req_header();
    request.method == Method::OPTIONS
        && request
            .headers
            .get(MAX_FORWARDS)
            .is_some_and(|left| left.to_str().is_ok_and(|left| left.trim().parse() == Ok(0_u32)))
}

/// The query is there already.
fn put_before_query(ctx: &mut RequestContext, mut target: String) {
    target.push_str(&ctx.hop.target);
    ctx.hop.target = target;
}

fn to_legacy(gateway: &Gateway, ctx: &mut RequestContext, called: Called) -> Option<Arc<LegacyService>> {
    let Called::Service(service, target) = called else {
        ctx.meters = Arc::clone(&gateway.unknown_service);
        return None;
    };
    put_before_query(ctx, target);
    ctx.meters = Arc::clone(&service.meters);
    ctx.service = Some(Arc::clone(&service.name));
    ctx.upstream = Some(Arc::clone(&service.upstream));
    Some(service)
}

/// A CORS preflight asks on behalf of the method that will follow.
fn effective_method(session: &Downstream) -> Method {
    let request = session.req_header();
    if request.method != Method::OPTIONS {
        return request.method.clone();
    }
    let announced = request.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
    announced.and_then(|method| Method::from_bytes(method.as_bytes()).ok()).unwrap_or_else(|| request.method.clone())
}
