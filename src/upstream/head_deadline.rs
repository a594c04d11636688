//! The time in which the head of an answer must have come. The engine times single reads: a service that
//! sends a byte now and then would hold its request for as long as it likes. So whoever is late has its
//! socket shut, which the engine then reports as a break.
//!
//! A request costs an entry in a list of its thread and no timer: one task a thread sleeps until the
//! earliest deadline. Everything happens on the thread of the request, and nothing there waits between the
//! closing of a socket and the end of its entry: the number in the list is never another socket's.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use tokio::runtime::{Handle, RuntimeFlavor};

thread_local! {
    static AWAITED: RefCell<Awaited> = const { RefCell::new(Awaited { sockets: BTreeMap::new(), count: 0, alarm: None }) };
}

/// Deadline, and a number to tell equal ones apart.
type Place = (Instant, u64);

/// The answers that one thread waits for.
struct Awaited {
    sockets: BTreeMap<Place, RawFd>,
    count: u64,
    /// What the watching task sleeps until.
    alarm: Option<Instant>,
}

/// Held while the head of an answer is awaited.
#[derive(Debug)]
pub struct HeadDeadline(Place);

impl HeadDeadline {
    /// Shuts this socket after `timeout`, unless dropped before. `None` where that cannot be done: the
    /// connection has no descriptor of its own, or its task may move to another thread (an embedding
    /// server with work stealing).
    #[must_use]
    pub fn set(socket: RawFd, timeout: Duration) -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        if socket < 0 || runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
            return None;
        }
        let until = Instant::now() + timeout;
        AWAITED.with_borrow_mut(|awaited| {
            awaited.count += 1;
            let place = (until, awaited.count);
            awaited.sockets.insert(place, socket);
            if awaited.alarm.is_none_or(|alarm| until < alarm) {
                awaited.alarm = Some(until);
                runtime.spawn(watch(until));
            }
            Some(Self(place))
        })
    }

    /// Whether it has passed, and the socket was shut.
    #[must_use]
    pub fn passed(&self) -> bool {
        AWAITED.with_borrow(|awaited| !awaited.sockets.contains_key(&self.0))
    }
}

impl Drop for HeadDeadline {
    fn drop(&mut self) {
        // While the thread ends there may be no list any more.
        let _ = AWAITED.try_with(|awaited| awaited.borrow_mut().sockets.remove(&self.0));
    }
}

async fn watch(mut until: Instant) {
    loop {
        tokio::time::sleep_until(until.into()).await;
        // Another task may have been set to an earlier time, and then watches for both.
        let next = AWAITED.with_borrow_mut(|awaited| (awaited.alarm == Some(until)).then(|| awaited.ring()).flatten());
        match next {
            Some(next) => until = next,
            None => return,
        }
    }
}

impl Awaited {
    /// Shuts what is late, and says when to look again.
    fn ring(&mut self) -> Option<Instant> {
        let now = Instant::now();
        while let Some(entry) = self.sockets.first_entry().filter(|entry| entry.key().0 <= now) {
            // A peer that has closed already leaves nothing to shut.
            let _ = shutdown(entry.remove(), Shutdown::Both);
        }
        self.alarm = self.sockets.first_key_value().map(|((until, _), _)| *until);
        self.alarm
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (stream, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn whoever_is_late_is_shut_and_nobody_else() {
        let ((mut late, _a), (kept, mut kept_peer), (patient, _b)) = (pair().await, pair().await, pair().await);
        // The earlier deadline comes second.
        let long = HeadDeadline::set(patient.as_raw_fd(), Duration::from_secs(600)).unwrap();
        let short = HeadDeadline::set(late.as_raw_fd(), Duration::from_millis(50)).unwrap();
        let answered = HeadDeadline::set(kept.as_raw_fd(), Duration::from_millis(50)).unwrap();
        drop(answered);
        assert_eq!(late.read(&mut [0]).await.unwrap(), 0, "shut");
        assert!(short.passed() && !long.passed());
        kept.try_write(b"x").unwrap();
        assert_eq!(kept_peer.read(&mut [0]).await.unwrap(), 1, "this one goes on");
        drop((short, long));
        AWAITED.with_borrow(|awaited| assert!(awaited.sockets.is_empty()));
        // The list is watched again after it was empty.
        let (mut next, _c) = pair().await;
        let _again = HeadDeadline::set(next.as_raw_fd(), Duration::from_millis(50)).unwrap();
        assert_eq!(next.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_has_no_descriptor_is_left_alone() {
        assert!(HeadDeadline::set(-1, Duration::ZERO).is_none());
    }
}
