//! The time in which the head of an answer must have come. The engine times single reads: a service that
//! sends a byte now and then would hold its request for as long as it likes. So whoever is late has its
//! socket shut, which the engine then reports as a break.
//!
//! While the rest of a request's body is awaited, it may be the client who is late, or the service, which takes nothing
//! of what has come (`waited_for`).
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

use super::waited_for::is_clogged;

thread_local! {
    static AWAITED: RefCell<Awaited> = const { RefCell::new(Awaited { waits: BTreeMap::new(), moved: BTreeMap::new(), count: 0, alarm: None }) };
}

/// Deadline, and a number to tell equal ones apart.
type Place = (Instant, u64);

/// The answers that one thread waits for.
struct Awaited {
    waits: BTreeMap<Place, Wait>,
    /// By number: what has not its first place any more.
    moved: BTreeMap<u64, Moved>,
    count: u64,
    /// What the watching task sleeps until.
    alarm: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Wait {
    socket: RawFd,
    upload: Option<Upload>,
}

/// The rest of a body is awaited.
#[derive(Clone, Copy)]
struct Upload {
    since: Instant,
    /// Of the client; `None`: somebody else times it.
    pause: Option<Duration>,
    /// Of the service, for what has come.
    timeout: Duration,
    /// The service was found to take nothing.
    clogged: bool,
}

enum Moved {
    To(Place),
    /// The service has taken nothing for too long, and its socket was shut.
    Over,
}

/// Who was late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// The rest of the body did not come.
    Client,
    /// The answer did not come, or what had come of the body was not taken.
    Service,
}

/// Held while the head of an answer is awaited.
#[derive(Debug)]
pub struct HeadDeadline {
    place: Place,
    upload: bool,
}

impl HeadDeadline {
    /// Shuts this socket at `until`, unless dropped before. `None` where that cannot be done: the
    /// connection has no descriptor of its own, or its task may move to another thread (an embedding
    /// server with work stealing).
    #[must_use]
    pub fn set(socket: RawFd, until: Instant) -> Option<Self> {
        Self::wait(Wait { socket, upload: None }, until)
    }

    /// Shuts it after `pause` without the rest of the body, where the client is to be timed here, unless the service
    /// is to blame, which then has `timeout` in all.
    #[must_use]
    pub fn of_upload(socket: RawFd, pause: Option<Duration>, timeout: Duration) -> Option<Self> {
        let since = Instant::now();
        let upload = Upload { since, pause, timeout, clogged: false };
        Self::wait(Wait { socket, upload: Some(upload) }, since + pause.unwrap_or(timeout))
    }

    fn wait(wait: Wait, until: Instant) -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        if wait.socket < 0 || runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
            return None;
        }
        AWAITED.with_borrow_mut(|awaited| {
            awaited.count += 1;
            let place = (until, awaited.count);
            awaited.waits.insert(place, wait);
            if awaited.alarm.is_none_or(|alarm| until < alarm) {
                awaited.alarm = Some(until);
                runtime.spawn(watch(until));
            }
            Some(Self { place, upload: wait.upload.is_some() })
        })
    }

    /// Who was late, where it has passed and the socket was shut.
    #[must_use]
    pub fn passed(&self) -> Option<Late> {
        AWAITED.with_borrow(|awaited| match awaited.moved.get(&self.place.1) {
            Some(Moved::To(_)) => None,
            None if awaited.waits.contains_key(&self.place) => None,
            None if self.upload => Some(Late::Client),
            Some(Moved::Over) | None => Some(Late::Service),
        })
    }

    /// Whether the client waits for the service, and not the other way round.
    #[must_use]
    pub fn excuses(&self) -> bool {
        AWAITED.with_borrow(|awaited| {
            let wait = awaited.waits.get(&self.place);
            awaited.moved.contains_key(&self.place.1) || wait.is_some_and(|wait| is_clogged(wait.socket))
        })
    }
}

