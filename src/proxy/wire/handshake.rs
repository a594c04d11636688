//! TLS handshakes under way: no connection of the door's yet, and bounded all the same, in number and in time. The
//! engine would hold any number of them for a minute each.

use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora::listeners::PreTlsProcess;
use pingora::protocols::GetProxyDigest;
use pingora::protocols::l4::stream::Stream as Socket;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::{Error, ErrorType, Result};

use super::ConnectionLimits;
use crate::upstream::Deadline;

/// Of so many connections, one may be in its handshake.
const SHARE: usize = 4;
const FEWEST: usize = 16;

/// Stands before the handshake of every TLS listener.
pub struct Handshakes {
    under_way: Arc<AtomicUsize>,
    most: usize,
    time: Duration,
}

impl Handshakes {
    /// As many as a quarter of the connections, each within the time of a head.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Self {
        Self { under_way: Arc::default(), most: (limits.connections / SHARE).max(FEWEST), time: limits.head }
    }
}

#[async_trait]
impl PreTlsProcess for Handshakes {
    async fn process(&self, socket: &mut Socket) -> Result<()> {
        let place = Place::take(&self.under_way, Deadline::set(socket.as_raw_fd(), Instant::now() + self.time));
        if place.number > self.most {
            return Error::e_explain(ErrorType::TLSHandshakeFailure, "too many TLS handshakes are under way");
        }
        // The one thing of ours that the engine lets travel with a socket, and drops with it.
        let nobody = Box::new(ResponseHeader::build(200, Some(0))?);
        socket.set_proxy_digest(ProxyDigest::new(nobody, Some(Box::new(Mutex::new(Some(place))))));
        Ok(())
    }
}

/// The handshake of this connection, if it had one, is over.
pub(super) fn over(digest: Option<&ProxyDigest>) {
    let place = digest.and_then(|digest| digest.user_data.as_ref()?.downcast_ref::<Mutex<Option<Place>>>());
    if let Some(place) = place {
        place.lock().take();
    }
}

/// One handshake, from the accepted socket until the door has it or it is gone.
struct Place {
    under_way: Arc<AtomicUsize>,
    number: usize,
    _deadline: Option<Deadline>,
}

impl Place {
    fn take(under_way: &Arc<AtomicUsize>, deadline: Option<Deadline>) -> Self {
        let number = under_way.fetch_add(1, Ordering::Relaxed) + 1;
        Self { under_way: Arc::clone(under_way), number, _deadline: deadline }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
