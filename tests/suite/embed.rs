//! The plugin in somebody else's server, in this process: what wraps it is served as the program is, and a callback that it
//! leaves out is found out.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, RangeType, Session};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora::services::background::background_service;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use pingora_bff::config::StoreConfig;
use pingora_bff::{AccessLog, Bff, Config, Sockets, StartError};

use crate::harness::{AUDIENCES, Edge, RawClient, Setup, Upstream, free_port, http_client, raw};

const OWN: &str = AUDIENCES[0];

type Ctx = <Bff as ProxyHttp>::CTX;
type Left = Arc<Mutex<&'static str>>;

/// Passes on every callback but the one named.
struct Holed(Bff, Left);

macro_rules! unless {
    ($it:ident, $name:literal, $passed:expr, $default:expr) => {
        if *$it.1.lock().unwrap() == $name { $default } else { $passed }
    };
}

#[async_trait]
impl ProxyHttp for Holed {
    type CTX = Ctx;
    fn new_ctx(&self) -> Ctx {
        self.0.new_ctx()
    }
    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        self.0.init_downstream_modules(modules);
    }
    async fn request_filter(&self, s: &mut Session, c: &mut Ctx) -> Result<bool> {
        unless!(self, "request_filter", self.0.request_filter(s, c).await, Ok(false))
    }
    fn request_cache_filter(&self, s: &mut Session, c: &mut Ctx) -> Result<()> {
        self.0.request_cache_filter(s, c)
    }
    fn cache_key_callback(&self, s: &Session, c: &mut Ctx) -> Result<CacheKey> {
        self.0.cache_key_callback(s, c)
    }
    async fn cache_hit_filter(
        &self,
        s: &mut Session,
        meta: &CacheMeta,
        hit: &mut HitHandler,
        fresh: bool,
        c: &mut Ctx,
    ) -> Result<Option<ForcedFreshness>> {
        self.0.cache_hit_filter(s, meta, hit, fresh, c).await
    }
    fn response_cache_filter(&self, s: &Session, r: &ResponseHeader, c: &mut Ctx) -> Result<RespCacheable> {
        self.0.response_cache_filter(s, r, c)
    }
    fn range_header_filter(&self, s: &mut Session, r: &mut ResponseHeader, c: &mut Ctx) -> RangeType {
        self.0.range_header_filter(s, r, c)
    }
    fn should_serve_stale(&self, s: &mut Session, c: &mut Ctx, e: Option<&Error>) -> bool {
        self.0.should_serve_stale(s, c, e)
    }
    async fn proxy_upstream_filter(&self, s: &mut Session, c: &mut Ctx) -> Result<bool> {
        unless!(self, "proxy_upstream_filter", self.0.proxy_upstream_filter(s, c).await, Ok(true))
    }
    async fn upstream_peer(&self, s: &mut Session, c: &mut Ctx) -> Result<Box<HttpPeer>> {
        self.0.upstream_peer(s, c).await
    }
    async fn connected_to_upstream(
        &self,
        s: &mut Session,
        kept: bool,
        peer: &HttpPeer,
        socket: RawFd,
        digest: Option<&Digest>,
        c: &mut Ctx,
    ) -> Result<()> {
        let passed = self.0.connected_to_upstream(s, kept, peer, socket, digest, c);
        unless!(self, "connected_to_upstream", passed.await, Ok(()))
    }
    fn error_while_proxy(&self, p: &HttpPeer, s: &mut Session, e: Box<Error>, c: &mut Ctx, kept: bool) -> Box<Error> {
        self.0.error_while_proxy(p, s, e, c, kept)
    }
    async fn upstream_request_filter(&self, s: &mut Session, r: &mut RequestHeader, c: &mut Ctx) -> Result<()> {
        unless!(self, "upstream_request_filter", self.0.upstream_request_filter(s, r, c).await, Ok(()))?;
        r.insert_header("X-Mine", "yes")
    }
    async fn request_body_filter(&self, s: &mut Session, b: &mut Option<Bytes>, end: bool, c: &mut Ctx) -> Result<()> {
        unless!(self, "request_body_filter", self.0.request_body_filter(s, b, end, c).await, Ok(()))
    }
    async fn upstream_response_filter(&self, s: &mut Session, r: &mut ResponseHeader, c: &mut Ctx) -> Result<()> {
        unless!(self, "upstream_response_filter", self.0.upstream_response_filter(s, r, c).await, Ok(()))
    }
    async fn response_filter(&self, s: &mut Session, r: &mut ResponseHeader, c: &mut Ctx) -> Result<()> {
        unless!(self, "response_filter", self.0.response_filter(s, r, c).await, Ok(()))
    }
    fn upstream_response_body_filter(
        &self,
        s: &mut Session,
        b: &mut Option<Bytes>,
        end: bool,
        c: &mut Ctx,
    ) -> Result<Option<Duration>> {
        self.0.upstream_response_body_filter(s, b, end, c)
    }
    async fn fail_to_proxy(&self, s: &mut Session, e: &Error, c: &mut Ctx) -> FailToProxy {
        self.0.fail_to_proxy(s, e, c).await
    }
    async fn logging(&self, s: &mut Session, e: Option<&Error>, c: &mut Ctx) {
        self.0.logging(s, e, c).await;
    }
}

