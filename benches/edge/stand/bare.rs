//! The floor: the engine alone, passing through, with the allocator, runtime and buffers of our program.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::listeners::ListenerConfig;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::proxy::{ProxyHttp, ProxyServiceBuilder, Session};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

struct Bare(SocketAddr);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();
    fn new_ctx(&self) {}
    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

/// Serves until killed. The settings are those of `src/app/serve.rs` and `src/app/listen.rs`.
pub fn serve(listen: &str, upstream: &str) -> ! {
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: 1024,
        max_retries: 2,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = ProxyServiceBuilder::new(&server.configuration, Bare(upstream.parse().unwrap())).build();
    service.add_listener(ListenerConfig::tcp(listen).l4_buffer(L4BufferSettings::default().read(8 * 1024)));
    server.add_service(service);
    server.run_forever();
}
