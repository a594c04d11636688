//! The door: a client's connection before the engine reads it. The engine takes much that two readers may
//! understand differently, refuses some of it without a word, and waits for ever for the rest. Here each
//! HTTP/1 request is read strictly and in time, and handed over alone; pipelined ones wait (RFC 9112 §9.3.2).

mod beside;
mod extension;
mod framing;
mod h2_frames;
mod handshake;
mod head;
mod idle;
mod line;
mod pace;
mod refusal;
mod request_line;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Ssl as _, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use prometheus::IntGauge;
use tokio::time::{Instant, timeout, timeout_at};

use self::beside::Beside;
use self::head::HeadReader;
use self::idle::Idle;
use self::line::Line;
use super::Bff;
use crate::reply::ProxyError;

pub(in crate::proxy) use self::framing::Malformed;
pub use self::handshake::Handshakes;
pub(crate) use self::head::objection;
pub(in crate::proxy) use self::head::{FIELDS, MISSPELT, ONE_CODING, ONE_HOST, ONE_LENGTH, REQUEST_LINE, is_misspelt};
pub(in crate::proxy) use self::line::Beyond;
pub(in crate::proxy) use self::pace::Pace;
pub(in crate::proxy) use self::request_line::{after_scheme, valid_authority};

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// In which has to come: the rest of a body whose request is answered, the end of TLS, and, once we stop, the first
/// request of a connection that was taken before.
const LINGER: Duration = Duration::from_secs(2);

/// What a connection of a client may take: time, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Without a request: `server.idle_timeout`.
    pub idle: Duration,
    /// From the first byte of a head to its last: `server.header_timeout`.
    pub head: Duration,
    /// Over which a body's pace is averaged, so also its longest pause: `server.body_timeout`.
    pub body: Duration,
    /// Bytes a second at least: `server.min_body_rate`.
    pub rate: u64,
    /// Connections at once: `server.max_connections`.
    pub connections: usize,
    /// Of those beyond, so many are heard at once.
    pub beside: usize,
}

/// The application of the public listeners: `P` is the plugin, or what wraps it.
pub struct Door<P> {
    engine: Arc<HttpProxy<P>>,
    bff: Bff,
    connections: IntGauge,
    beside: Beside,
    limits: ConnectionLimits,
}

/// How the wait for a head ended.
enum Arrival {
    Request(BytesMut),
    Http2,
    /// Nothing to answer.
    Gone,
    Refused(ProxyError),
}

