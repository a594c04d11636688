//! Ports that are this process's own, also beside other tests, measurements and whatever else runs on the machine.

use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;

/// Those taken, each with the name that holds it until this process ends.
static TAKEN: Mutex<Vec<(u16, UnixDatagram)>> = Mutex::new(Vec::new());

/// A port nobody listens on, and nobody else is given.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of so many in a row.
pub fn free_ports(count: u16) -> u16 {
    let ports = not_the_kernels();
    let mut taken = TAKEN.lock().unwrap();
    // Not where another process begins, and not again where an old connection may rest.
    let start = taken.last().map_or_else(|| spread(&ports), |(port, _)| port + 1);
    let last = *ports.end() - count;
    for first in (start..=last).chain(*ports.start()..=last) {
        let held: Option<Vec<_>> = (first..first + count).map(hold).collect();
        if let Some(held) = held {
            taken.extend(held);
            return first;
        }
    }
    panic!("no port is left in {ports:?}");
}

/// Those that the kernel gives neither to a connection nor to whoever asks for any port.
fn not_the_kernels() -> RangeInclusive<u16> {
    const LOWEST: u16 = 10_000;
    let told = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = told.split_whitespace().map(|word| word.parse::<u16>().unwrap());
    let (low, high) = (bounds.next().unwrap_or(32_768), bounds.next().unwrap_or(60_999));
    if low >= LOWEST + 1_000 { LOWEST..=low - 1 } else { high..=u16::MAX }
}

/// Somewhere in the first three quarters, by the process id.
fn spread(ports: &RangeInclusive<u16>) -> u16 {
    let width = u32::from(ports.end() - ports.start()) * 3 / 4;
    let step = std::process::id().wrapping_mul(389) % width.max(1);
    ports.start() + u16::try_from(step).unwrap()
}

/// A name that one process at a time has on this machine, as a port; no file that could be left behind.
fn hold(port: u16) -> Option<(u16, UnixDatagram)> {
    let name = SocketAddr::from_abstract_name(format!("pingora-bff test port {port}")).unwrap();
    let held = UnixDatagram::bind_addr(&name).ok()?;
    TcpListener::bind(("0.0.0.0", port)).ok()?;
    Some((port, held))
}
