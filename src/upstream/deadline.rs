//! The time in which an answer must have come, its head and its body. The engine times single reads: a service that
//! sends a byte now and then would hold its request for as long as it likes. So whoever is late has its
//! socket shut, which the engine then reports as a break.
//!
//! An answer that waits for its client is not late: while bytes of it lie unread in the socket, it is looked at again.
//!
//! While the rest of a request's body is awaited, it may be the client who is late, or the service, which takes nothing
//! of what has come (`waited_for`).
//!
//! A request costs an entry in a list of its thread and no timer: one task a thread sleeps until the
//! earliest deadline. Everything happens on the thread of the request, and nothing there waits between the
//! closing of a socket and the end of its entry: the number in the list is never another socket's. But that of a call on
//! HTTP/2 may be, whose connection is closed by a task of its own ([`Deadline::of_call`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, getsockname, shutdown};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::waited_for::{Unread, is_clogged, unread};

/// After which an answer that waits for its client is looked at again.
const NEXT_LOOK: Duration = Duration::from_millis(250);

thread_local! {
    static AWAITED: RefCell<Awaited> = const { RefCell::new(Awaited { waits: BTreeMap::new(), moved: BTreeMap::new(), ends: BTreeMap::new(), count: 0, alarm: None }) };
}

/// Deadline, and a number to tell equal ones apart.
type Place = (Instant, u64);

/// The two ends of a connection: of those that are there, no two have both in common.
type Ends = (SockaddrStorage, SockaddrStorage);

/// The answers that one thread waits for.
struct Awaited {
    waits: BTreeMap<Place, Wait>,
    /// By number: waits that were moved from their first deadline.
    moved: BTreeMap<u64, Moved>,
    /// By number: whose socket may be another by now.
    ends: BTreeMap<u64, Ends>,
    count: u64,
    /// What the watching task sleeps until.
    alarm: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Wait {
    socket: RawFd,
    of: Awaits,
}

impl Wait {
    /// At the last look, or now: then the client has waited, too.
    fn is_clogged(&self) -> bool {
        matches!(self.of, Awaits::Upload(Upload { clogged: true, .. })) || is_clogged(self.socket)
    }
}

#[derive(Clone, Copy)]
enum Awaits {
    Upload(Upload),
    Head,
    Body,
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
    /// Somebody was late, and the socket was shut.
    Over(Turn),
    /// The service had sent everything and closed, or the connection is gone.
    Done,
}

/// Whose part of an exchange is awaited, or came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The rest of the request's body.
    Client,
    /// The answer, or that it takes what has come of the body. It has the whole request, or has been asked whether it
    /// wants the body.
    Service,
}

/// Held while an answer is awaited.
#[derive(Debug)]
pub struct Deadline {
    place: Place,
    /// The answer's end is that of its connection (RFC 9112 §6.3): a socket that we shut would look like its end.
    until_closed: bool,
}

impl Deadline {
    /// Shuts this socket at `until`, unless dropped before. `None` where that cannot be done: the
    /// connection has no descriptor of its own, or its task may move to another thread (an embedding
    /// server with work stealing).
    #[must_use]
    pub fn set(socket: RawFd, until: Instant) -> Option<Self> {
        Self::wait(Wait { socket, of: Awaits::Head }, until)
    }

    /// Whether one can be set by the task that asks.
    #[must_use]
    pub fn is_possible() -> bool {
        Handle::try_current().is_ok_and(|runtime| is_confined(&runtime))
    }

    /// Shuts it after `pause` without the rest of the body, where the client is to be timed here, unless the service
    /// is to blame, which then has `timeout` in all.
    #[must_use]
    pub fn of_upload(socket: RawFd, pause: Option<Duration>, timeout: Duration) -> Option<Self> {
        let since = Instant::now();
        let upload = Upload { since, pause, timeout, clogged: false };
        // The first look tells who is waited for.
        Self::wait(Wait { socket, of: Awaits::Upload(upload) }, since + timeout.min(pause.unwrap_or(timeout)))
    }

    /// The same for a connection that another task may close, after which its number is free: another socket that has got
    /// it is left alone.
    #[must_use]
    pub fn of_call(self) -> Self {
        AWAITED.with_borrow_mut(|awaited| {
            let Awaited { waits, ends, .. } = awaited;
            if let Some(both) = waits.get(&self.place).and_then(|wait| ends_of(wait.socket)) {
                ends.insert(self.place.1, both);
            }
        });
        self
    }

