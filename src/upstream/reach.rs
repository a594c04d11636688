//! Whether a service can be reached at this moment, found out as a request would: its name, a
//! connection, TLS. Nothing is sent.

use std::net::SocketAddr;

use pingora::ErrorType;
use pingora::connectors::TransportConnector;
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use tokio::net::TcpStream;

use super::{Upstream, UpstreamError};

/// What stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The host of `base_url` has no address.
    #[error("its name does not resolve ({0})")]
    Name(String),
    /// Nobody answers at that address.
    #[error("no connection ({0})")]
    Connection(String),
    /// Somebody answers, but not with TLS that is believed.
    #[error("the TLS handshake fails ({0})")]
    Tls(String),
}

impl Upstream {
    /// Connects once to each of the first two addresses until one answers, as requests do.
    pub async fn reach(&self) -> Result<SocketAddr, Unreachable> {
        let first = self.reach_one(0).await;
        match first {
            Err(Unreachable::Connection(_)) => self.reach_one(1).await.or(first),
            other => other,
        }
    }

    async fn reach_one(&self, attempt: usize) -> Result<SocketAddr, Unreachable> {
        let peer = self.peer(false, attempt).await.map_err(|error| match error {
            UpstreamError::Unresolvable { reason, .. } => Unreachable::Name(reason),
            other => Unreachable::Name(other.to_string()),
        })?;
        let Some(address) = peer.address().as_inet().copied() else {
            return Err(Unreachable::Name("no address".to_owned()));
        };
        if self.tls { self.shake_hands(&peer).await? } else { self.connect(address).await? }
        Ok(address)
    }

    async fn connect(&self, address: SocketAddr) -> Result<(), Unreachable> {
        match tokio::time::timeout(self.connect_timeout, TcpStream::connect(address)).await {
            Ok(Ok(_stream)) => Ok(()),
            Ok(Err(error)) => Err(Unreachable::Connection(format!("{address}: {error}"))),
            Err(_elapsed) => {
                let seconds = self.connect_timeout.as_secs_f32();
                Err(Unreachable::Connection(format!("{address}: no answer within {seconds}s")))
            }
        }
    }

    async fn shake_hands(&self, peer: &HttpPeer) -> Result<(), Unreachable> {
        let Err(error) = TransportConnector::new(None).new_stream(peer).await else { return Ok(()) };
        let why = error.cause.as_ref().map_or_else(|| error.etype().as_str().to_owned(), ToString::to_string);
        Err(match error.etype() {
            ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError => Unreachable::Tls(why),
            _ => Unreachable::Connection(format!("{}: {why}", peer.address())),
        })
    }
}
