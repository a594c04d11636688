//! The public listening sockets, bound here because the engine has no words for an option that each accepted connection
//! inherits: how much the kernel keeps of what a client does not read.

use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd as _;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::server::{ListenFds, RuntimeOpts, ShutdownWatch};
use pingora::services::Service as Serves;
use pingora::services::listening::Service;
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of an answer that the kernel takes beyond those under way to the client (`TCP_NOTSENT_LOWAT`, tcp(7)). Without a
/// bound it takes 4 MiB for a client that reads nothing.
const UNSENT: u32 = 128 * 1024;

/// A service of the engine's whose addresses are bound here.
pub struct Listening<A> {
    service: Service<A>,
    addresses: Vec<SocketAddr>,
}

impl<A> Listening<A> {
    pub(super) fn new(service: Service<A>, addresses: Vec<SocketAddr>) -> Self {
        Self { service, addresses }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> Serves for Listening<A> {
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, listeners_per_fd: usize) {
        if let Some(fds) = &fds {
            let mut known = fds.lock();
            for address in &self.addresses {
                let name = address.to_string();
                // One that is there came from the process before us. One that is taken the engine tries for half a minute.
                if known.get(&name).is_none()
                    && let Ok(socket) = bind(*address)
                {
                    known.add(name, socket.into_raw_fd());
                }
            }
        }
        self.service.start_service(fds, shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }

    fn runtime_opts_override(&self, global: &RuntimeOpts) -> Option<RuntimeOpts> {
        self.service.runtime_opts_override(global)
    }

    /// An engine that takes sockets over closes those that no service names.
    fn listen_addresses(&self) -> Option<Vec<String>> {
        self.service.listen_addresses()
    }
}

/// As the engine does it, which listens on it.
fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
