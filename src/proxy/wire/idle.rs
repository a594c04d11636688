//! The wait for a connection's next request. One timer for all of them, set anew only when it rings: to start and
//! stop one for each request would cost more than reading its head.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::line::Line;

/// How long a connection may be without a request.
#[derive(Debug)]
pub(super) struct Idle {
    most: Duration,
    /// Boxed when somebody has to wait at all.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    pub(super) fn new(most: Duration) -> Self {
        Self { most, timer: None }
    }

    /// Waits for them; `false` if the connection ends before any come, or it took too long.
    pub(super) async fn bytes_arrive(&mut self, line: &mut Line) -> bool {
        let until = Instant::now() + self.most;
        poll_fn(|cx| match line.poll_ahead(cx) {
            Poll::Ready(more) => Poll::Ready(more.unwrap_or(false)),
            Poll::Pending => self.over(until, cx).map(|()| false),
        })
        .await
    }

    /// The timer of an earlier wait rings too early, never too late.
    fn over(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}
