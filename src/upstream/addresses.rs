//! The addresses behind a host name. The engine would resolve names blocking and panic when there
//! is none, so names are resolved here and remembered. While an address is known nobody waits for a resolver: it is
//! asked again beside the requests, one question at a time, and the last good answer outlives one that is down.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::resilience::SingleFlight;

/// How long an answer is used before the resolver is asked again.
const REMEMBERED: Duration = Duration::from_secs(15);
/// The same of a failure.
const REST: Duration = Duration::from_secs(3);
/// How long one request in [`REMEMBERED`] waits for it though an address is known.
const MOMENT: Duration = Duration::from_millis(100);
/// How long a request waits for a resolver.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the system may take: the question holds a thread, and there is no second one before.
const LONGEST: Duration = Duration::from_secs(60);

type Answer = Result<Vec<SocketAddr>, String>;
type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Cheap to clone; clones share what they know.
#[derive(Debug, Clone)]
pub(super) enum Addresses {
    Fixed { host: String, address: SocketAddr },
    Named(Arc<Named>),
}

#[derive(Debug)]
pub(super) struct Named {
    host: String,
    port: u16,
    known: Mutex<Known>,
    flights: SingleFlight<(), ()>,
    resolve: fn(String, u16) -> Asking,
}

#[derive(Debug)]
struct Known {
    /// Those of the last good answer.
    addresses: Vec<SocketAddr>,
    /// Why there is no newer one.
    failure: Option<String>,
    /// When the resolver is asked again.
    due: Instant,
}

impl Addresses {
    pub(super) fn of(host: String, port: u16) -> Self {
        Self::by(host, port, |host, port| Box::pin(resolve(host, port)))
    }

    fn by(host: String, port: u16, resolve: fn(String, u16) -> Asking) -> Self {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Self::Fixed { host, address: SocketAddr::new(address, port) };
        }
        let known = Known { addresses: Vec::new(), failure: None, due: Instant::now() };
        Self::Named(Arc::new(Named { host, port, known: Mutex::new(known), flights: SingleFlight::default(), resolve }))
    }

    pub(super) fn host(&self) -> &str {
        match self {
            Self::Fixed { host, .. } => host,
            Self::Named(named) => &named.host,
        }
    }

    /// Goes on with what `old` knows, if it is about the same name.
    pub(super) fn take_over(&mut self, old: &Self) {
        if let (Self::Named(new), Self::Named(old)) = (&mut *self, old)
            && (&new.host, new.port) == (&old.host, old.port)
        {
            *new = Arc::clone(old);
        }
    }

    #[cfg(test)]
    pub(super) fn are_those_of(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Named(one), Self::Named(other)) if Arc::ptr_eq(one, other))
    }

    /// One address; another `attempt` gives the next one.
    pub(super) async fn pick(&self, attempt: usize) -> Result<SocketAddr, String> {
        match self {
            Self::Fixed { address, .. } => Ok(*address),
            Self::Named(named) => named.pick(attempt).await,
        }
    }
}

impl Named {
    async fn pick(self: &Arc<Self>, attempt: usize) -> Result<SocketAddr, String> {
        let (at_hand, due) = self.at_hand(attempt);
        if due && at_hand.is_some() {
            // A resolver that is well answers at once, and the service may have moved since.
            if tokio::time::timeout(MOMENT, Arc::clone(self).ask()).await.is_ok() {
                return self.known.lock().nth(attempt).ok_or_else(no_answer);
            }
        }
        if let Some(at_hand) = at_hand {
            return at_hand;
        }
        if tokio::time::timeout(PATIENCE, Arc::clone(self).ask()).await.is_err() {
            return Err(no_answer());
        }
        let known = self.known.lock();
        known.nth(attempt).ok_or_else(|| known.failure.clone().unwrap_or_else(|| "no address".to_owned()))
    }

    /// What is known, `None` where the resolver is to be waited for; and whether it is to be asked.
    fn at_hand(&self, attempt: usize) -> (Option<Result<SocketAddr, String>>, bool) {
        let mut known = self.known.lock();
        let now = Instant::now();
        let due = now >= known.due;
        let address = known.nth(attempt);
        if due && (address.is_some() || known.failure.is_some()) {
            // Whoever comes next need not see to it.
            known.due = now + REST;
        }
        match address {
            Some(address) => (Some(Ok(address)), due),
            None => (known.failure.clone().filter(|_| !due).map(Err), due),
        }
    }

    async fn ask(self: Arc<Self>) {
        let named = Arc::clone(&self);
        self.flights.run((), || named.look_up()).await;
    }