impl<P> Door<P>
where
    HttpProxy<P>: HttpServerApp + Send + Sync + 'static,
{
    /// In front of `engine`.
    #[must_use]
    pub fn new(engine: HttpProxy<P>, bff: Bff, limits: ConnectionLimits) -> Self {
        let connections = bff.gateway().metrics.client_connections.clone();
        Self { engine: Arc::new(engine), bff, connections, beside: Beside::new(limits.beside), limits }
    }

    async fn arrival(&self, line: &mut Line, idle: &mut Idle, first: bool) -> Arrival {
        if line.ahead().is_empty() && !idle.bytes_arrive(line).await {
            return Arrival::Gone;
        }
        // Nearly every head is here at once: then nobody asks what time it is.
        let mut until = None;
        let mut reader = HeadReader::default();
        let prior_knowledge = first && line.get_ssl_digest().is_none();
        loop {
            let bytes = line.ahead();
            let preface = prior_knowledge && bytes.iter().zip(PREFACE).all(|(one, other)| one == other);
            if preface && bytes.len() >= PREFACE.len() {
                return Arrival::Http2;
            }
            if !preface {
                match reader.read(bytes) {
                    Ok(None) => {}
                    Ok(Some(head)) if head.misframed(bytes) => return Arrival::Refused(Malformed.into()),
                    Ok(Some(head)) => {
                        return Arrival::Request(line.begin(head.skip, head.end, head.body, head.upgrade));
                    }
                    Err(error) => return Arrival::Refused(error),
                }
            }
            let until = *until.get_or_insert_with(|| Instant::now() + self.limits.head);
            match timeout_at(until, line.more()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false) | Err(_)) => return Arrival::Gone,
                Err(_late) if reader.begun() => return Arrival::Refused(ProxyError::ClientTimeout),
                Err(_late) => return Arrival::Gone,
            }
        }
    }

    /// One HTTP/1 request after the other.
    async fn serve(&self, mut line: Box<Line>, shutdown: &ShutdownWatch) -> Option<Stream> {
        let mut watch = shutdown.clone();
        // One for all requests: to begin to listen costs more than to go on.
        let mut stopped = pin!(watch.wait_for(|stopping| *stopping));
        let mut kept: Option<HttpPersistentSettings> = None;
        let (mut idle, mut stopping) = (Idle::new(self.limits.idle), false);
        loop {
            let first = kept.is_none();
            let arrival = tokio::select! {
                biased;
                arrival = self.arrival(&mut line, &mut idle, first) => Some(arrival),
                _ = &mut stopped, if !stopping => None,
            };
            let arrival = if let Some(arrival) = arrival {
                arrival
            } else {
                stopping = true;
                // Taken a moment ago, a connection may have its first request on the way.
                timeout(LINGER, self.arrival(&mut line, &mut idle, first)).await.unwrap_or(Arrival::Gone)
            };
            let head = match arrival {
                Arrival::Request(head) => head,
                Arrival::Http2 => return self.serve_frames(line, shutdown).await,
                Arrival::Gone => {
                    // RFC 8446 §6.1: an end without `close_notify` looks like an attack.
                    let _ = timeout(LINGER, tokio::io::AsyncWriteExt::shutdown(&mut line)).await;
                    return None;
                }
                Arrival::Refused(error) => {
                    refusal::refuse(&self.bff.gateway(), &mut line, None, &error, true).await;
                    return None;
                }
            };
            let mut session = ServerSession::new_http1(line);
            match kept {
                Some(settings) => settings.apply_to_session(&mut session),
                None => session.set_keepalive(Some(self.limits.idle.as_secs().max(1))),
            }
            session.set_pipelined_prefix(head);
            let (stream, settings) = self.engine.process_new_http(session, shutdown).await?.consume();
            line = stream.into_any().downcast::<Line>().ok()?;
            kept = settings;
            let free = line.is_free() || timeout(LINGER, line.may_go_on()).await.unwrap_or(false);
            if !free || (line.ended() && line.ahead().is_empty()) {
                return None;
            }
        }
    }

    async fn serve_frames(&self, mut line: Box<Line>, shutdown: &ShutdownWatch) -> Option<Stream> {
        line.speak_frames(self.limits.head);
        self.engine.process_new(line, shutdown).await
    }

    /// The engine would wait for the preface for ever.
    async fn preface_comes(&self, line: &mut Line) -> bool {
        let comes = async {
            while line.ahead().len() < PREFACE.len() {
                if !line.more().await.unwrap_or(false) {
                    return false;
                }
            }
            line.ahead().starts_with(PREFACE)
        };
        timeout(self.limits.head, comes).await.unwrap_or(false)
    }
}

#[async_trait]
impl<P> ServerApp for Door<P>
where
    HttpProxy<P>: HttpServerApp + Send + Sync + 'static,
{
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let seat = Seat::take(&self.connections);
        handshake::over(stream.get_proxy_digest().as_deref());
        let mut line = Box::new(Line::new(stream, self.limits.rate, self.limits.body));
        let frames = matches!(line.selected_alpn_proto(), Some(ALPN::H2));
        if seat.number > self.limits.connections {
            drop(seat);
            // Rare, and large: not a part of everybody's future.
            Box::pin(self.turn_away(line)).await;
            return None;
        }
        if !frames {
            return self.serve(line, shutdown).await;
        }
        if !self.preface_comes(&mut line).await {
            return None;
        }
        self.serve_frames(line, shutdown).await
    }

    async fn cleanup(&self) {
        self.engine.http_cleanup().await;
    }
}

/// A connection's place among all.
struct Seat {
    gauge: IntGauge,
    number: usize,
}

impl Seat {
    fn take(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self { gauge: gauge.clone(), number: usize::try_from(gauge.get()).unwrap_or(usize::MAX) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
