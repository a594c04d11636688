//! How slow a client may be: time it makes us wait is paid from an allowance, and bytes earn it back. Whoever
//! moves fewer than `rate` bytes a second runs out of it, however the bytes are spread.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

/// The allowance of one direction of one connection.
#[derive(Debug)]
pub(in crate::proxy) struct Pace {
    /// Bytes that earn a second; 0 lets any byte earn everything.
    rate: u64,
    /// At most this much is kept: the longest pause.
    window: Duration,
    left: Duration,
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(in crate::proxy) fn new(rate: u64, window: Duration) -> Self {
        Self { rate, window, left: window, waiting: None, timer: None }
    }

    /// Nothing moves from now on: how long that may last.
    pub(in crate::proxy) fn wait(&mut self) -> Duration {
        let since = *self.waiting.get_or_insert_with(Instant::now);
        self.left.saturating_sub(since.elapsed())
    }

    /// How long nothing has moved.
    pub(in crate::proxy) fn waited(&self) -> Duration {
        self.waiting.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Nothing moves: ready once the allowance is used up. Wakes the task then.
    pub(super) fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting.get_or_insert_with(Instant::now);
        // The timer of an earlier wait rings too early, never too late.
        let until = (since + self.left).into();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        while timer.as_mut().poll(cx).is_ready() {
            if since.elapsed() >= self.left {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }

    /// So many bytes moved.
    pub(in crate::proxy) fn moved(&mut self, bytes: usize) {
        if let Some(since) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        } else if self.left == self.window {
            return;
        }
        let earned = match (bytes as u64).saturating_mul(1000).checked_div(self.rate) {
            Some(millis) => Duration::from_millis(millis),
            None => self.window,
        };
        self.left = self.left.saturating_add(earned).min(self.window);
    }

    /// The whole allowance: for a new request, or for a wait that was not the client's.
    pub(in crate::proxy) fn renew(&mut self) {
        self.left = self.window;
        self.waiting = None;
    }
}
