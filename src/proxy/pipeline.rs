//! The path of a request, top to bottom. Each callback of the engine names its stages.

use std::os::fd::RawFd;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable};
use pingora::http::{RequestHeader as Request, ResponseHeader as Response};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, RangeType};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};

use super::decide::{abort, decide, refuse};
use super::stages::{conclude, connect, delegation, fail, forward, hold, legacy, limit, recall, relay, timing};
use super::{Bff, Downstream, downstream};

type Ctx = Box<super::context::RequestContext>;
type Body = Option<Bytes>;
type Wait = Result<Option<Duration>>;

#[async_trait]
impl ProxyHttp for Bff {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(super::context::RequestContext::new(self.gateway()))
    }

    // By default a compressor that is off, made for each request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Downstream, ctx: &mut Ctx) -> Result<bool> {
        let reply = match decide(session, ctx).await {
            Ok(None) => return Ok(false),
            Ok(Some(reply)) => reply,
            Err(error) => refuse(ctx, error),
        };
        Box::pin(downstream::respond(session, ctx, reply)).await.map(|()| true)
    }

    fn request_cache_filter(&self, session: &mut Downstream, ctx: &mut Ctx) -> Result<()> {
        recall::enable(session, ctx);
        Ok(())
    }

    fn cache_key_callback(&self, _session: &Downstream, ctx: &mut Ctx) -> Result<CacheKey> {
        recall::key(ctx)
    }

    async fn cache_hit_filter(
        &self,
        _session: &mut Downstream,
        meta: &CacheMeta,
        _body: &mut HitHandler,
        _fresh: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(recall::hit(meta, ctx))
    }

    fn cache_not_modified_filter(&self, session: &Downstream, response: &Response, ctx: &mut Ctx) -> Result<bool> {
        Ok(recall::not_modified(session, response, ctx))
    }

    fn range_header_filter(&self, session: &mut Downstream, response: &mut Response, ctx: &mut Ctx) -> RangeType {
        recall::part(session, response, ctx)
    }

    fn should_serve_stale(&self, session: &mut Downstream, ctx: &mut Ctx, error: Option<&Error>) -> bool {
        recall::serve_stale(session, ctx, error)
    }

    async fn proxy_upstream_filter(&self, session: &mut Downstream, ctx: &mut Ctx) -> Result<bool> {
        let Some(reply) = recall::held_back(session, ctx) else { return Ok(true) };
        // Rare, and large: not a part of what is set aside for each request.
        Box::pin(downstream::respond(session, ctx, reply)).await.map(|()| false)
    }

    async fn upstream_peer(&self, session: &mut Downstream, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        delegation::permitted(ctx)?;
        connect::connect(session, ctx).await.map_err(|error| abort(ctx, error))
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Downstream,
        _kept: bool,
        _peer: &HttpPeer,
        socket: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        connect::connected(ctx, socket);
        Ok(())
    }

    fn fail_to_connect(&self, _: &mut Downstream, peer: &HttpPeer, ctx: &mut Ctx, error: Box<Error>) -> Box<Error> {
        connect::failed(peer, ctx, error)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Downstream,
        request: &mut Request,
        ctx: &mut Ctx,
    ) -> Result<()> {
        forward::forward(session, ctx, request).map(|()| timing::request_sent(session, ctx, request))
    }

    async fn request_body_filter(
        &self,
        session: &mut Downstream,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.body_received += downstream::chunk_len(body.as_ref());
        hold::from_client(body.as_ref(), ctx);
        timing::body_sent(session, body, end, ctx);
        let limit = ctx.body_limit.filter(|_| !session.was_upgraded());
        limit::streamed(ctx.body_received, limit).map_err(|error| abort(ctx, error).into_down())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Downstream,
        response: &mut Response,
        ctx: &mut Ctx,
    ) -> Result<()> {
        delegation::forwarded(ctx)?;
        timing::head_received(session, response, ctx);
        relay::take_over(session, response, ctx)?;
        hold::answered(response, ctx);
        recall::received(session, response, ctx)
    }

    fn response_cache_filter(&self, session: &Downstream, response: &Response, ctx: &mut Ctx) -> Result<RespCacheable> {
        Ok(recall::admit(session, response, ctx))
    }

    async fn response_filter(&self, session: &mut Downstream, response: &mut Response, ctx: &mut Ctx) -> Result<()> {
        delegation::taken_over(session, response, ctx)?;
        recall::add_cache_headers(session, response, ctx)?;
        relay::settle_connection(session, response, ctx);
        relay::add_response_headers(response, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Downstream,
        body: &mut Body,
        end: bool,
        ctx: &mut Ctx,
    ) -> Wait {
        delegation::told(session, ctx)?;
        hold::to_client(body.as_ref(), ctx);
        let within = if end { timing::answer_ended(ctx) } else { relay::within(session, ctx) };
        if end {
            legacy::answer_ended(session, ctx);
        }
        within.map(|()| None).map_err(|error| abort(ctx, error).into_up())
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Downstream,
        error: Box<Error>,
        ctx: &mut Ctx,
        kept: bool,
    ) -> Box<Error> {
        connect::broke(peer, session, ctx, error, kept)
    }

    async fn fail_to_proxy(&self, session: &mut Downstream, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        fail::answer(session, ctx, error).await
    }

    fn suppress_error_log(&self, _session: &Downstream, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    fn request_summary(&self, _session: &Downstream, ctx: &Ctx) -> String {
        format!("{} {}", ctx.meters.endpoint(), ctx.correlation_id)
    }

    async fn logging(&self, session: &mut Downstream, error: Option<&Error>, ctx: &mut Ctx) {
        conclude::conclude(session, ctx, error);
        if error.is_none() && ctx.own_status.is_none() && downstream::still_sends(session) {
            Box::pin(downstream::linger(session)).await;
        }
    }
}
