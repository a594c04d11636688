//! Obtain the bearer that the route wants.

use crate::proxy::context::RequestContext;
use crate::proxy::gateway::Gateway;
use crate::reply::ProxyError;
use crate::token::{NoBearer, RouteToken, TokenPolicy};

/// Puts the bearer into the context, or says why there is none.
pub(in crate::proxy) async fn obtain_bearer(
    gateway: &Gateway,
    ctx: &mut RequestContext,
    token: &RouteToken,
) -> Result<(), ProxyError> {
    let obtained = match (token, ctx.who.session()) {
        (RouteToken::AsSent | RouteToken::Callers | RouteToken::By(TokenPolicy::None), _) => return Ok(()),
        (RouteToken::By(policy), Some(session)) => gateway.broker.bearer(session, policy).await,
        // A token of our own is nobody's in particular.
        // And boxed, so that the future every request carries stays small.
        (RouteToken::By(policy), None) => Box::pin(gateway.broker.service_bearer(policy)).await,
        (RouteToken::Impossible, _) => {
            Err(NoBearer::NotAvailable("the `token_policy` of the route needs `auth: session`".to_owned()))
        }
    };
    let service = ctx.service.as_deref().unwrap_or_default();
    match obtained {
        Ok(bearer) => {
            ctx.token_found = Some(true);
            ctx.bearer = bearer;
            Ok(())
        }
        Err(none @ (NoBearer::NotAvailable(_) | NoBearer::LoginNeeded(_))) => {
            ctx.token_found = Some(false);
            let (reason, correlation_id) = (none.to_string(), &*ctx.correlation_id);
            tracing::warn!(service, reason, token_found = false, correlation_id, "NO_TOKEN_AVAILABLE");
            let helps = matches!(none, NoBearer::LoginNeeded(_));
            Err(if helps { ProxyError::LoginNeeded(reason) } else { ProxyError::NoTokenAvailable(reason) })
        }
        Err(NoBearer::ProviderDown(reason)) => {
            let correlation_id = &*ctx.correlation_id;
            tracing::error!(service, reason, correlation_id, "UPSTREAM_AUTH_FAILED");
            Err(ProxyError::UpstreamAuthFailed(reason))
        }
        Err(NoBearer::SessionEnded) => Err(ProxyError::NotAuthenticated),
        Err(NoBearer::StoreDown(reason)) => {
            tracing::error!(reason, correlation_id = &*ctx.correlation_id, "a token cannot be renewed");
            Err(ProxyError::StoreUnavailable)
        }
        Err(NoBearer::StoreFull(reason)) => {
            tracing::error!(reason, correlation_id = &*ctx.correlation_id, "a token cannot be renewed");
            Err(ProxyError::StoreFull)
        }
    }
}
