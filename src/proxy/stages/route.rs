//! Route: one of our own endpoints, one route of the table, or a refusal.

use std::sync::Arc;

use http::Method;
use http::header::ACCESS_CONTROL_REQUEST_METHOD;

use crate::endpoints::Endpoint;
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::gateway::Gateway;
use crate::reply::ProxyError;
use crate::routing::{CanonicalPath, Lookup, Route, join_base};

/// Whose request this is.
pub(in crate::proxy) enum Routed {
    Ours(Endpoint),
    Theirs(Arc<Route>),
}

/// Finds who answers, and what a service would be asked.
pub(in crate::proxy) fn route(
    gateway: &Gateway,
    session: &Downstream,
    ctx: &mut RequestContext,
    path: &CanonicalPath,
) -> Result<Routed, ProxyError> {
    if let Some(endpoint) = Endpoint::at(path.as_str()) {
        ctx.endpoint = endpoint.name().into();
        return Ok(Routed::Ours(endpoint));
    }
    match gateway.routes.find(&effective_method(session), path) {
        Lookup::Found(route) => {
            let base = gateway.destination(route).map_or("", |destination| &destination.upstream.base_path);
            let mut target = join_base(base, &route.upstream_path(path));
            target.push_str(&ctx.upstream_target);
            ctx.upstream_target = target;
            ctx.endpoint = Arc::clone(&route.id);
            ctx.route = Some(Arc::clone(route));
            Ok(Routed::Theirs(Arc::clone(route)))
        }
        Lookup::MethodNotAllowed { allow } => Err(ProxyError::MethodNotAllowed { allow }),
        Lookup::NotFound => Err(ProxyError::NoRoute),
    }
}

/// A CORS preflight asks on behalf of the method that will follow.
fn effective_method(session: &Downstream) -> Method {
    let request = session.req_header();
    let announced = request.headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| request.method == Method::OPTIONS);
    announced.and_then(|method| Method::from_bytes(method.as_bytes()).ok()).unwrap_or_else(|| request.method.clone())
}
