//! A reload, on SIGHUP: both folders are read again, everything is built beside what runs, then one
//! pointer changes. A request goes on with what it began with. Anything wrong: all of it is refused and
//! the old configuration stays, so that there is never half of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use super::StartError;
use super::build::rebuild;
use super::certificate::{self, Certificate};
use super::housekeeping::warm;
use super::start;
use crate::config::{Config, Findings};
use crate::proxy::{Bff, Gateway};

/// Why the old configuration stays.
#[derive(Debug, Error)]
pub(super) enum Refused {
    /// What `pingora-bff check` says of the files.
    #[error("{0}")]
    Findings(Findings),
    /// Settings that belong to the process.
    #[error("changed, and only a restart or an upgrade can change it: {}", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    /// It reads well and cannot be built.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// How far the thread of a reload stands back (`nice`). Where it shares a core with requests, one in ten of them
/// waited 3 ms for its time slices while 10 000 routes were read; now 0.5 ms, and the reload takes a third longer.
#[cfg(target_os = "linux")]
const STANDS_BACK: i32 = 10;

/// Waits for SIGHUP as long as the server runs, and for another certificate. Has a thread of its own, so
/// that requests do not wait while ten thousand routes are read.
pub(super) struct OnHangup {
    pub(super) bff: Bff,
    pub(super) certificate: Option<Arc<Certificate>>,
}

#[async_trait]
impl BackgroundService for OnHangup {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        // Linux counts it for the calling thread alone, elsewhere it is the process's (setpriority(2)).
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::nice(STANDS_BACK) {
            tracing::debug!(%error, "a reload will not stand back behind requests");
        }
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => return tracing::error!(%error, "SIGHUP cannot be received; a reload needs a restart"),
        };
        if start::take_hangup() {
            self.hung_up();
        }
        let mut look = tokio::time::interval(certificate::LOOK);
        loop {
            tokio::select! {
                _ = hangup.recv() => self.hung_up(),
                _ = look.tick() => self.renew(),
                _ = shutdown.changed() => return,
            }
        }
    }
}

impl OnHangup {
    fn hung_up(&self) {
        let started = Instant::now();
        let reloads = &self.bff.gateway().metrics.config_reloads;
        self.renew();
        match reload(&self.bff) {
            Ok(old) => {
                let now = self.bff.gateway();
                let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(routes = now.config.routes.len(), took_ms, "CONFIG_RELOADED");
                reloads.with_label_values(&["success"]).inc();
                if !Arc::ptr_eq(&old.endpoints.relying_party, &now.endpoints.relying_party) {
                    warm(&now.endpoints.relying_party);
                }
                tokio::spawn(drop_last(old));
            }
            Err(refused) => {
                tracing::error!(reason = %refused, "CONFIG_REFUSED: the configuration in force stays");
                reloads.with_label_values(&["refused"]).inc();
            }
        }
    }

    fn renew(&self) {
        match self.certificate.as_ref().map(|certificate| certificate.renew()) {
            Some(Ok(true)) => tracing::info!("CERTIFICATE_RENEWED"),
            Some(Err(error)) => tracing::error!(%error, "the certificate cannot be read; the old one stays"),
            Some(Ok(false)) | None => {}
        }
    }
}

/// Reads, builds, and changes over. What was in force until now is returned.
fn reload(bff: &Bff) -> Result<Arc<Gateway>, Refused> {
    let old = bff.gateway();
    let environment = |name: &str| std::env::var(name).ok();
    let config = Config::load(&old.config.conf_dir, &old.config.routes_dir, &environment).map_err(Refused::Findings)?;
    let fixed = needs_restart(&old.config, &config);
    if !fixed.is_empty() {
        return Err(Refused::NeedsRestart(fixed));
    }
    Ok(bff.replace(Arc::new(rebuild(config, &old)?)))
}

/// Which sections differ that are built into the process: its sockets, its store, its log, its cache.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut server = old.settings.server.clone();
    server.trusted_proxies.clone_from(&new.settings.server.trusted_proxies);
    let cache = |config: &Config| {
        let legacy = &config.legacy;
        (legacy.cache_enabled, legacy.cache_default_ttl, legacy.cache_max_entries, legacy.cache_max_bytes)
    };
    let sections = [
        ("`server` beyond trusted_proxies (settings.yaml)", server == new.settings.server),
        ("`session` (settings.yaml)", old.settings.session == new.settings.session),
        ("`log` (settings.yaml)", old.settings.log == new.settings.log),
        ("`response_cache` (legacy_services.yaml)", cache(old) == cache(new)),
    ];
    sections.into_iter().filter(|(_, same)| !same).map(|(section, _)| section).collect()
}

/// Lets go of what no request uses any more here, and not on the thread of the request that was last:
/// thousands of routes take milliseconds to free.
async fn drop_last(old: Arc<Gateway>) {
    while Arc::strong_count(&old) > 1 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    drop(old);
}
