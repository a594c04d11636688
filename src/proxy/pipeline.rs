//! The path of a request, top to bottom. Each callback of the engine names its stages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};

use super::Downstream;
use super::context::RequestContext;
use super::decide::{abort, decide, refuse};
use super::downstream;
use super::gateway::Gateway;
use super::stages::{conclude, fail, forward, legacy, limit, relay};
use crate::reply::ProxyError;

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
}

#[async_trait]
impl ProxyHttp for Bff {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(&self.gateway.metrics.http_in_flight)
    }

    async fn request_filter(&self, session: &mut Downstream, ctx: &mut RequestContext) -> Result<bool> {
        let reply = match decide(&self.gateway, session, ctx).await {
            Ok(None) => return Ok(false),
            Ok(Some(reply)) => reply,
            Err(error) => refuse(ctx, error),
        };
        downstream::respond(session, ctx, reply).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Downstream, ctx: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let Some(upstream) = ctx.upstream.clone() else { return Err(abort(ctx, ProxyError::NoRoute)) };
        legacy::ask_circuit(ctx).map_err(|error| abort(ctx, error))?;
        ctx.upstream_fault = false;
        let attempt = ctx.attempts;
        ctx.attempts += 1;
        ctx.upstream_started.get_or_insert_with(Instant::now);
        upstream.peer(ctx.streaming, ctx.websocket, attempt).await.map_err(|error| {
            ctx.upstream_fault = true;
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
        let Some(upstream) = &ctx.upstream else { return Err(abort(ctx, ProxyError::NoRoute)) };
        forward::forward(&self.gateway, session, ctx, upstream, request)
    }

    async fn request_body_filter(
        &self,
        session: &mut Downstream,
        body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        ctx.body_received += downstream::chunk_len(body.as_ref());
        let limit = ctx.body_limit.filter(|_| !session.was_upgraded());
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
        relay::within(ctx).map(|()| None).map_err(|error| abort(ctx, error).into_up())
    }

    async fn fail_to_proxy(&self, session: &mut Downstream, e: &Error, ctx: &mut RequestContext) -> FailToProxy {
        fail::answer(session, ctx, e).await
    }

    fn fail_to_connect(
        &self,
        _session: &mut Downstream,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut e: Box<Error>,
    ) -> Box<Error> {
        ctx.upstream_fault = true;
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
