//! From a `target_service` to the address the engine dials: built once at start, resolved while running.

mod addresses;
mod cause;
mod deadline;
mod reach;
mod severable;
mod tls;
mod unread;
mod waited_for;
mod ws_frames;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::CertKey;

use crate::config::ServiceConfig;
use crate::resilience::RetryBudget;
use addresses::Addresses;
use severable::Dial;
use unread::UNREAD;

pub use cause::cause_of;
pub use deadline::{Deadline, Turn};
pub use reach::Unreachable;
pub use severable::{Severable, WebSocketTimeouts, close_code};
pub use unread::bound_unread;
pub use waited_for::waits_for_client;
pub use ws_frames::{FrameCursor, close_frame};

/// How long an unused connection to a service is kept: below the shortest keep-alive that common
/// servers have (Node and uvicorn close after 5 s), so that a POST never meets a dying connection.
const POOLED_IDLE: Duration = Duration::from_secs(4);

/// The gap a stream may have before it counts as dead.
const STREAM_GAP: Duration = Duration::from_secs(3600);

/// Severable connections dialled so far: each is a pool of its own.
static DIALLED: AtomicU64 = AtomicU64::new(0);

/// A service as built from its configuration. Shared as `Arc<Upstream>`.
pub struct Upstream {
    /// `target_service`.
    pub name: Arc<str>,
    /// What goes into `Host`.
    pub authority: HeaderValue,
    /// Path of the base URL without its trailing slash; prefixes every upstream path.
    pub base_path: String,
    /// First byte, and, of an answer that does not stream, between bytes and the whole.
    pub timeout: Duration,
    /// What may be sent a second time.
    pub retries: RetryBudget,
    connect_timeout: Duration,
    addresses: Addresses,
    tls: bool,
    server_name: String,
    ca: Option<Arc<CaType>>,
    client_cert: Option<Arc<CertKey>>,
    pool_key: u64,
    /// The engine takes an HTTP/1.1 connection that it finds, also where HTTP/2 would be had.
    grpc_pool_key: u64,
}

/// What is special about the connection for one request.
#[derive(Debug)]
pub struct Call {
    /// Its answer may be silent for long.
    pub streaming: bool,
    /// Its answer has a `Deadline`: nothing else need time it.
    pub timed: bool,
    /// It is told in HTTP/2, which HTTP/1.1 has no words for: trailers, both directions at once.
    pub grpc: bool,
    /// Its request has no field that is about the client's connection alone, but for a `Connection` that names none and that
    /// whoever asks takes away: there is nothing to do for the engine.
    pub plain: bool,
    /// What it leaves in its socket is to be bounded before anything is known of the answer.
    pub bounded: bool,
    /// The connection can be cut.
    pub severable: Option<Severable>,
}

/// A service that cannot be built; says which file is wrong.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// A PEM file of `services.*.tls`.
    #[error("service `{service}`: {path}: {reason}")]
    Pem {
        /// The service.
        service: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The base URL names no host.
    #[error("service `{0}`: base_url has no usable host")]
    Host(String),
}

/// The name of a service does not resolve now. May pass.
#[derive(Debug, thiserror::Error)]
#[error("service `{service}`: {host} does not resolve: {reason}")]
pub struct Unresolvable {
    /// The service.
    pub service: String,
    /// The host name.
    pub host: String,
    /// What the resolver said.
    pub reason: String,
}

