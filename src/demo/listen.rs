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
    fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        Ok(Self(listener, port))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.1)
    }
}

/// All doors of one run. The proxy's own are only found, not held: it opens them itself.
#[derive(Debug)]
pub struct Doors {
    /// Where the proxy shall listen: IPv4 and, where there is one, IPv6 loopback, as `localhost` may be either.
    pub public: Vec<SocketAddr>,
    /// Where its metrics shall be.
    pub admin: SocketAddr,
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
    /// `http://localhost:PORT`.
    pub fn public_url(&self) -> String {
        let port = self.public.first().map_or(0, SocketAddr::port);
        format!("http://localhost:{port}")
    }
}

/// Opens the services' doors and finds two free ports for the proxy, `preferred` if it can be had.
pub fn find_doors(preferred: u16) -> io::Result<Doors> {
    let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let doors = Doors {
        public: find_public(preferred, has_v6)?,
        admin: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?,
        provider: Door::open()?,
        analytics: Door::open()?,
        crud: Door::open()?,
        legacy: Door::open()?,
        page: Door::open()?,
    };
    Ok(doors)
}

fn find_public(preferred: u16, has_v6: bool) -> io::Result<Vec<SocketAddr>> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    // A port that is free on IPv4 may be taken on IPv6, so one more attempt may not be enough.
    for port in [preferred, 0, 0, 0, 0] {
        match try_public(port, has_v6) {
            Ok(addresses) => return Ok(addresses),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn try_public(port: u16, has_v6: bool) -> io::Result<Vec<SocketAddr>> {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut addresses = vec![v4.local_addr()?];
    if has_v6 {
        let port = v4.local_addr()?.port();
        addresses.push(TcpListener::bind((Ipv6Addr::LOCALHOST, port))?.local_addr()?);
    }
    Ok(addresses)
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
