//! `server:` of `settings.yaml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::config::diagnostic::{Collector, Diagnostic};
use crate::config::node::Node;
use crate::config::pem::{certificate_file, check_dates, key_file, pair};
use crate::config::reader::{Located, MapReader, one_or_many, refuse};
use crate::config::scalar::{
    duration, is_loopback, network, positive_duration, quote, size, socket_address, text, url, whole,
};
use crate::config::source::Spot;
use crate::config::{CertifiedPair, ServerConfig};

const DRAIN_DELAY: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
const WEBSOCKET_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Below the slowest link that people still wait for.
const MIN_BODY_RATE: u64 = 240;

/// `None` only where the public URL cannot be known.
pub(super) fn read_server(node: &Node, found: &Collector) -> Option<ServerConfig> {
    let mut map = MapReader::new(node, found)?;
    let listen = map.field("listen", |node, found| one_or_many(node, found, located_address));
    let listen_spot = map.key_spot("listen").unwrap_or(&map.spot).clone();
    let admin = map.located("admin_listen", socket_address);
    let public_url = map.located("public_url", origin_url);
    let public_written = map.key_spot("public_url").is_some();
    let tls = map.located("tls", read_tls);
    let tls_written = map.key_spot("tls").is_some();
    let trusted_written = map.node("trusted_proxies").is_some();
    let trusted = map.field("trusted_proxies", |node, found| one_or_many(node, found, trusted_network));
    let shutdown_grace = map.field("shutdown_grace", duration).unwrap_or(Duration::from_secs(30));
    let drain_delay = map.located("drain_delay", duration);
    let upgrade_sock = map.field("upgrade_sock", socket_path);
    let threads = map.field("threads", whole(1..=1024)).and_then(|threads| usize::try_from(threads).ok());
    let idle_timeout = map.field("idle_timeout", positive_duration).unwrap_or(IDLE_TIMEOUT);
    let header_timeout = map.field("header_timeout", positive_duration).unwrap_or(HEADER_TIMEOUT);
    let body_timeout = map.field("body_timeout", positive_duration).unwrap_or(BODY_TIMEOUT);
    let min_body_rate = map.field("min_body_rate", whole(0..=1_000_000_000)).unwrap_or(MIN_BODY_RATE);
    let max_connections = map.field("max_connections", whole(1..=10_000_000));
    let max_memory = map.field("max_memory", size).filter(|bytes| *bytes > 0);
    let websocket_idle_timeout = map.field("websocket_idle_timeout", duration).unwrap_or(WEBSOCKET_IDLE_TIMEOUT);
    let spot = map.spot.clone();
    map.finish();

    let listen_given = listen.is_some();
    let listen = listen.unwrap_or_else(|| vec![Located { value: loopback(8080), spot: listen_spot.clone() }]);
    if listen.is_empty() && listen_given {
        found.push(Diagnostic::error(&listen_spot, "`listen` names no address").label("at least one is needed"));
    }
    let admin = admin.unwrap_or_else(|| Located { value: loopback(9090), spot: spot.clone() });
    check_addresses(&listen, &admin, found);
    let in_front = tls_written || trusted.as_ref().map_or(trusted_written, |trusted| !trusted.is_empty());
    let public_url = match public_url {
        Some(written) => {
            check_public_url(&written, tls.as_ref().map(|tls| &tls.spot), in_front, &listen, found);
            Some(written.value)
        }
        None if public_written => None,
        None => default_url(listen.first().map(|address| address.value), tls_written, &spot, found),
    };
    let listen: Vec<SocketAddr> = listen.into_iter().map(|address| address.value).collect();
    Some(ServerConfig {
        upgrade_sock: upgrade_sock.unwrap_or_else(|| default_upgrade_sock(listen.first())),
        listen,
        admin_listen: admin.value,
        public_url: public_url?,
        tls: tls.map(|tls| tls.value),
        trusted_proxies: trusted.unwrap_or_default(),
        shutdown_grace,
        drain_delay: within_grace(drain_delay.as_ref(), shutdown_grace, found),
        threads: threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        idle_timeout,
        header_timeout,
        body_timeout,
        min_body_rate,
        max_connections: max_connections.and_then(|most| usize::try_from(most).ok()),
        max_memory,
        websocket_idle_timeout: Some(websocket_idle_timeout).filter(|timeout| !timeout.is_zero()),
    })
}