impl Upstream {
    /// Reads certificates and prepares everything that does not change from request to request.
    pub fn build(name: &str, config: &ServiceConfig) -> Result<Self, UpstreamError> {
        let url = &config.base_url;
        let no_host = || UpstreamError::Host(name.to_owned());
        let host = url.host_str().ok_or_else(no_host)?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().ok_or_else(no_host)?;
        let authority = url.port().map_or_else(
            || url.host_str().unwrap_or_default().to_owned(),
            |port| format!("{}:{port}", url.host_str().unwrap_or_default()),
        );
        let material = tls::read(name, &config.tls)?;
        let mut pool_key = DefaultHasher::new();
        // Two services on one address may trust different authorities: they must not share connections.
        (name, &config.tls.ca, &config.tls.client).hash(&mut pool_key);
        let mut grpc_pool_key = pool_key.clone();
        "grpc".hash(&mut grpc_pool_key);
        Ok(Self {
            name: name.into(),
            authority: HeaderValue::from_str(&authority).map_err(|_| no_host())?,
            base_path: url.path().trim_end_matches('/').to_owned(),
            timeout: config.timeout,
            retries: RetryBudget::new(),
            connect_timeout: config.connect_timeout,
            tls: url.scheme() == "https",
            server_name: config.tls.server_name.clone().unwrap_or_else(|| host.clone()),
            addresses: Addresses::of(host, port),
            ca: material.ca,
            client_cert: material.client_cert,
            pool_key: pool_key.finish(),
            grpc_pool_key: grpc_pool_key.finish(),
        })
    }

    /// Goes on with the addresses that the same service had before a reload: the resolver may be down just now.
    pub fn take_over(&mut self, old: &Self) {
        self.addresses.take_over(&old.addresses);
    }

    /// Whether it knows of its name what `other` knows.
    #[cfg(test)]
    pub(crate) fn knows_what(&self, other: &Self) -> bool {
        self.addresses.are_those_of(&other.addresses)
    }

    /// The peer to dial for one attempt. `attempt` walks through the addresses of a name with several.
    pub async fn peer(&self, attempt: usize, call: Call) -> Result<Box<HttpPeer>, Unresolvable> {
        let Call { streaming, timed, grpc, plain, bounded, severable } = call;
        let address = self.addresses.pick(attempt).await.map_err(|reason| Unresolvable {
            service: self.name.to_string(),
            host: self.addresses.host().to_owned(),
            reason,
        })?;
        let mut peer = HttpPeer::new(address, self.tls, self.server_name.clone());
        peer.group_key = self.pool_key;
        peer.client_cert_key.clone_from(&self.client_cert);
        let options = &mut peer.options;
        options.ca.clone_from(&self.ca);
        options.connection_timeout = Some(self.connect_timeout);
        options.total_connection_timeout = Some(self.connect_timeout);
        options.read_timeout = (!timed).then_some(if streaming { STREAM_GAP.max(self.timeout) } else { self.timeout });
        options.write_timeout = Some(self.timeout);
        if severable.as_ref().is_some_and(|it| it.websocket.is_some()) {
            // It watches both directions at once.
            options.read_timeout = None;
        } else if plain {
            // To look for each of ten fields in vain costs the engine a thirtieth of a request.
            options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
        } else {
            options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        }
        options.idle_timeout = Some(POOLED_IDLE);
        options.tcp_recv_buf = bounded.then_some(UNREAD as usize);
        if grpc {
            // Without TLS nothing is negotiated. One call a connection, as everywhere: a late one has its socket shut.
            options.set_http_version(2, if self.tls { 1 } else { 2 });
            options.max_h2_streams = 1;
            // RFC 9113 §6.9: the engine's own 8 MiB would lie in our memory.
            (options.h2_stream_window_size, options.h2_connection_window_size) = (Some(UNREAD), Some(UNREAD));
            peer.group_key = self.grpc_pool_key;
        }
        if let Some(severable) = severable {
            options.custom_l4 = Some(Arc::new(Dial::new(severable, self.connect_timeout, self.tls)));
            // It is cut with its request: nobody else may be given it, nor it a connection from the pool.
            let mut alone = DefaultHasher::new();
            (peer.group_key, DIALLED.fetch_add(1, Ordering::Relaxed)).hash(&mut alone);
            peer.group_key = alone.finish();
        }
        Ok(Box::new(peer))
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).field("authority", &self.authority).finish_non_exhaustive()
    }
}
