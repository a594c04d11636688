//! What a measurement stands on: an upstream, a provider's keys, ten thousand logins, and proxies as
//! children of this process. Shared by the bench program and the suite (`tests/suite/cost.rs`; ports, by all of it).

pub mod bare;
pub mod client;
pub mod conf;
pub mod count;
pub mod logins;
pub mod message;
pub mod port;
pub mod process;
pub mod provider;
pub mod request;
pub mod upstream;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

pub use port::free_port;
use provider::Provider;

/// Whether a program is on the path.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The provider and the service that everything is asked of, at one address.
pub fn behind() -> (Provider, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let provider = Provider::new(&format!("http://{}", listener.local_addr().unwrap()));
    let mut answers = upstream::usual();
    provider.publish(&mut answers);
    (provider, upstream::start(listener, answers))
}