fn within_grace(delay: Option<&Located<Duration>>, grace: Duration, found: &Collector) -> Duration {
    let Some(delay) = delay else { return DRAIN_DELAY.min(grace / 2) };
    if !delay.value.is_zero() && delay.value >= grace {
        let error = Diagnostic::error(&delay.spot, "`drain_delay` leaves nothing of `shutdown_grace`");
        let label = format!("must be less than {} s, or 0", grace.as_secs_f64());
        found.push(error.label(label).note("requests in flight have what remains of the grace to finish"));
    }
    delay.value
}

/// A path that a socket can be bound to: `sun_path` of unix(7) has room for 107 bytes.
fn socket_path(node: &Node, found: &Collector) -> Option<PathBuf> {
    let path = text(node, found)?;
    if path.len() > 107 {
        return refuse(node, found, format!("{} is no path of a socket", quote(&node.spot, &path)), "1 to 107 bytes");
    }
    Some(PathBuf::from(path))
}

/// One for each public port of this machine, in a folder of its own: whoever can reach it gets the sockets.
fn default_upgrade_sock(listen: Option<&SocketAddr>) -> PathBuf {
    let port = listen.map_or(0, SocketAddr::port);
    std::env::temp_dir().join(format!("pingora-bff-{port}")).join("upgrade.sock")
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn located_address(node: &Node, found: &Collector) -> Option<Located<SocketAddr>> {
    socket_address(node, found).map(|value| Located { value, spot: node.spot.clone() })
}

/// Everybody on the list can name any client address: believing the whole internet is hardly meant.
fn trusted_network(node: &Node, found: &Collector) -> Option<ipnet::IpNet> {
    let read = network(node, found)?;
    if read.prefix_len() == 0 {
        let warning = Diagnostic::warning(&node.spot, "every client is believed what it says about its own address");
        found.push(warning.label("name the networks of your load balancers only"));
    }
    Some(read)
}

/// Two listeners that would want the same port of the same address.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let overlap = one.ip() == other.ip() || (same_family && (one.ip().is_unspecified() || other.ip().is_unspecified()));
    one.port() != 0 && one.port() == other.port() && overlap
}

fn check_addresses(listen: &[Located<SocketAddr>], admin: &Located<SocketAddr>, found: &Collector) {
    for (index, address) in listen.iter().enumerate() {
        if listen.iter().take(index).any(|earlier| collide(earlier.value, address.value)) {
            found.push(Diagnostic::error(&address.spot, format!("`{}` is listened on twice", address.value)));
        }
    }
    if let Some(public) = listen.iter().find(|public| collide(public.value, admin.value)) {
        let message = format!("`admin_listen` {} is the same port as `listen` {}", admin.value, public.value);
        let label = "metrics and status must not be reachable on a public port: choose another";
        found.push(Diagnostic::error(&admin.spot, message).label(label));
    }
}

/// An origin the browser may use: scheme, host, port, and nothing else.
fn origin_url(node: &Node, found: &Collector) -> Option<Url> {
    let url = url(node, found)?;
    if url.path() != "/" {
        // With an `@` in the path, its host and port may be the beginning of a password.
        let label = if url.path().contains('@') {
            String::new()
        } else {
            format!("write `{}`; a path cannot be part of it", url.origin().ascii_serialization())
        };
        return refuse(node, found, format!("{} is not an origin", quote(&node.spot, url.as_str())), label);
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        let error = Diagnostic::error(&node.spot, "`public_url` must be https beyond this machine");
        let error =
            error.label("over plain http the session cookie could not be `Secure`: anyone on the way could take it");
        found.push(error.note("plain http is accepted for localhost, 127.0.0.0/8 and [::1] only"));
        return None;
    }
    Some(url)
}

