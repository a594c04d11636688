//! The path of a request, top to bottom. Each callback of the engine names its stages and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::Downstream;
use super::context::RequestContext;
use super::downstream;
use super::gateway::Gateway;
use super::stages::route::Routed;
use super::stages::{admit, authenticate, authorize, conclude, fail, forward, limit, origin, relay, route};
use crate::config::AuthMode;
use crate::endpoints::Asked;
use crate::reply::{Circumstances, ProxyError, Reply, from_error};

/// The plugin: put it into any Pingora proxy service.
#[derive(Debug, Clone)]
pub struct Bff {
    pub(crate) gateway: Arc<Gateway>,
}

impl Bff {
    /// A pipeline over what the composition root built.
    #[must_use]
    pub fn over(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    /// Everything up to the decision to forward. `Some`: the answer is ours.
    async fn decide(&self, session: &mut Downstream, ctx: &mut RequestContext) -> Result<Option<Reply>, ProxyError> {
        let gateway = &*self.gateway;
        let path = admit::admit(gateway, session, ctx)?;
        let routed = route::route(gateway, session, ctx, &path)?;
        let guarded = match &routed {
            Routed::Ours(_) => true,
            Routed::Theirs(route) => route.auth == AuthMode::Session,
        };
        if let Some(preflight) = origin::origin(gateway, session, ctx, guarded)? {
            return Ok(Some(preflight));
        }
        match routed {
            Routed::Ours(endpoint) => {
                let asked = Asked { parts: session.req_header(), correlation_id: &ctx.correlation_id };
                gateway.endpoints.answer(endpoint, asked).await.map(Some)
            }
            Routed::Theirs(route) => {
                authenticate::authenticate(gateway, session, ctx, &route).await?;
                limit::declared(session, route.max_body_size)?;
                authorize::obtain_bearer(gateway, ctx, &route).await?;
                Ok(None)
            }
        }
    }

    /// The client's view of a refusal.
    fn refuse(ctx: &mut RequestContext, error: ProxyError) -> Reply {
        let around = Circumstances {
            correlation_id: &ctx.correlation_id,
            login_url: &ctx.login_url,
            navigation: ctx.navigation,
        };
        let reply = from_error(&error, around);
        ctx.refusal = Some(error);
        reply
    }
}

/// Stops the engine with a reason of ours, which `fail_to_proxy` finds in the context.
#[expect(clippy::unnecessary_box_returns, reason = "the engine's `Result` holds its error in a box")]
fn abort(ctx: &mut RequestContext, error: ProxyError) -> Box<Error> {
    let status = error.face().0.as_u16();
    ctx.refusal = Some(error);
    Error::new(ErrorType::HTTPStatus(status))
}

#[async_trait]
impl ProxyHttp for Bff {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(&self.gateway.metrics.http_in_flight)
    }

    async fn request_filter(&self, session: &mut Downstream, ctx: &mut RequestContext) -> Result<bool> {
        let reply = match self.decide(session, ctx).await {
            Ok(None) => return Ok(false),
            Ok(Some(reply)) => reply,
            Err(error) => Self::refuse(ctx, error),
        };
        downstream::respond(session, ctx, reply).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Downstream, ctx: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let destination = ctx.route.as_ref().and_then(|route| self.gateway.destination(route));
        let Some(destination) = destination else { return Err(abort(ctx, ProxyError::NoRoute)) };
        let attempt = ctx.attempts;
        ctx.attempts += 1;
        ctx.upstream_started.get_or_insert_with(Instant::now);
        destination.upstream.peer(ctx.streaming(), attempt).await.map_err(|error| {
            tracing::error!(%error, correlation_id = &*ctx.correlation_id, "a service has no address");
            abort(ctx, ProxyError::UpstreamError("the service's name does not resolve".to_owned()))
        })
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Downstream,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let destination = ctx.route.as_ref().and_then(|route| self.gateway.destination(route));
        let Some(destination) = destination else { return Err(abort(ctx, ProxyError::NoRoute)) };
        forward::forward(&self.gateway, session, ctx, destination, request)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Downstream,
        body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        ctx.body_received += downstream::chunk_len(body.as_ref());
        let limit = ctx.route.as_ref().and_then(|route| route.max_body_size);
        limit::streamed(ctx.body_received, limit).map_err(|error| abort(ctx, error).into_down())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Downstream,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        relay::received(response, ctx);
        Ok(())
    }

    async fn response_filter(
        &self,
        _session: &mut Downstream,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        relay::dress(response, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Downstream,
        _body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        if end || session.was_upgraded() {
            return Ok(None);
        }
        let timeout = ctx
            .route
            .as_ref()
            .and_then(|route| self.gateway.destination(route))
            .map_or(Duration::MAX, |destination| destination.upstream.timeout);
        relay::within(ctx, timeout).map(|()| None).map_err(|error| abort(ctx, error).into_up())
    }

    async fn fail_to_proxy(&self, session: &mut Downstream, e: &Error, ctx: &mut RequestContext) -> FailToProxy {
        let nothing = FailToProxy { error_code: 0, can_reuse_downstream: false };
        let Some(error) = fail::explain(&self.gateway, ctx, e) else { return nothing };
        if downstream::answered(session) {
            // Half an answer is out: closing the connection is all that can still be said.
            ctx.refusal = Some(error);
            return nothing;
        }
        let reply = Self::refuse(ctx, error);
        let error_code = reply.status.as_u16();
        session.set_keepalive(None);
        if downstream::respond(session, ctx, reply).await.is_err() {
            return nothing;
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    fn fail_to_connect(
        &self,
        _session: &mut Downstream,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut e: Box<Error>,
    ) -> Box<Error> {
        // Nothing was sent: the next address of the service may be tried, whatever the method.
        e.set_retry(ctx.attempts < 2);
        e
    }

    fn suppress_error_log(&self, _session: &Downstream, _ctx: &RequestContext, _error: &Error) -> bool {
        true
    }

    fn request_summary(&self, _session: &Downstream, ctx: &RequestContext) -> String {
        format!("{} {}", ctx.endpoint, ctx.correlation_id)
    }

    async fn logging(&self, session: &mut Downstream, e: Option<&Error>, ctx: &mut RequestContext) {
        conclude::conclude(&self.gateway, session, ctx, e);
    }
}
