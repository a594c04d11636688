//! The addresses behind a host name. The engine would resolve names blocking and panic when there
//! is none, so names are resolved here, remembered for a while, and the last good answer outlives
//! a resolver that is down.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer is used before the resolver is asked again.
const REMEMBERED: Duration = Duration::from_secs(15);
/// How long a resolver may take.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) enum Addresses {
    Fixed { host: String, address: SocketAddr },
    Named { host: String, port: u16, known: Mutex<Option<Known>> },
}

#[derive(Debug, Clone)]
pub(super) struct Known {
    addresses: Vec<SocketAddr>,
    since: Instant,
}

impl Addresses {
    pub(super) fn of(host: String, port: u16) -> Self {
        match host.parse::<IpAddr>() {
            Ok(address) => Self::Fixed { host, address: SocketAddr::new(address, port) },
            Err(_) => Self::Named { host, port, known: Mutex::new(None) },
        }
    }

    pub(super) fn host(&self) -> &str {
        match self {
            Self::Fixed { host, .. } | Self::Named { host, .. } => host,
        }
    }

    /// One address; another `attempt` gives the next one.
    pub(super) async fn pick(&self, attempt: usize) -> Result<SocketAddr, String> {
        match self {
            Self::Fixed { address, .. } => Ok(*address),
            Self::Named { host, port, known } => {
                let remembered = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let addresses = match remembered {
                    Some(known) if known.since.elapsed() < REMEMBERED => known.addresses,
                    stale => match resolve(host, *port).await {
                        Ok(addresses) => {
                            let fresh = Known { addresses: addresses.clone(), since: Instant::now() };
                            *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
                            addresses
                        }
                        Err(reason) => stale.map(|known| known.addresses).ok_or(reason)?,
                    },
                };
                let index = attempt.checked_rem(addresses.len()).unwrap_or(0);
                addresses.get(index).copied().ok_or_else(|| "no address".to_owned())
            }
        }
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = found.collect();
            // IPv4 first: a container network without IPv6 routes would cost a failed connect each time.
            addresses.sort_by_key(SocketAddr::is_ipv6);
            if addresses.is_empty() { Err("no address".to_owned()) } else { Ok(addresses) }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err(format!("no answer within {}s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_resolve_and_literals_need_not() {
        let named = Addresses::of("localhost".into(), 80).pick(0).await.unwrap();
        assert!(named.ip().is_loopback());
        let fixed = Addresses::of("::1".into(), 8080).pick(7).await.unwrap();
        assert_eq!(fixed, "[::1]:8080".parse().unwrap());
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_an_error_and_no_panic() {
        assert!(Addresses::of("does-not-exist.invalid".into(), 80).pick(0).await.is_err());
    }
}
