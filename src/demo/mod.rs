//! `pingora-bff demo`: everything a newcomer needs, embedded and on loopback. A development
//! provider, services that echo, a page to press buttons on, and the ordinary configuration that
//! ties them to the proxy.

mod config;
mod listen;
mod page;
mod provider;
mod services;

#[cfg(test)]
mod tests {}

use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use tokio::sync::oneshot;

use crate::config::Secret;
use crate::resilience::{Clock, SystemClock};
use config::Addresses;
use listen::{Doors, find_doors};
use provider::{Client, Keys, Provider};
use services::Service;

/// How the demo is to be started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port that the browser shall see; if it is taken, a free one is found.
    pub port: u16,
    /// Where to write the configuration, and to leave it. `None`: a private folder that ends with the demo.
    pub config_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: 8080, config_dir: None }
    }
}

/// A running demo, but for the proxy: start that from [`Running::conf_dir`] and
/// [`Running::routes_dir`]. Dropping this ends the provider and the services.
#[derive(Debug)]
pub struct Running {
    /// What to open in a browser, without a trailing slash.
    pub public_url: String,
    /// The provider's issuer.
    pub provider_issuer: String,
    /// Name and base URL of each service.
    pub services: Vec<(&'static str, String)>,
    /// The folder that holds `conf/` and `routes/`.
    pub config_dir: PathBuf,
    config_is_ours: bool,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts provider, services and page on free loopback ports and writes the configuration.
/// Returns when they listen.
pub fn start(options: &Options) -> io::Result<Running> {
    let doors = find_doors(options.port)?;
    let addresses = Addresses {
        listen: doors.public.clone(),
        admin_listen: doors.admin,
        public_url: doors.public_url(),
        issuer: doors.provider.url(),
        client_secret: Secret::new(provider::random_id().map_err(io::Error::other)?),
        page: doors.page.url(),
        analytics: doors.analytics.url(),
        crud: doors.crud.url(),
        legacy: doors.legacy.url(),
    };
    let servers = build(doors, &addresses)?;
    let config_dir = match &options.config_dir {
        Some(dir) => dir.clone(),
        None => private_dir()?,
    };
    let mut running = Running {
        public_url: addresses.public_url.clone(),
        provider_issuer: addresses.issuer.clone(),
        services: vec![
            ("analytics", addresses.analytics.clone()),
            ("crud", addresses.crud.clone()),
            ("legacy", addresses.legacy.clone()),
            ("page", addresses.page.clone()),
        ],
        config_dir,
        config_is_ours: options.config_dir.is_none(),
        stop: None,
        thread: None,
    };
    config::write(&running.config_dir, &addresses)?;
    let (stop, stopped) = oneshot::channel();
    running.thread = Some(listen::serve(servers, stopped)?);
    running.stop = Some(stop);
    Ok(running)
}

fn build(doors: Doors, addresses: &Addresses) -> io::Result<Vec<(listen::Door, Router)>> {
    let keys = Arc::new(Keys::generate().map_err(io::Error::other)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let client = Client {
        id: config::CLIENT_ID.to_owned(),
        secret: addresses.client_secret.clone(),
        redirect_uri: format!("{}/auth/callback", addresses.public_url),
        audience: config::OWN_AUDIENCE.to_owned(),
    };
    let resources = [config::OWN_AUDIENCE, config::ANALYTICS_AUDIENCE, config::CRUD_AUDIENCE, config::LEGACY_AUDIENCE];
    let provider = Provider::new(
        addresses.issuer.clone(),
        client,
        resources.map(str::to_owned).to_vec(),
        config::SCOPES.map(str::to_owned).to_vec(),
        Arc::clone(&keys),
        clock,
    );
    let analytics = Service::new("analytics", config::ANALYTICS_AUDIENCE, Arc::clone(&keys));
    let crud = Service::new("crud", config::CRUD_AUDIENCE, Arc::clone(&keys));
    let legacy = Service::new("legacy", config::LEGACY_AUDIENCE, keys);
    Ok(vec![
        (doors.provider, provider::router(Arc::new(provider))),
        (doors.analytics, services::analytics(analytics)),
        (doors.crud, services::plain(crud)),
        (doors.legacy, services::legacy(legacy)),
        (doors.page, page::router()),
    ])
}

/// A folder that nobody else can read: the client secret lies in it.
fn private_dir() -> io::Result<PathBuf> {
    let name: String = provider::random_id().map_err(io::Error::other)?.chars().take(12).collect();
    let dir = std::env::temp_dir().join(format!("pingora-bff-demo-{name}"));
    DirBuilder::new().mode(0o700).create(&dir)?;
    Ok(dir)
}

impl Running {
    /// The folder to give to `--conf`.
    pub fn conf_dir(&self) -> PathBuf {
        self.config_dir.join("conf")
    }

    /// The folder to give to `--routes`.
    pub fn routes_dir(&self) -> PathBuf {
        self.config_dir.join("routes")
    }

    /// What to tell the person who started it.
    pub fn summary(&self) -> String {
        let parts = self.services.iter().fold(String::new(), |mut lines, (name, url)| {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "    {name:<11} {url}");
            lines
        });
        format!(
            "\n  The demo is ready: open {url}\n\
             \n  Log in as ada or grace, with any password. Then press the buttons and compare\n  \
             what the browser sent with what the service received.\n\
             \n  Behind the proxy, all on loopback:\n    {provider:<11} {issuer}\n{parts}\
             \n  Configuration of this run: {dir}\n  \
             To keep a copy to go on from: pingora-bff demo --print-config DIR\n  \
             Ctrl-C ends everything.\n",
            url = self.public_url,
            provider = "provider",
            issuer = self.provider_issuer,
            dir = self.config_dir.display(),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if self.config_is_ours {
            remove(&self.config_dir);
        }
    }
}

fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "The demo's temporary configuration could not be removed");
    }
}
