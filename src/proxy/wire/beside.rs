//! Connections beyond `server.max_connections`. Each is told so at its first request, but for one that asks how we
//! are: a liveness probe that fails because we are busy would have the process restarted, and with it everybody's
//! connections. Only so many are heard at once, and not for long.

use std::time::Duration;

use bytes::BytesMut;
use pingora::apps::HttpServerApp;
use pingora::protocols::Ssl as _;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::idle::Idle;
use super::line::Line;
use super::{ALPN, Arrival, Door, refusal};
use crate::endpoints::Endpoint;
use crate::reply::ProxyError;

/// In which the first request must have come. A probe sends it with the connection.
const HEARING: Duration = Duration::from_millis(500);
/// The same while too many are heard: what comes with the connection is found.
const GLANCE: Duration = Duration::from_millis(10);
/// In which it must be answered, the store asked included.
const ANSWERING: Duration = Duration::from_secs(3);

/// The places of those who have none.
#[derive(Debug)]
pub(super) struct Beside {
    /// Whose first request is awaited or answered.
    heard: Semaphore,
    /// The same, where it must be there already.
    glanced: Semaphore,
    /// Who has been told, and gets a moment to read it.
    leaving: Semaphore,
}

impl Beside {
    pub(super) fn new(places: usize) -> Self {
        Self { heard: Semaphore::new(places), glanced: Semaphore::new(places * 2), leaving: Semaphore::new(places) }
    }
}

impl<P> Door<P>
where
    HttpProxy<P>: HttpServerApp + Send + Sync + 'static,
{
    /// Answers one request of a connection for which there is no place.
    pub(super) async fn turn_away(&self, mut line: Box<Line>) {
        let mut error = ProxyError::TooManyConnections;
        let early = self.beside.heard.try_acquire();
        let (waits, patience) = if early.is_ok() { (true, HEARING) } else { (false, GLANCE) };
        let Ok(place) = early.or_else(|_full| self.beside.glanced.try_acquire()) else {
            return self.dismiss(line, None, &error).await;
        };
        line.stand_beside();
        if matches!(line.selected_alpn_proto(), Some(ALPN::H2)) {
            if waits {
                self.attend_frames(line).await;
            }
            // Else without a word: there is none before the frames of both ends.
            return;
        }
        let mut idle = Idle::new(HEARING * 2);
        let mut asked = None;
        match timeout(patience, self.arrival(&mut line, &mut idle, true)).await {
            Ok(Arrival::Gone) if line.ended() => return,
            Ok(Arrival::Http2) if waits => return self.attend_frames(line).await,
            Ok(Arrival::Http2) => return,
            Ok(Arrival::Request(head)) if line.is_free() && asks_for_health(&head) => {
                return self.attend(line, head).await;
            }
            Ok(Arrival::Request(head)) => asked = Some(head),
            Ok(Arrival::Refused(other)) => error = other,
            Ok(Arrival::Gone) | Err(_) => {}
        }
        drop(place);
        self.dismiss(line, asked, &error).await;
    }

    async fn dismiss(&self, mut line: Box<Line>, asked: Option<BytesMut>, error: &ProxyError) {
        if matches!(line.selected_alpn_proto(), Some(ALPN::H2)) {
            return;
        }
        let stays = self.beside.leaving.try_acquire();
        refusal::refuse(&self.bff.gateway(), &mut line, asked.as_deref(), error, stays.is_ok()).await;
    }

    async fn attend(&self, line: Box<Line>, head: BytesMut) {
        let mut session = ServerSession::new_http1(line);
        session.set_pipelined_prefix(head);
        let _ = timeout(ANSWERING, self.engine.process_new_http(session, &at_once())).await;
    }

    async fn attend_frames(&self, mut line: Box<Line>) {
        let served = async {
            if self.preface_comes(&mut line).await {
                self.serve_frames(line, &at_once()).await;
            }
        };
        let _ = timeout(ANSWERING, served).await;
    }
}

/// For the engine we stop already: on HTTP/2 it says GOAWAY first, and answers what is on its way (RFC 9113 §6.8).
fn at_once() -> ShutdownWatch {
    watch::channel(true).1
}

/// Whether a request, read strictly before, is for one of the paths that say how we are.
fn asks_for_health(head: &[u8]) -> bool {
    let mut words = head.split(|byte| matches!(byte, b' ' | b'\r'));
    let reads = matches!(words.next(), Some(b"GET" | b"HEAD"));
    let target = words.next().unwrap_or_default().split(|byte| *byte == b'?').next().unwrap_or_default();
    reads && std::str::from_utf8(target).ok().and_then(Endpoint::at).is_some_and(Endpoint::is_health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_known_by_its_first_line() {
        for (line, is) in [
            ("GET /health/live HTTP/1.1", true),
            ("HEAD /health/ready?x HTTP/1.0", true),
            ("GET /health HTTP/1.1", true),
            ("POST /health/live HTTP/1.1", false),
            ("GET /health/livelier HTTP/1.1", false),
            ("GET /x?/health/live HTTP/1.1", false),
            ("GET /auth/session HTTP/1.1", false),
            ("GET", false),
        ] {
            assert_eq!(asks_for_health(format!("{line}\r\nHost: h\r\n\r\n").as_bytes()), is, "{line}");
        }
    }
}