    fn wait(wait: Wait, until: Instant) -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        if wait.socket < 0 || !is_confined(&runtime) {
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
            Some(Self { place, until_closed: false })
        })
    }

    /// The head has come; the body has the rest of the time.
    pub fn begun(&mut self, until_closed: bool) {
        self.until_closed = until_closed;
        AWAITED.with_borrow_mut(|awaited| {
            if let Some(wait) = awaited.waits.get_mut(&self.place) {
                wait.of = Awaits::Body;
            }
        });
    }

    /// Whether what looks like the end of the body was made here.
    #[must_use]
    pub fn cut_short(&self) -> bool {
        self.until_closed && self.passed().is_some()
    }

    /// Who was late, where it has passed and the socket was shut.
    #[must_use]
    pub fn passed(&self) -> Option<Turn> {
        AWAITED.with_borrow(|awaited| match awaited.moved.get(&self.place.1) {
            Some(Moved::To(_) | Moved::Done) => None,
            Some(Moved::Over(late)) => Some(*late),
            None if awaited.waits.contains_key(&self.place) => None,
            None => Some(Turn::Service),
        })
    }

    /// Whether the client waits for the service, and not the other way round.
    #[must_use]
    pub fn excuses(&self) -> bool {
        AWAITED.with_borrow(|awaited| {
            let place = match awaited.moved.get(&self.place.1) {
                Some(Moved::To(place)) => place,
                _ => &self.place,
            };
            awaited.waits.get(place).is_some_and(Wait::is_clogged)
        })
    }
}

impl Drop for Deadline {
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
            let (of, fate) = match wait.of {
                of if self.ends.get(&number).is_some_and(|ends| ends_of(wait.socket) != Some(*ends)) => {
                    (of, Fate::Done)
                }
                Awaits::Upload(mut upload) => {
                    let fate = upload.look(wait.socket, now);
                    (Awaits::Upload(upload), fate)
                }
                Awaits::Body => (Awaits::Body, of_body(wait.socket, now)),
                Awaits::Head => (Awaits::Head, Fate::Over(Turn::Service)),
            };
            let moved = match fate {
                Fate::Again(until) => {
                    self.waits.insert((until, number), Wait { of, ..wait });
                    Moved::To((until, number))
                }
                Fate::Done => Moved::Done,
                Fate::Over(late) => {
                    // A peer that has closed already leaves nothing to shut.
                    let _ = shutdown(wait.socket, Shutdown::Both);
                    Moved::Over(late)
                }
            };
            self.moved.insert(number, moved);
        }
        self.alarm = self.waits.first_key_value().map(|((until, _), _)| *until);
        self.alarm
    }

    fn forget(&mut self, deadline: &Deadline) {
        self.ends.remove(&deadline.place.1);
        let place = match self.moved.remove(&deadline.place.1) {
            Some(Moved::To(place)) => place,
            _ => deadline.place,
        };
        self.waits.remove(&place);
    }
}

/// What becomes of a wait whose time has come.
enum Fate {
    Again(Instant),
    Over(Turn),
    Done,
}

impl Upload {
    fn look(&mut self, socket: RawFd, now: Instant) -> Fate {
        let was = std::mem::replace(&mut self.clogged, is_clogged(socket));
        if self.clogged {
            let until = self.since + self.timeout;
            return if until <= now { Fate::Over(Turn::Service) } else { Fate::Again(until) };
        }
        if was || self.pause.is_none() {
            // The service has taken everything: the client's time begins, or nobody's here.
            self.since = now;
        }
        let until = self.since + self.pause.unwrap_or(self.timeout);
        if until <= now { Fate::Over(Turn::Client) } else { Fate::Again(until) }
    }
}

fn of_body(socket: RawFd, now: Instant) -> Fate {
    match unread(socket) {
        Unread::Bytes => Fate::Again(now + NEXT_LOOK),
        Unread::Nothing => Fate::Over(Turn::Service),
        Unread::End => Fate::Done,
    }
}

fn ends_of(socket: RawFd) -> Option<Ends> {
    Some((getsockname(socket).ok()?, getpeername(socket).ok()?))
}

/// Tasks that stay on their thread.
fn is_confined(runtime: &Handle) -> bool {
    runtime.runtime_flavor() == RuntimeFlavor::CurrentThread
}

#[cfg(test)]
mod tests;