impl Drop for HeadDeadline {
    fn drop(&mut self) {
        // While the thread ends there may be no list any more.
        let _ = AWAITED.try_with(|awaited| awaited.borrow_mut().forget(self));
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
        while let Some(entry) = self.waits.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, number), wait) = entry.remove_entry();
            if let Some(upload) = wait.upload
                && let Some((until, upload)) = self.again(number, wait.socket, upload, now)
            {
                self.waits.insert((until, number), Wait { upload: Some(upload), ..wait });
                self.moved.insert(number, Moved::To((until, number)));
                continue;
            }
            // A peer that has closed already leaves nothing to shut.
            let _ = shutdown(wait.socket, Shutdown::Both);
        }
        self.alarm = self.waits.first_key_value().map(|((until, _), _)| *until);
        self.alarm
    }

    /// When to look at an upload again, if nobody is too late yet.
    fn again(&mut self, number: u64, socket: RawFd, mut upload: Upload, now: Instant) -> Option<(Instant, Upload)> {
        let was = std::mem::replace(&mut upload.clogged, is_clogged(socket));
        if upload.clogged {
            let until = upload.since + upload.timeout;
            if until <= now {
                self.moved.insert(number, Moved::Over);
                return None;
            }
            return Some((until, upload));
        }
        match upload.pause {
            Some(_) if !was => {
                self.moved.remove(&number);
                None
            }
            // The service has taken everything: the client's time begins, or nobody's here.
            pause => {
                upload.since = now;
                Some((now + pause.unwrap_or(upload.timeout), upload))
            }
        }
    }

    fn forget(&mut self, deadline: &HeadDeadline) {
        self.waits.remove(&deadline.place);
        if deadline.upload
            && let Some(Moved::To(place)) = self.moved.remove(&deadline.place.1)
        {
            self.waits.remove(&place);
        }
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

    fn in_millis(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    #[tokio::test]
    async fn whoever_is_late_is_shut_and_nobody_else() {
        let ((mut late, _a), (kept, mut kept_peer), (patient, _b)) = (pair().await, pair().await, pair().await);
        // The earlier deadline comes second.
        let long = HeadDeadline::set(patient.as_raw_fd(), in_millis(600_000)).unwrap();
        let short = HeadDeadline::set(late.as_raw_fd(), in_millis(50)).unwrap();
        let answered = HeadDeadline::set(kept.as_raw_fd(), in_millis(50)).unwrap();
        drop(answered);
        assert_eq!(late.read(&mut [0]).await.unwrap(), 0, "shut");
        assert_eq!((short.passed(), long.passed()), (Some(Late::Service), None));
        kept.try_write(b"x").unwrap();
        assert_eq!(kept_peer.read(&mut [0]).await.unwrap(), 1, "this one goes on");
        drop((short, long));
        AWAITED.with_borrow(|awaited| assert!(awaited.waits.is_empty()));
        // The list is watched again after it was empty.
        let (mut next, _c) = pair().await;
        let _again = HeadDeadline::set(next.as_raw_fd(), in_millis(50)).unwrap();
        assert_eq!(next.read(&mut [0]).await.unwrap(), 0);
    }

    async fn end_of(deadline: &HeadDeadline) -> Late {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if let Some(late) = deadline.passed() {
                return late;
            }
        }
    }

    #[tokio::test]
    async fn a_late_upload_is_the_clients_unless_the_service_takes_nothing() {
        const PAUSE: Duration = Duration::from_millis(100);
        let ((idle, _a), (full, mut reader)) = (pair().await, pair().await);
        let of = |stream: &TcpStream, pause| HeadDeadline::of_upload(stream.as_raw_fd(), pause, PAUSE * 10).unwrap();
        let (begun, client) = (Instant::now(), of(&idle, Some(PAUSE)));
        assert_eq!(end_of(&client).await, Late::Client);
        assert!(begun.elapsed() < PAUSE * 9);

        let mut sent = 0;
        while let Ok(more) = full.try_write(&[0; 8192]) {
            sent += more;
        }
        let service = of(&full, Some(PAUSE));
        tokio::time::sleep(PAUSE * 3).await;
        assert!(service.passed().is_none() && service.excuses(), "the service has more time");
        drop(service);
        let service = of(&full, Some(PAUSE));
        tokio::time::sleep(PAUSE * 2).await;
        let mut into = vec![0; sent];
        reader.read_exact(&mut into).await.unwrap();
        assert_eq!(end_of(&service).await, Late::Client, "it has taken everything, and nothing more came");
        AWAITED.with_borrow(|awaited| assert!(awaited.waits.is_empty() && awaited.moved.is_empty()));
    }

    #[tokio::test]
    async fn a_service_that_takes_nothing_is_shut_and_blamed() {
        let (full, _reader) = pair().await;
        while full.try_write(&[0; 8192]).is_ok() {}
        for pause in [None, Some(Duration::from_millis(20))] {
            let (begun, timeout) = (Instant::now(), Duration::from_millis(200));
            let service = HeadDeadline::of_upload(full.as_raw_fd(), pause, timeout).unwrap();
            assert_eq!(end_of(&service).await, Late::Service);
            assert!(begun.elapsed() >= timeout);
            drop(service);
            AWAITED.with_borrow(|awaited| assert!(awaited.waits.is_empty() && awaited.moved.is_empty()));
        }
        let (idle, _peer) = pair().await;
        let timed_elsewhere = HeadDeadline::of_upload(idle.as_raw_fd(), None, Duration::from_millis(10)).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(timed_elsewhere.passed(), None);
    }

    #[tokio::test]
    async fn what_has_no_descriptor_is_left_alone() {
        assert!(HeadDeadline::set(-1, Instant::now()).is_none());
    }
}
