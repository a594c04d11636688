//! Whether a service can be reached at this moment, found out as a request would: its name, a
//! connection, TLS. Nothing is sent.

use std::net::SocketAddr;
use std::time::Duration;

use pingora::ErrorType;
use pingora::connectors::TransportConnector;
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::{Call, Upstream, cause_of};

/// What a service gets to object to our certificate after the handshake.
const OBJECTION: Duration = Duration::from_millis(500);

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
        let call = Call { streaming: false, timed: false, grpc: false, plain: false, severable: None };
        let peer = self.peer(attempt, call).await.map_err(|error| Unreachable::Name(error.reason))?;
        let Some(address) = peer.address().as_inet().copied() else {
            return Err(Unreachable::Name("no address".to_owned()));
        };
        self.connect(address).await?;
        if self.tls {
            self.shake_hands(&peer).await?;
        }
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

    /// On a connection of its own, made by the engine with the authorities and names of a request.
    async fn shake_hands(&self, peer: &HttpPeer) -> Result<(), Unreachable> {
        let error = match TransportConnector::new(None).new_stream(peer).await {
            Ok(mut stream) => {
                // RFC 8446 §4.4.2.4: a server that misses our certificate says so only afterwards.
                let word = tokio::time::timeout(OBJECTION, stream.read(&mut [0])).await;
                return match word {
                    Ok(Err(error)) => Err(Unreachable::Tls(error.to_string())),
                    _ => Ok(()),
                };
            }
            Err(error) => error,
        };
        Err(Unreachable::Tls(match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
                format!("no answer within {}s", self.connect_timeout.as_secs_f32())
            }
            _ => what_failed(&error),
        }))
    }
}

/// In the words of whoever has to change something.
fn what_failed(error: &pingora::Error) -> String {
    let cause = cause_of(error);
    if cause.contains("InvalidContentType") {
        return "it answers with something that is no TLS".to_owned();
    }
    cause.strip_prefix("invalid peer certificate: ").unwrap_or(&cause).to_owned()
}
