//! A request on its way to its service: by which connection, in whose time, and how it went.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::wire::Pace;
use crate::upstream::{Deadline, Turn};

/// All of it begins empty; what concerns one connection is set anew at each attempt.
#[derive(Debug, Default)]
pub(super) struct Hop {
    /// Path and query as forwarded.
    pub(super) target: String,
    /// Connections that were asked for.
    pub(super) attempts: usize,
    /// The connection to the service, as the engine names it.
    pub(super) socket: Option<RawFd>,
    /// When the first attempt began.
    pub(super) started: Option<Instant>,
    /// Since when the service has the whole request; its time runs from then on.
    pub(super) asked: Option<Instant>,
    /// Whose bytes are awaited now, before the answer's head; `None` at other times.
    pub(super) turn: Option<Turn>,
    /// The deadline of the answer, or of an upload that is awaited before it.
    pub(super) deadline: Option<Deadline>,
    /// The deadline holds for the whole answer; else for its head at most, and the engine times single reads.
    pub(super) timed: bool,
    /// The deadline passed, and the socket was shut.
    pub(super) late: bool,
    /// How slow the client is with a body on HTTP/2, where the door does not tell one from another.
    pub(super) upload: Option<Pace>,
    /// What the head of the answer took the service.
    pub(super) elapsed: Option<Duration>,
    /// Of the service's answer.
    pub(super) status: Option<u16>,
    /// What the last attempt that failed came down to, and at which address.
    pub(super) cause: Option<String>,
    /// The last attempt failed by the service's fault.
    pub(super) fault: bool,
    /// The service's fault that a stored answer covers: its `error_type`.
    pub(super) covered: Option<&'static str>,
    /// Which callbacks have come (see `stages/delegation.rs`).
    pub(super) reached: Reached,
    /// That of the request's body has.
    pub(super) body_came: bool,
}

/// How far an exchange with a service has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reached {
    /// Nothing was sent, or what became of it is told by what is stored.
    #[default]
    Nothing,
    /// The request is as the service sees it.
    Service,
    /// The head of its answer was taken over.
    Answer,
    /// And is as the client sees it.
    Client,
}
