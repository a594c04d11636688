//! Loopback doors, and the thread that serves them with a runtime of its own.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use axum::Router;
use tokio::sync::oneshot;

/// A port that we hold. Always 127.0.0.1: nothing of the demo is reachable from another machine.
#[derive(Debug)]
pub struct Door(TcpListener, u16);

impl Door {
    /// 0: a free one.
    fn open(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .map_err(|error| io::Error::new(error.kind(), format!("127.0.0.1:{port}: {error}")))?;
        let port = listener.local_addr()?.port();
        Ok(Self(listener, port))
    }
}

/// Ports of the parts, on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The development provider.
    pub provider: u16,
    /// The analytics service.
    pub analytics: u16,
    /// The crud service.
    pub crud: u16,
    /// The legacy service.
    pub legacy: u16,
    /// The page.
    pub page: u16,
}

impl Ports {
    /// Whichever are free.
    pub const ANY: Self = Self { provider: 0, analytics: 0, crud: 0, legacy: 0, page: 0 };

    /// Five in a row.
    pub fn from(first: u16) -> io::Result<Self> {
        let at = |offset| first.checked_add(offset).filter(|_| first > 0);
        let five = || Some(Self { provider: at(0)?, analytics: at(1)?, crud: at(2)?, legacy: at(3)?, page: at(4)? });
        five().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{first}: no five ports from there")))
    }
}

/// The doors of all parts.
#[derive(Debug)]
pub struct Doors {
    /// The development provider.
    pub provider: Door,
    /// The analytics service.
    pub analytics: Door,
    /// The crud service.
    pub crud: Door,
    /// The legacy service.
    pub legacy: Door,
    /// The page.
    pub page: Door,
}

impl Doors {
    /// Opens them; the error names the port that could not be had.
    pub fn open(ports: Ports) -> io::Result<Self> {
        Ok(Self {
            provider: Door::open(ports.provider)?,
            analytics: Door::open(ports.analytics)?,
            crud: Door::open(ports.crud)?,
            legacy: Door::open(ports.legacy)?,
            page: Door::open(ports.page)?,
        })
    }

    /// What was opened.
    pub fn ports(&self) -> Ports {
        Ports {
            provider: self.provider.1,
            analytics: self.analytics.1,
            crud: self.crud.1,
            legacy: self.legacy.1,
            page: self.page.1,
        }
    }
}

/// Where the proxy can listen: `preferred` if it can be had, on IPv4 and, where there is one, IPv6
/// loopback, as `localhost` may be either. Found, not held: the proxy opens them itself.
pub fn find_public(preferred: u16) -> io::Result<Vec<SocketAddr>> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    // A port that is free on IPv4 may be taken on IPv6, so one more attempt may not be enough.
    for port in [preferred, 0, 0, 0, 0] {
        match try_public(port) {
            Ok(addresses) => return Ok(addresses),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn try_public(port: u16) -> io::Result<Vec<SocketAddr>> {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let addresses = on_loopback(v4.local_addr()?.port());
    for address in addresses.iter().filter(|address| address.is_ipv6()) {
        TcpListener::bind(address)?;
    }
    Ok(addresses)
}

/// This port on IPv4 and, where there is one, IPv6 loopback.
pub fn on_loopback(port: u16) -> Vec<SocketAddr> {
    let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let v4 = (Ipv4Addr::LOCALHOST, port).into();
    if has_v6 { vec![v4, (Ipv6Addr::LOCALHOST, port).into()] } else { vec![v4] }
}

/// A free address for the proxy's metrics; found, not held.
pub fn find_admin() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Serves until `stopped` is told or forgotten; open streams end with it.
pub fn serve(servers: Vec<(Door, Router)>, stopped: oneshot::Receiver<()>) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (Door(listener, port), router) in servers {
        listener.set_nonblocking(true)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        runtime.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(port, %error, "A service of the demo ended");
            }
        });
    }
    thread::Builder::new().name("demo".to_owned()).spawn(move || {
        let _ = runtime.block_on(stopped);
        runtime.shutdown_background();
    })
}
