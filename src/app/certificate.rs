//! The certificate of `server.tls`, which is renewed while we run: read again on a reload, and once a
//! minute, since what renews certificates seldom tells anybody.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::StartError;
use crate::config::{CertifiedPair, ServerConfig};
use crate::pem::{self, Unfit};

/// How often the files are looked at.
pub(super) const LOOK: Duration = Duration::from_secs(60);

/// What new connections are shown.
#[derive(Debug)]
pub(super) struct Certificate {
    written: CertifiedPair,
    current: ArcSwap<CertifiedKey>,
}

impl Certificate {
    /// That of `server.tls`, if it is written.
    pub(super) fn of(server: &ServerConfig) -> Result<Option<Arc<Self>>, StartError> {
        server.tls.as_ref().map(Self::read).transpose()
    }

    /// Reads both files. The error names the one to change.
    fn read(written: &CertifiedPair) -> Result<Arc<Self>, StartError> {
        let current = ArcSwap::from_pointee(certified(written)?);
        Ok(Arc::new(Self { written: written.clone(), current }))
    }

    /// Reads both files again: `Ok(true)` if there is another certificate now. On an error the old one stays.
    pub(super) fn renew(&self) -> Result<bool, StartError> {
        let read = certified(&self.written)?;
        let new = read.cert != self.current.load().cert;
        if new {
            if let Some(fault) = read.cert.first().and_then(pem::out_of_time) {
                tracing::warn!("the new certificate {fault}: browsers refuse it (settings.yaml, server.tls.cert)");
            }
            self.current.store(Arc::new(read));
        }
        Ok(new)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn certified(written: &CertifiedPair) -> Result<CertifiedKey, StartError> {
    // Half of a renewal is an error, too: the other file follows in a moment.
    pem::certified(&written.cert, &written.key).map_err(|unfit| match unfit {
        Unfit::Certificate(reason) => wrong("cert", &written.cert, &reason),
        Unfit::Key(reason) => wrong("key", &written.key, &reason),
    })
}

fn wrong(key: &str, path: &Path, reason: &str) -> StartError {
    StartError::Engine(format!("{}: {reason} (settings.yaml, server.tls.{key})", path.display()))
}
