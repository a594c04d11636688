//! `pingora-bff demo`: everything a newcomer needs, embedded and on loopback. A development
//! provider, services that echo, a page to press buttons on, and the ordinary configuration that
//! ties them to the proxy.

mod config;
mod listen;
mod page;
mod provider;
mod services;

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use tokio::sync::oneshot;

use crate::config::Secret;
use crate::crypto::draw_text;
use crate::resilience::{Clock, SystemClock};
use config::Addresses;
use listen::{Doors, Ports};
use provider::{Client, Keys, Provider};
use services::Service;

/// The port that the browser sees, unless another is asked for.
pub const PORT: u16 = 8080;

/// The first of the five ports that a printed configuration names.
pub const FIRST_PORT: u16 = 9180;

/// The metrics' port in a printed configuration: the program's own default.
const ADMIN_PORT: u16 = 9090;

/// The client secret of a printed configuration. It opens nothing but a provider that takes any password.
const PRINTED_SECRET: &str = "demo-only-replace-me";

/// Provider, services and page. Dropping this ends them.
#[derive(Debug)]
pub struct Parts {
    addresses: Addresses,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A running demo, but for the proxy: start that from [`Running::conf_dir`] and
/// [`Running::routes_dir`]. Dropping this ends the parts and removes the folder.
#[derive(Debug)]
pub struct Running {
    parts: Parts,
    dir: PathBuf,
}

/// Starts the parts on free loopback ports and writes the configuration into a private folder.
/// `port`: what the browser shall see; if it is taken, a free one is found. Returns when they listen.
pub fn start(port: u16) -> io::Result<Running> {
    let doors = Doors::open(Ports::ANY)?;
    let secret = Secret::new(draw_text().map_err(io::Error::other)?);
    let addresses = Addresses::new(listen::find_public(port)?, listen::find_admin()?, doors.ports(), secret);
    let running = Running { parts: serve(doors, addresses)?, dir: private_dir()? };
    config::write(&running.dir, &running.parts.addresses)?;
    Ok(running)
}

/// Starts the parts alone, where the configuration that [`print()`] writes looks for them.
/// `port`: the proxy's. A port that is taken is an error.
pub fn start_parts(port: u16, first: u16) -> io::Result<Parts> {
    serve(Doors::open(Ports::from(first)?)?, printed(port, first)?)
}

/// Writes the configuration for a proxy on `port` and parts on five ports from `first` on; starts
/// nothing. A file that is already there is an error (`AlreadyExists`) and stays as it is.
pub fn print(dir: &Path, port: u16, first: u16) -> io::Result<()> {
    config::write(dir, &printed(port, first)?)
}

fn printed(port: u16, first: u16) -> io::Result<Addresses> {
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
    Ok(Addresses::new(listen::on_loopback(port), admin, Ports::from(first)?, Secret::new(PRINTED_SECRET)))
}

fn serve(doors: Doors, addresses: Addresses) -> io::Result<Parts> {
    let (stop, stopped) = oneshot::channel();
    let thread = listen::serve(build(doors, &addresses)?, stopped)?;
    Ok(Parts { addresses, stop: Some(stop), thread: Some(thread) })
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
        (doors.analytics, services::analytics::router(analytics)),
        (doors.crud, services::plain(crud)),
        (doors.legacy, services::legacy::router(legacy)),
        (doors.page, page::router()),
    ])
}

/// A folder that nobody else can read: the client secret lies in it.
fn private_dir() -> io::Result<PathBuf> {
    let name: String = draw_text().map_err(io::Error::other)?.chars().take(12).collect();
    let dir = std::env::temp_dir().join(format!("pingora-bff-demo-{name}"));
    DirBuilder::new().mode(0o700).create(&dir)?;
    Ok(dir)
}

impl Parts {
    /// Name and base URL of each part, a line each.
    pub fn listing(&self) -> String {
        let Addresses { issuer, analytics, crud, legacy, page, .. } = &self.addresses;
        format!(
            "    provider    {issuer}\n    analytics   {analytics}\n    crud        {crud}\n    \
             legacy      {legacy}\n    page        {page}\n"
        )
    }

    /// What the browser opens once the proxy runs, without a trailing slash.
    pub fn public_url(&self) -> &str {
        &self.addresses.public_url
    }
}

impl Running {
    /// The folder to give to `--conf`.
    pub fn conf_dir(&self) -> PathBuf {
        self.dir.join("conf")
    }

    /// The folder to give to `--routes`.
    pub fn routes_dir(&self) -> PathBuf {
        self.dir.join("routes")
    }

    /// What to tell the person who started it.
    pub fn summary(&self) -> String {
        format!(
            "\n  The demo is ready: open {url}\n\
             \n  Log in as ada or grace, with any password. Then press the buttons and compare\n  \
             what the browser sent with what the service received.\n\
             \n  Behind the proxy, all on loopback:\n{parts}\
             \n  Configuration of this run: {dir}\n  \
             To get one to go on from: pingora-bff demo --print-config DIR\n  \
             Ctrl-C ends everything.\n",
            url = self.parts.public_url(),
            parts = self.parts.listing(),
            dir = self.dir.display(),
        )
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "The demo's temporary configuration could not be removed");
    }
}
