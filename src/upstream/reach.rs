//! Whether a service can be reached at this moment, found out as a request would: its name, a
//! connection, TLS. No request is sent.

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
    /// Somebody answers, with TLS that `base_url` does not ask for.
    #[error("it speaks TLS there: https instead of http?")]
    OnlyTls,
    /// Somebody answers, with something else than TLS.
    #[error("it speaks no TLS there: http instead of https?")]
    NoTls,
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
        let call = Call { streaming: false, timed: false, grpc: false, plain: false, bounded: true, severable: None };
        let peer = self.peer(attempt, call).await.map_err(|error| Unreachable::Name(error.reason))?;
        let Some(address) = peer.address().as_inet().copied() else {
            return Err(Unreachable::Name("no address".to_owned()));
        };
        self.connect(address).await?;
        if self.tls {
            self.shake_hands(&peer).await?;
        } else if self.answers_tls(address).await {
            return Err(Unreachable::OnlyTls);
        }
        Ok(address)
    }

    /// Whether a greeting of TLS is answered with TLS. To a service of plain HTTP it is no request, whatever it makes of it.
    async fn answers_tls(&self, address: SocketAddr) -> bool {
        let mut peer = HttpPeer::new(address, true, self.server_name.clone());
        peer.options.verify_cert = false;
        peer.options.verify_hostname = false;
        // One that waits for the rest of a request says nothing.
        peer.options.total_connection_timeout = Some(OBJECTION);
        match TransportConnector::new(None).new_stream(&peer).await {
            Ok(_stream) => true,
            Err(error) => cause_of(&error).contains("fatal alert"),
        }
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
        if matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout) {
            return Err(Unreachable::Tls(format!("no answer within {}s", self.connect_timeout.as_secs_f32())));
        }
        let cause = cause_of(&error);
        if cause.contains("InvalidContentType") {
            return Err(Unreachable::NoTls);
        }
        Err(Unreachable::Tls(cause.strip_prefix("invalid peer certificate: ").unwrap_or(&cause).to_owned()))
    }
}
