//! Legacy: what the façade asks of a request before and after the service is called.

use std::sync::Arc;

use pingora::{Error, ErrorSource};

use crate::legacy::{LegacyService, Verdict};
use crate::proxy::Downstream;
use crate::proxy::context::{LegacyCall, RequestContext};
use crate::proxy::gateway::Gateway;
use crate::reply::ProxyError;
use crate::routing::Methods;
use crate::token::{RouteToken, TokenPolicy};
use crate::upstream::Turn;

use super::{authenticate, authorize, fail, limit, upgrade};

/// Whether the browser's session would act: a bearer decides the identity, and the cookie is ignored.
pub(in crate::proxy) fn acts_by_session(session: &Downstream, ctx: &RequestContext) -> bool {
    !authenticate::brings_token(session, ctx)
}

/// Who asks ► is there such a service ► is the body small enough ► which token.
pub(in crate::proxy) async fn enter(
    gateway: &Gateway,
    session: &mut Downstream,
    ctx: &mut RequestContext,
    service: Option<Arc<LegacyService>>,
) -> Result<(), ProxyError> {
    let every = Methods::new(&[]);
    if !every.accepts(&session.req_header().method) {
        return Err(ProxyError::MethodNotAllowed { allow: every.allowed().cloned().collect() });
    }
    authenticate::either(gateway, session, ctx).await?;
    let service = service.ok_or(ProxyError::UnknownService)?;
    ctx.body_limit = Some(gateway.facade.max_body_size);
    upgrade::upgrade(session, ctx, false)?;
    limit::declared(session, ctx.body_limit)?;
    let token = match ctx.who.session() {
        Some(_) => RouteToken::By(TokenPolicy::SessionPassthrough { service: Arc::clone(&service.name) }),
        None => RouteToken::Callers,
    };
    authorize::obtain_bearer(gateway, ctx, &token).await?;
    ctx.legacy = Some(LegacyCall { service, slot: None, permit: None });
    Ok(())
}

/// A place among the concurrent calls and the circuit's word, asked only when the service is really
/// about to be called: a stored answer needs neither.
pub(in crate::proxy) fn ask_circuit(ctx: &mut RequestContext) -> Result<(), ProxyError> {
    let Some(call) = &mut ctx.legacy else { return Ok(()) };
    if call.slot.is_none() {
        call.slot = Some(call.service.enter().map_err(|_busy| ProxyError::Busy)?);
    }
    if call.permit.is_none() {
        match call.service.permit(&ctx.correlation_id) {
            Ok(permit) => call.permit = Some(permit),
            Err(refused) => {
                call.slot = None;
                return Err(ProxyError::CircuitOpen { retry_after: refused.retry_after });
            }
        }
    }
    Ok(())
}

/// The service's answer is over. It may have said all before it had the whole request, and is busy with that.
pub(in crate::proxy) fn answer_ended(session: &mut Downstream, ctx: &mut RequestContext) {
    if session.as_downstream_mut().is_body_done() {
        leave(ctx);
    }
}

/// The service is done with the request: its place is another's, however slowly the client takes the answer.
pub(super) fn leave(ctx: &mut RequestContext) {
    if let Some(call) = &mut ctx.legacy {
        call.slot = None;
    }
}

/// Tells the circuit how the call went. 4xx and a client that leaves are never the service's fault.
pub(super) fn judge(ctx: &mut RequestContext, error: Option<&Error>) {
    let theirs = |error: &Error| *error.esource() == ErrorSource::Upstream && !fail::out_of_places(error);
    // A client that asked for a head has it, whatever became of the body that was fetched for the cache.
    let late = ctx.hop.deadline.as_ref().is_some_and(|deadline| deadline.passed() == Some(Turn::Service));
    let fault = ctx.hop.fault || late || error.is_some_and(theirs);
    if late {
        ctx.hop.covered.get_or_insert("timeout");
    }
    leave(ctx);
    let Some(call) = &mut ctx.legacy else { return };
    let Some(permit) = call.permit.take() else { return };
    let verdict = match ctx.hop.status {
        _ if fault => Verdict::Bad,
        Some(500..) => Verdict::Bad,
        Some(_) if error.is_none() => Verdict::Good,
        _ => Verdict::Unknown,
    };
    call.service.judge(permit, verdict, &ctx.correlation_id);
}
