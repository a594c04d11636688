//! Listeners: the public ones with or without TLS, and the admin one.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Response;
use http::header::CONTENT_LENGTH;
use pingora::apps::HttpServerOptions;
use pingora::apps::http_app::ServeHttp;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{ListenerConfig, TcpSocketOptions};
use pingora::protocols::TcpKeepalive;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::proxy::{ProxyHttp, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use rustls::server::ResolvesServerCert;
use serde_json::{Value, json};

use super::StartError;
use super::certificate::Certificate;
use super::sockets::Listening;
use super::{capacity, memory};
use crate::config::{Config, ServerConfig};
use crate::proxy::{Bff, ConnectionLimits, Door, Handshakes};

/// None below the door, which reads heads in pieces of its own, nor below the engine, which reads bodies in large
/// ones: bytes would be copied once more, and the engine's 64 KiB cost 98 kB for every idle client.
const READ_BUFFER: usize = 0;
/// Head and body of a small answer together: one write, one packet.
const WRITE_BUFFER: usize = 4 * 1024;

/// Linux takes no less and no more before a question to a silent peer, and the engine closes a connection that it cannot
/// set up.
const SHORTEST_SILENCE: Duration = Duration::from_secs(1);
const LONGEST_SILENCE: Duration = Duration::from_secs(32_767);
/// Between two questions to a peer that is silent.
const PROBE: Duration = Duration::from_secs(10);

/// The engine reports a taken port only in a panicking thread, so every address is tried first.
pub(super) fn probe(addresses: impl Iterator<Item = (SocketAddr, &'static str)>) -> Result<(), StartError> {
    for (address, key) in addresses {
        TcpListener::bind(address)
            .map_err(|error| StartError::Listen { address, reason: format!("{error} (settings.yaml, {key})") })?;
    }
    Ok(())
}

impl Bff {
    /// The public service, as `pingora-bff run` has it, around `proxy`: this plugin, or your own that passes every callback
    /// on to it. All of `server:` holds but what belongs to a process: `threads`, `shutdown_grace`, `drain_delay` and
    /// `upgrade_sock`. The certificate is read once.
    ///
    /// Not `http_proxy_service`, which leaves the reading of HTTP/1 to the engine: it forwards what two readers may take
    /// for two requests, and knows nothing of `server.tls`, its timeouts and its bounds.
    ///
    /// # Errors
    /// The certificate of `server.tls` cannot be used.
    pub fn public_service<P>(&self, conf: &Arc<ServerConf>, proxy: P) -> Result<Listening<Door<P>>, StartError>
    where
        P: ProxyHttp + Send + Sync + 'static,
        P::CTX: Send + Sync,
    {
        let certificate = Certificate::of(&self.gateway().config.settings.server)?;
        public(conf, certificate.as_ref(), self, proxy)
    }

    /// The service of `server.admin_listen`: metrics, `/status`, health in detail.
    #[must_use]
    pub fn admin_service(&self) -> Service<Admin> {
        let mut service = Service::new("admin".to_owned(), Admin(self.clone()));
        service.add_tcp(&self.gateway().config.settings.server.admin_listen.to_string());
        service.threads = Some(1);
        service
    }
}

/// The public service.
pub(super) fn public<P>(
    conf: &Arc<ServerConf>,
    certificate: Option<&Arc<Certificate>>,
    bff: &Bff,
    proxy: P,
) -> Result<Listening<Door<P>>, StartError>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    let gateway = bff.gateway();
    let server = &gateway.config.settings.server;
    let mut options = HttpServerOptions::default();
    // HTTP/2 without TLS by prior knowledge: for balancers and gRPC; browsers never use it.
    options.h2c = true;
    options.h2_idle_timeout = Some(server.idle_timeout);
    let mut limits = default_h2_options();
    limits.max_concurrent_reset_streams(100).max_frame_size(16 * 1024);
    let mut engine = http_proxy(conf, proxy);
    engine.server_options = Some(options);
    engine.h2_options = Some(limits);
    let limits = connection_limits(server);
    let mut service = Service::new("public".to_owned(), Door::new(engine, bff.clone(), limits));
    service.endpoints().set_pre_tls_callback(Arc::new(Handshakes::new(limits)));
    for address in &server.listen {
        let mut socket = TcpSocketOptions::default();
        socket.so_reuseport = None;
        // Of a client that takes nothing any more, the kernel would keep the connection and what is unsent.
        socket.tcp_keepalive = Some(TcpKeepalive {
            idle: server.idle_timeout.clamp(SHORTEST_SILENCE, LONGEST_SILENCE),
            interval: PROBE,
            count: 6,
            user_timeout: server.body_timeout.min(LONGEST_SILENCE),
        });
        let mut listener = ListenerConfig::tcp(address.to_string())
            .tcp_socket_options(socket)
            .l4_buffer(L4BufferSettings::default().read(READ_BUFFER).write(WRITE_BUFFER));
        if let (Some(tls), Some(certificate)) = (&server.tls, certificate) {
            let failed = |error: String| StartError::Engine(format!("server.tls: {error}"));
            let mut settings = TlsSettings::intermediate(&tls.cert.to_string_lossy(), &tls.key.to_string_lossy())
                .map_err(|error| failed(error.to_string()))?;
            settings.set_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesServerCert>);
            settings.enable_h2();
            listener = listener.tls(settings);
        }
        service.add_listener(listener);
    }
    Ok(Listening::new(service, server.listen.clone()))
}

/// One connection more than there may be is refused: files must be left for services and stores.
fn connection_limits(server: &ServerConfig) -> ConnectionLimits {
    let (seats, wanted) =
        (capacity::seats(), server.max_connections.unwrap_or_else(|| capacity::connections(memory::allowed(server))));
    if wanted > seats {
        tracing::warn!(max_connections = seats, "server.max_connections is more than there may be open files");
    }
    let connections = wanted.min(seats);
    tracing::info!(max_connections = connections, "connections are bounded");
    ConnectionLimits {
        idle: server.idle_timeout,
        head: server.header_timeout,
        body: server.body_timeout,
        rate: server.min_body_rate,
        connections,
        beside: capacity::beside(connections),
    }
}

/// Answers on `server.admin_listen`.
pub struct Admin(Bff);

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let path = session.req_header().uri.path().to_owned();
        let method = session.req_header().method.clone();
        let gateway = self.0.gateway();
        let reply = gateway.endpoints.admin(&method, &path, &loaded(&gateway.config)).await;
        let mut response = Response::builder().status(reply.status).header(CONTENT_LENGTH, reply.body.len());
        for (name, value) in reply.headers {
            response = response.header(name, value);
        }
        response.body(reply.body.to_vec()).unwrap_or_default()
    }
}

/// What is in force, for `/status`.
fn loaded(config: &Config) -> Value {
    json!({
        "routes": config.routes.len(),
        "services": config.services.keys().collect::<Vec<_>>(),
        "legacy_services": config.legacy.services.keys().collect::<Vec<_>>(),
        "conf": config.conf_dir,
        "routes_dir": config.routes_dir,
    })
}