/// It ends with the process of the tests.
struct Never;

#[async_trait]
impl ShutdownSignalWatch for Never {
    async fn recv(&self) -> ShutdownSignal {
        std::future::pending().await
    }
}

fn setup(upstream: &Upstream) -> Setup {
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let own = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 10").route(open).own_audience(OWN);
    own.legacy(&format!("legacy_services: {{ old: \"{}\" }}\n", upstream.url())).server("header_timeout: 1s")
}

/// What `edge` runs with, for a server on ports of its own.
fn written(edge: &Edge) -> Config {
    let (conf, routes) = (edge.folder().join("conf"), edge.folder().join("routes"));
    let mut config = Config::load(&conf, &routes, &|name| std::env::var(name).ok()).unwrap();
    config.settings.session.store = StoreConfig::Memory;
    config.settings.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], free_port()))];
    config.settings.server.admin_listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    config
}

/// Serves what `wrap` makes of the plugin.
async fn mount(config: Config, left_out: &Left) -> SocketAddr {
    let (address, left_out) = (config.settings.server.listen[0], Arc::clone(left_out));
    std::thread::spawn(move || {
        let bff = Bff::build(&config, AccessLog::off()).unwrap();
        let mut server = Server::new_with_opt_and_conf(None, ServerConf::default());
        server.bootstrap();
        server.add_service(background_service("housekeeping", bff.housekeeping()));
        server.add_service(bff.public_service(&server.configuration, Holed(bff.clone(), left_out)).unwrap());
        server.add_service(bff.admin_service());
        server.run(RunArgs { shutdown_signal: Box::new(Never) });
    });
    eventually!("it listens", tokio::net::TcpStream::connect(address).await.is_ok());
    address
}

