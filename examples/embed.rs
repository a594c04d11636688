//! The proxy inside your own Pingora server: load a configuration, build the plugin, wrap it, add it.
//!
//! `cargo run --example embed -- conf routes`

use std::error::Error;
use std::os::fd::RawFd;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::Result;
use pingora::cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, RangeType, Session};
use pingora::server::Server;
use pingora::services::background::background_service;
use pingora::upstreams::peer::HttpPeer;
use pingora_bff::{AccessLog, Bff, Config};

type Ctx = <Bff as ProxyHttp>::CTX;
type Broken = Box<pingora::Error>;

/// What is yours around the plugin. Every callback is passed on: each left out would switch a check off (see `Bff`).
struct Yours {
    bff: Bff,
}

#[async_trait]
impl ProxyHttp for Yours {
    type CTX = Ctx;

    // Yours before the plugin's: answered here, a request never reaches it.
    async fn request_filter(&self, s: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        if s.req_header().uri.path() != "/hello" {
            return self.bff.request_filter(s, ctx).await;
        }
        let mut head = ResponseHeader::build(200, Some(1))?;
        head.insert_header("Content-Length", "5")?;
        s.write_response_header(Box::new(head), false).await?;
        s.write_response_body(Some(Bytes::from_static(b"hello")), true).await.map(|()| true)
    }
    // Yours behind the plugin's: what it wrote about the caller is to be trusted.
    async fn upstream_request_filter(&self, s: &mut Session, r: &mut RequestHeader, ctx: &mut Ctx) -> Result<()> {
        self.bff.upstream_request_filter(s, r, ctx).await?;
        r.insert_header("X-Edge", "yours")
    }

    fn new_ctx(&self) -> Ctx {
        self.bff.new_ctx()
    }
    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        self.bff.init_downstream_modules(modules);
    }
    fn request_cache_filter(&self, s: &mut Session, ctx: &mut Ctx) -> Result<()> {
        self.bff.request_cache_filter(s, ctx)
    }
    fn cache_key_callback(&self, s: &Session, ctx: &mut Ctx) -> Result<CacheKey> {
        self.bff.cache_key_callback(s, ctx)
    }
    async fn cache_hit_filter(
        &self,
        s: &mut Session,
        meta: &CacheMeta,
        hit: &mut HitHandler,
        fresh: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<ForcedFreshness>> {
        self.bff.cache_hit_filter(s, meta, hit, fresh, ctx).await
    }
    fn cache_not_modified_filter(&self, s: &Session, r: &ResponseHeader, ctx: &mut Ctx) -> Result<bool> {
        self.bff.cache_not_modified_filter(s, r, ctx)
    }
    fn range_header_filter(&self, s: &mut Session, r: &mut ResponseHeader, ctx: &mut Ctx) -> RangeType {
        self.bff.range_header_filter(s, r, ctx)
    }
    fn should_serve_stale(&self, s: &mut Session, ctx: &mut Ctx, e: Option<&pingora::Error>) -> bool {
        self.bff.should_serve_stale(s, ctx, e)
    }
    async fn proxy_upstream_filter(&self, s: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        self.bff.proxy_upstream_filter(s, ctx).await
    }
    async fn upstream_peer(&self, s: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        self.bff.upstream_peer(s, ctx).await
    }
    async fn connected_to_upstream(
        &self,
        s: &mut Session,
        kept: bool,
        peer: &HttpPeer,
        socket: RawFd,
        digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        self.bff.connected_to_upstream(s, kept, peer, socket, digest, ctx).await
    }
    fn fail_to_connect(&self, s: &mut Session, peer: &HttpPeer, ctx: &mut Ctx, e: Broken) -> Broken {
        self.bff.fail_to_connect(s, peer, ctx, e)
    }
    async fn request_body_filter(
        &self,
        s: &mut Session,
        b: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        self.bff.request_body_filter(s, b, end, ctx).await
    }
    async fn upstream_response_filter(&self, s: &mut Session, r: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        self.bff.upstream_response_filter(s, r, ctx).await
    }
    fn response_cache_filter(&self, s: &Session, r: &ResponseHeader, ctx: &mut Ctx) -> Result<RespCacheable> {
        self.bff.response_cache_filter(s, r, ctx)
    }
    async fn response_filter(&self, s: &mut Session, r: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        self.bff.response_filter(s, r, ctx).await
    }
    fn upstream_response_body_filter(
        &self,
        s: &mut Session,
        b: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        self.bff.upstream_response_body_filter(s, b, end, ctx)
    }
    fn error_while_proxy(&self, peer: &HttpPeer, s: &mut Session, e: Broken, ctx: &mut Ctx, kept: bool) -> Broken {
        self.bff.error_while_proxy(peer, s, e, ctx, kept)
    }
    async fn fail_to_proxy(&self, s: &mut Session, e: &pingora::Error, ctx: &mut Ctx) -> FailToProxy {
        self.bff.fail_to_proxy(s, e, ctx).await
    }
    fn suppress_error_log(&self, s: &Session, ctx: &Ctx, e: &pingora::Error) -> bool {
        self.bff.suppress_error_log(s, ctx, e)
    }
    fn request_summary(&self, s: &Session, ctx: &Ctx) -> String {
        self.bff.request_summary(s, ctx)
    }
    async fn logging(&self, s: &mut Session, e: Option<&pingora::Error>, ctx: &mut Ctx) {
        self.bff.logging(s, e, ctx).await;
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut folders = std::env::args().skip(1);
    let conf = folders.next().unwrap_or_else(|| "conf".to_owned());
    let routes = folders.next().unwrap_or_else(|| "routes".to_owned());
    let config = Config::load(Path::new(&conf), Path::new(&routes), &|name| std::env::var(name).ok())?;

    let bff = Bff::build(&config, AccessLog::off())?;
    let mut server = Server::new(None)?;
    server.bootstrap();
    // Sessions are swept, memory and the provider are watched here.
    server.add_service(background_service("bff housekeeping", bff.housekeeping()));
    // Listeners, TLS, the strict reading of requests and the bounds of `server:`. `bff.clone()` instead of `Yours`: the
    // plugin as it is.
    server.add_service(bff.public_service(&server.configuration, Yours { bff: bff.clone() })?);
    server.add_service(bff.admin_service());
    server.run_forever()
}
