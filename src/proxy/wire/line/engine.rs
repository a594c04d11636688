//! What the engine asks of any connection.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};

use super::{Beyond, Line};

#[async_trait]
impl Shutdown for Line {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

#[async_trait]
impl Peek for Line {
    /// The preface of HTTP/2 has been read by the time the engine looks for it.
    async fn try_peek(&mut self, into: &mut [u8]) -> io::Result<bool> {
        let Some(here) = self.ahead.get(..into.len()) else { return Ok(false) };
        into.copy_from_slice(here);
        Ok(true)
    }
}

impl UniqueID for Line {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Line {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for Line {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for Line {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        // Nothing else of a connection reaches its requests.
        let mark = || {
            Some(Arc::new(ProxyDigest::new(Box::new(ResponseHeader::build(503, None).ok()?), Some(Box::new(Beyond)))))
        };
        if self.beside { mark() } else { self.inner.get_proxy_digest() }
    }
}

impl GetSocketDigest for Line {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}