#[tokio::test]
async fn what_wraps_the_plugin_is_served_as_the_program_is() {
    let upstream = Upstream::start().await;
    let edge = setup(&upstream).start().await;
    let config = written(&edge);
    let admin = config.settings.server.admin_listen;
    let address = mount(config, &Left::default()).await;
    for two_ways in [
        "POST /open/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /open/x HTTP/1.1\nHost: h\n\n",
    ] {
        assert_eq!(raw(address, two_ways).await.0.status(), 400, "{two_ways}");
        assert_eq!(upstream.count(), 0, "{two_ways}");
    }
    let mut client = RawClient::connect(address).await;
    client.send("GET /open/1 HTTP/1.1\r\nHost: h\r\n\r\nGET /open/2 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    for target in ["/open/1", "/open/2"] {
        assert_eq!(client.response().await.0.status(), 200);
        assert_eq!(upstream.last().target(), target, "pipelined requests are served one after the other");
    }
    assert_eq!(upstream.last().head.one("x-mine").as_deref(), Some("yes"));
    assert_eq!(raw(address, "GET /open/slow HT").await.0.status(), 408, "server.header_timeout");
    assert_eq!(http_client().get(format!("http://{admin}/status")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_callback_that_is_left_out_is_found_out() {
    let upstream = Upstream::start().await;
    let edge = setup(&upstream).start().await;
    let left_out = Left::default();
    let address = mount(written(&edge), &left_out).await;
    let token = edge.client_token(Some(OWN)).await;
    let post = |path: &str| {
        let asked = http_client().post(format!("http://{address}{path}")).bearer_auth(&token);
        async { asked.body("a body").send().await.unwrap() }
    };
    for path in ["/open/x", "/api/v1/proxy/old/x"] {
        for name in
            ["connected_to_upstream", "upstream_request_filter", "request_body_filter", "upstream_response_filter"]
        {
            *left_out.lock().unwrap() = "";
            assert_eq!(post(path).await.status(), 200, "{path}");
            *left_out.lock().unwrap() = name;
            assert_eq!(post(path).await.status(), 500, "{path} without {name}");
        }
    }
    *left_out.lock().unwrap() = "response_filter";
    let answer = post("/open/x").await;
    assert!(answer.status() == 500 || answer.bytes().await.is_err(), "a body without response_filter");
    let asked = upstream.count();
    *left_out.lock().unwrap() = "proxy_upstream_filter";
    assert_eq!(post("/api/v1/proxy/old/x").await.status(), 500);
    *left_out.lock().unwrap() = "request_filter";
    assert_eq!(post("/open/x").await.status(), 404);
    assert_eq!(upstream.count(), asked, "nobody reaches a service");
}

#[test]
fn every_callback_is_in_the_example_and_in_the_documentation() {
    let read = |file: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let (pipeline, example, plugin) =
        (read("src/proxy/pipeline.rs"), read("examples/embed.rs"), read("src/proxy/plugin.rs"));
    let names = pipeline.split("    fn ").skip(1).chain(pipeline.split("async fn ").skip(1));
    let names: Vec<&str> = names.map(|rest| rest.split('(').next().unwrap()).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(example.contains(&format!("self.bff.{name}(")), "examples/embed.rs leaves out {name}");
        assert!(plugin.contains(&format!("`{name}`")), "what is lost without {name}?");
    }
}

#[tokio::test]
async fn a_configuration_made_in_code_is_refused_or_works() {
    let upstream = Upstream::start().await;
    let edge = setup(&upstream).start().await;
    let mut config = written(&edge);
    let far = Duration::MAX;
    config.settings.session.lifetime = far;
    config.settings.session.max_lifetime = far;
    config.settings.token_refresh_threshold = far;
    config.settings.server.header_timeout = far;
    config.settings.server.body_timeout = far;
    config.settings.server.idle_timeout = far;
    (config.legacy.breaker_reset_time, config.legacy.cache_default_ttl) = (far, far);
    config.services.values_mut().for_each(|service| (service.timeout, service.connect_timeout) = (far, far));
    config.legacy.services.values_mut().for_each(|service| service.timeout = far);
    let address = mount(config.clone(), &Left::default()).await;
    let token = edge.client_token(Some(OWN)).await;
    for path in ["/open/x", "/api/v1/proxy/old/x"] {
        let answer = http_client().get(format!("http://{address}{path}")).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    config.routes[0].target_service = "nobody".to_owned();
    let refused = Bff::build(&config, AccessLog::off()).unwrap_err();
    assert_eq!(refused.to_string(), "route `open`: no service is named `nobody`");
}

#[test]
fn the_whole_program_can_be_called() {
    let _: fn(&Config, Bff, Sockets) -> std::result::Result<(), StartError> = pingora_bff::serve;
}