fn check_tls(public_url: &Located<Url>, tls: Option<&Spot>, found: &Collector) {
    if let Some(tls) = tls.filter(|_| public_url.value.scheme() == "http") {
        // No error: what is in front may still be spoken to over http, and it is on this machine.
        let warning = Diagnostic::warning(&public_url.spot, "`public_url` is http although `server.tls` is set");
        let warning = warning.label("browsers that see https are sent to http, and their `Origin` is a foreign one");
        found.push(warning.note(format!("`tls` is written at {}", tls.place())));
    }
}

/// Whether browsers that go there come here; `in_front`: whom they meet first is written.
fn check_public_url(
    public_url: &Located<Url>,
    tls: Option<&Spot>,
    in_front: bool,
    listen: &[Located<SocketAddr>],
    found: &Collector,
) {
    check_tls(public_url, tls, found);
    if !in_front {
        check_balancer(public_url, found);
        check_port(public_url, listen, found);
    }
}

/// Browsers that come with https have met somebody else first, whom nobody believes what it says of them.
fn check_balancer(public_url: &Located<Url>, found: &Collector) {
    if public_url.value.scheme() == "https" {
        let message = "`public_url` is https, and neither `server.tls` nor `server.trusted_proxies` is written";
        let warning = Diagnostic::warning(&public_url.spot, message);
        let warning = warning.label("name who ends TLS in front of this program in `trusted_proxies`");
        found
            .push(warning.note(
                "else services are told `X-Forwarded-Proto: http`, and a `rate_limit` counts all clients as one",
            ));
    }
}

/// Browsers are sent to the port of `public_url`, and their `Origin` has it.
fn check_port(public_url: &Located<Url>, listen: &[Located<SocketAddr>], found: &Collector) {
    let Some(port) = public_url.value.port_or_known_default() else { return };
    let heard = |address: &Located<SocketAddr>| [0, port].contains(&address.value.port());
    if public_url.value.scheme() == "http" && !listen.iter().any(heard) {
        let message = format!("`public_url` has port {port}, and `listen` has not");
        let warning = Diagnostic::warning(&public_url.spot, message);
        let warning = warning.label("logins come back to this port");
        let note =
            "where a proxy listens there, name it in `trusted_proxies`; a mapped port (`-p 3000:8080`) needs nothing";
        found.push(warning.note(note));
    }
}

/// Only a loopback listener tells what the browser will see.
fn default_url(listen: Option<SocketAddr>, tls: bool, spot: &Spot, found: &Collector) -> Option<Url> {
    let local = listen.filter(|address| address.ip().is_loopback() && !tls);
    let url = local.and_then(|address| Url::parse(&format!("http://localhost:{}", address.port())).ok());
    if url.is_none() {
        let error = Diagnostic::error(spot, "the key `server.public_url` is missing");
        found.push(error.label("what browsers see, e.g. `https://app.example.com`"));
    }
    url
}

fn read_tls(node: &Node, found: &Collector) -> Option<CertifiedPair> {
    let mut map = MapReader::new(node, found)?;
    let cert = map.required("cert", certificate_file);
    let key = map.required("key", key_file);
    map.finish();
    if let Some(cert) = &cert {
        check_dates(cert, found);
    }
    Some(pair(cert?.value, key?, found))
}

/// A DNS name, for the places that take neither scheme nor port.
pub(super) fn dns_name(node: &Node, found: &Collector) -> Option<String> {
    let name = text(node, found)?;
    let fits = name.len() <= 253 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if fits { Some(name) } else { refuse(node, found, format!("{} is not a host name", quote(&node.spot, &name)), "") }
}