    async fn look_up(self: Arc<Self>) {
        let mut asking = (self.resolve)(self.host.clone(), self.port);
        let answer = match tokio::time::timeout(PATIENCE, &mut asking).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                self.note(Err(no_answer()));
                tokio::time::timeout(LONGEST, asking).await.unwrap_or_else(|_elapsed| Err(no_answer()))
            }
        };
        self.note(answer);
    }

    fn note(&self, answer: Answer) {
        let mut known = self.known.lock();
        let now = Instant::now();
        match answer {
            Ok(addresses) => *known = Known { addresses, failure: None, due: now + REMEMBERED },
            Err(reason) => {
                if known.failure.is_none() {
                    let kept = known.addresses.len();
                    tracing::warn!(host = %self.host, %reason, kept, "a service's name does not resolve");
                }
                known.failure = Some(reason);
                known.due = now + REST;
            }
        }
    }
}

impl Known {
    fn nth(&self, attempt: usize) -> Option<SocketAddr> {
        self.addresses.get(attempt.checked_rem(self.addresses.len())?).copied()
    }
}

fn no_answer() -> String {
    format!("no answer within {}s", PATIENCE.as_secs())
}

async fn resolve(host: String, port: u16) -> Answer {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| error.to_string())?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    // IPv4 first: a container network without IPv6 routes would cost a failed connect each time.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if addresses.is_empty() { Err("no address".to_owned()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// Time passes for what is known.
    fn age(addresses: &Addresses, by: Duration) {
        let Addresses::Named(named) = addresses else { panic!("a name") };
        let mut known = named.known.lock();
        known.due = known.due.checked_sub(by).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_hangs_is_asked_once_and_nobody_waits_while_an_address_is_known() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let addresses = Addresses::by("svc.internal".into(), 80, |_host, port| {
            let first = ASKED.fetch_add(1, Ordering::SeqCst) == 0;
            Box::pin(async move {
                if !first {
                    std::future::pending::<()>().await;
                }
                Ok(vec![SocketAddr::from(([192, 0, 2, 1], port)), SocketAddr::from(([192, 0, 2, 2], port))])
            })
        });
        let good = addresses.pick(0).await.unwrap();
        assert_ne!(addresses.pick(1).await.unwrap(), good, "the next attempt has the next one");
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        for _ in 0..20 {
            age(&addresses, REMEMBERED);
            let begun = tokio::time::Instant::now();
            let all = futures::future::join_all((0..600).map(|_| addresses.pick(0))).await;
            assert!(all.iter().all(|one| *one == Ok(good)));
            assert!(begun.elapsed() <= MOMENT, "nobody waits for long: {:?}", begun.elapsed());
            let begun = tokio::time::Instant::now();
            assert!(addresses.pick(0).await == Ok(good) && begun.elapsed().is_zero(), "and only the first of them");
            tokio::time::sleep(PATIENCE / 2).await;
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), 2, "one question at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_moved_is_found_by_the_first_who_asks_after_a_pause() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let addresses = Addresses::by("svc.internal".into(), 80, |_host, port| {
            let number = u8::try_from(ASKED.fetch_add(1, Ordering::SeqCst)).unwrap();
            Box::pin(async move {
                tokio::time::sleep(MOMENT / 2).await;
                if number == 2 {
                    return Err("no such name".to_owned());
                }
                Ok(vec![SocketAddr::from(([192, 0, 2, number], port))])
            })
        });
        let at = |last| Ok(SocketAddr::from(([192, 0, 2, last], 80)));
        assert_eq!(addresses.pick(0).await, at(0));
        assert_eq!(addresses.pick(0).await, at(0), "remembered");
        age(&addresses, REMEMBERED);
        assert_eq!(addresses.pick(0).await, at(1));
        age(&addresses, REMEMBERED);
        assert_eq!(addresses.pick(0).await, at(1), "a resolver that fails takes away no address");
        age(&addresses, REST);
        assert_eq!(addresses.pick(0).await, at(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shared_and_remembered_for_a_moment() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let mut addresses = Addresses::by("svc.internal".into(), 80, |_host, port| {
            let number = ASKED.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if number == 0 {
                    Err("no such name".to_owned())
                } else {
                    Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
                }
            })
        });
        let all = futures::future::join_all((0..600).map(|_| addresses.pick(0))).await;
        assert!(all.iter().all(|one| *one == Err("no such name".to_owned())));
        assert!(addresses.pick(0).await.is_err(), "and it is not asked again at once");
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        age(&addresses, REST);
        assert!(addresses.pick(0).await.is_ok());
        // What one knows, its successor knows, if it is about the same name.
        let mut next = Addresses::of("svc.internal".into(), 80);
        next.take_over(&addresses);
        addresses.take_over(&Addresses::of("svc.internal".into(), 81));
        assert!(next.pick(0).await.is_ok() && addresses.pick(0).await.is_ok());
        assert_eq!(ASKED.load(Ordering::SeqCst), 2);
    }
}
