//! Rate: how many requests of one client a route takes. An address is counted before anybody is
//! asked who it is, a person or a session after.

use crate::config::RateLimitKey;
use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::gateway::Gateway;
use crate::proxy::who::Who;
use crate::reply::ProxyError;
use crate::resilience::network_of;
use crate::routing::{RateLimit, Route, standing_header};

use super::forward::client_address;

/// Counts the client's address, where the route wants that.
pub(in crate::proxy) async fn by_address(
    gateway: &Gateway,
    session: &Downstream,
    ctx: &mut RequestContext,
    route: &Route,
) -> Result<(), ProxyError> {
    let Some(limit) = route.rate_limit.as_ref().filter(|limit| limit.key == RateLimitKey::Ip) else { return Ok(()) };
    let address = client_address(gateway, session).map(|address| network_of(address).to_string());
    Box::pin(count(gateway, ctx, route, limit, &format!("ip {}", address.unwrap_or_default()))).await
}

/// Counts the session or the person, where the route wants that.
pub(in crate::proxy) async fn by_caller(
    gateway: &Gateway,
    ctx: &mut RequestContext,
    route: &Route,
) -> Result<(), ProxyError> {
    let Some(limit) = route.rate_limit.as_ref() else { return Ok(()) };
    let who = match (limit.key, &ctx.who) {
        (RateLimitKey::Ip, _) => return Ok(()),
        (RateLimitKey::Session, Who::Session(session)) => format!("session {}", session.key.hex()),
        (_, who) => format!(
            "identity {}",
            String::from_utf8_lossy(who.original_user().as_ref().map_or(b"", |arn| arn.as_bytes()))
        ),
    };
    Box::pin(count(gateway, ctx, route, limit, &who)).await
}

async fn count(
    gateway: &Gateway,
    ctx: &mut RequestContext,
    route: &Route,
    limit: &RateLimit,
    who: &str,
) -> Result<(), ProxyError> {
    let standing = gateway.rates.count(&route.id, who, &limit.rate).await;
    ctx.quota = Some((limit.policy.clone(), standing_header(&standing)));
    match standing.refused {
        None => Ok(()),
        Some(retry_after) => {
            gateway.metrics.rate_limited.with_label_values(&[&*route.id]).inc();
            Err(ProxyError::RateLimited { retry_after })
        }
    }
}
