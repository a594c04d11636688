//! The bytes of a client's connection on their way to the engine: never more than one message at a time, none
//! that is malformed, and none for which we had to wait too long.

mod engine;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::framing::{Framing, Malformed};
use super::h2_frames::Frames;
use super::pace::Pace;

/// What is read at once: more than nearly every head has.
const PIECE: usize = 8 * 1024;
/// What a client may send of its next requests while we answer.
const AHEAD: usize = 16 * 1024;

/// Found by the requests of a connection for which there is no place.
#[derive(Debug)]
pub(in crate::proxy) struct Beyond;

/// What of the connection the engine may read.
#[derive(Debug)]
enum Part {
    /// The body under way.
    Body(Framing),
    /// Nothing before the next head is read.
    Over,
    /// Nothing before a 101 is written.
    Upgrading,
    /// Everything: the protocol is another one now.
    Through,
    /// Everything, as HTTP/2.
    Frames(Frames),
    /// Nothing more: what comes is thrown away.
    Broken,
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Line {
    inner: Stream,
    /// Read, and not yet handed on.
    ahead: BytesMut,
    ended: bool,
    part: Part,
    /// The final answer to the request under way has begun.
    answered: bool,
    /// Early bytes may be for the protocol that was asked for: they are no request.
    asked_upgrade: bool,
    /// There is no place for it.
    beside: bool,
    reading: Pace,
    writing: Pace,
    /// Written, and perhaps still in the buffer below.
    unflushed: bool,
}

impl Line {
    pub(super) fn new(inner: Stream, rate: u64, window: Duration) -> Self {
        Self {
            inner,
            ahead: BytesMut::new(),
            ended: false,
            part: Part::Over,
            answered: false,
            asked_upgrade: false,
            beside: false,
            reading: Pace::new(rate, window),
            writing: Pace::new(rate, window),
            unflushed: false,
        }
    }

    /// What has been read and not handed on.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Whether the client has sent its last byte.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Waits for more bytes; `false` at the end of the connection.
    pub(super) async fn more(&mut self) -> io::Result<bool> {
        poll_fn(|cx| self.poll_ahead(cx)).await
    }

    /// Reads on until the client closes.
    pub(super) async fn discard(&mut self) {
        while self.more().await.unwrap_or(false) {
            self.ahead.clear();
        }
    }

    /// Takes a head off; its body is what the engine may read next.
    pub(super) fn begin(&mut self, skip: usize, end: usize, body: Framing, upgrade: bool) -> BytesMut {
        // Mostly nothing follows; to split shares the buffer, which is another allocation.
        let whole = self.ahead.len() == end;
        let mut head = if whole { std::mem::take(&mut self.ahead) } else { self.ahead.split_to(end) };
        head.advance(skip);
        self.part = if body.is_over() { after_body(upgrade) } else { Part::Body(body) };
        self.answered = false;
        self.asked_upgrade = upgrade;
        self.reading.renew();
        self.writing.renew();
        head
    }

    /// It has no place among the others: its requests know.
    pub(super) fn stand_beside(&mut self) {
        self.beside = true;
    }

    /// From here on this is HTTP/2.
    pub(super) fn speak_frames(&mut self, patience: Duration) {
        self.part = Part::Frames(Frames::new(patience));
    }

    /// The last request is over, and nothing else was begun.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.part, Part::Over)
    }

    /// Whether a next request may follow: the last one is over, and was no offer of another protocol that
    /// was turned down after the client had begun to speak it.
    pub(super) async fn may_go_on(&mut self) -> bool {
        while let Part::Body(body) = &mut self.part {
            // The engine stops at the last chunk; what is behind it still belongs to the body.
            let Ok(taken) = body.take(&self.ahead) else { return false };
            self.ahead.advance(taken);
            if body.is_over() {
                self.part = after_body(self.asked_upgrade);
            } else if !self.more().await.unwrap_or(false) {
                return false;
            }
        }
        match self.part {
            Part::Over => true,
            Part::Upgrading => self.ahead.is_empty(),
            _ => false,
        }
    }

    /// [`Self::more`] as a poll.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [const { MaybeUninit::uninit() }; PIECE];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut read))?;
        self.ahead.extend_from_slice(read.filled());
        self.ended |= read.filled().is_empty();
        Poll::Ready(Ok(!self.ended))
    }

    /// At most `most` bytes, first of those that are here already.
    fn poll_some(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>, most: usize) -> Poll<io::Result<usize>> {
        let most = most.min(into.remaining());
        if !self.ahead.is_empty() {
            let taken = most.min(self.ahead.len());
            into.put_slice(&self.ahead.split_to(taken));
            return Poll::Ready(Ok(taken));
        }
        // Not a buffer of our own over `into`: that had to be zeroed first, 64 KiB at each poll of an upload.
        let before = into.filled().len();
        ready!(Pin::new(&mut (&mut self.inner).take(most as u64)).poll_read(cx, into))?;
        let read = into.filled().len() - before;
        self.ended |= read == 0 && most > 0;
        Poll::Ready(Ok(read))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Part::Body(framing) = &mut self.part else { return Poll::Ready(Ok(())) };
        let polled = if let Framing::Length(left) = framing {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            self.poll_some(cx, into, most)
        } else if self.ahead.is_empty() {
            self.poll_ahead(cx).map_ok(|_more| 0)
        } else {
            Poll::Ready(Ok(0))
        };
        let read = match polled {
            Poll::Ready(read) => read?,
            Poll::Pending if self.reading.stalled(cx).is_ready() => {
                self.part = Part::Broken;
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Pending => return Poll::Pending,
        };
        let given = self.account(into, read);
        if given.is_err() {
            self.part = Part::Broken;
        }
        Poll::Ready(given.map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed)))
    }

    /// Notes `read` bytes of a length, or hands on what of the chunks is here.
    fn account(&mut self, into: &mut ReadBuf<'_>, read: usize) -> Result<(), Malformed> {
        let Part::Body(framing) = &mut self.part else { return Ok(()) };
        let given = match framing {
            Framing::Length(left) => {
                *left -= (read as u64).min(*left);
                read
            }
            Framing::Chunked(_) => {
                let here = self.ahead.get(..self.ahead.len().min(into.remaining())).unwrap_or_default();
                let taken = framing.take(here)?;
                into.put_slice(&self.ahead.split_to(taken));
                taken
            }
        };
        if framing.is_over() {
            self.part = after_body(self.asked_upgrade);
        }
        self.reading.moved(given);
        Ok(())
    }

    /// Behind the request: looks only whether the client is still there.
    fn poll_beyond(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended && self.ahead.len() < AHEAD {
            ready!(self.poll_ahead(cx))?;
        }
        if self.ahead.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_frames(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = self.poll_some(cx, into, usize::MAX).map_ok(drop);
        let Part::Frames(frames) = &mut self.part else { return polled };
        let read = into.filled().get(before..).unwrap_or_default();
        let well = if polled.is_pending() { frames.may_wait(cx) } else { frames.read(read) };
        if well {
            return polled;
        }
        self.part = Part::Broken;
        tracing::info!("an HTTP/2 connection was closed for its frames");
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended {
            self.ahead.clear();
            ready!(self.poll_ahead(cx))?;
        }
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }

    /// The engine keeps an answer whose length is told until it is whole. Where it has nothing more to write, it looks
    /// whether the client is still there: then what is here is sent, and is not held back for what is not.
    fn send_what_waits(&mut self, cx: &mut Context<'_>) {
        if self.unflushed {
            // What goes wrong is found by the next write.
            self.unflushed = Pin::new(&mut self.inner).poll_flush(cx).is_pending();
        }
    }

    /// RFC 9110 §15.2.2: with a 101 the connection belongs to the other protocol.
    fn note_answer(&mut self, written: &[u8]) {
        if let Part::Frames(frames) = &mut self.part {
            return frames.wrote(written);
        }
        if self.answered || written.is_empty() {
            return;
        }
        if matches!(self.part, Part::Upgrading) && written.starts_with(b"HTTP/1.1 101 ") {
            self.part = Part::Through;
        }
        self.answered = !written.starts_with(b"HTTP/1.1 1");
    }

    fn paced<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() && self.writing.stalled(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

fn after_body(upgrade: bool) -> Part {
    if upgrade { Part::Upgrading } else { Part::Over }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        line.send_what_waits(cx);
        match line.part {
            Part::Body(_) => line.poll_body(cx, into),
            Part::Over | Part::Upgrading => line.poll_beyond(cx),
            Part::Through => line.poll_some(cx, into, usize::MAX).map_ok(drop),
            Part::Frames(_) => line.poll_frames(cx, into),
            Part::Broken => line.poll_discard(cx),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let line = self.get_mut();
        let polled = Pin::new(&mut line.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            line.unflushed = true;
            line.writing.moved(written);
            line.note_answer(bytes.get(..written).unwrap_or_default());
        }
        line.paced(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let line = self.get_mut();
        let polled = Pin::new(&mut line.inner).poll_write_vectored(cx, pieces);
        if let Poll::Ready(Ok(written)) = polled {
            line.unflushed = true;
            line.writing.moved(written);
            let mut left = written;
            for piece in pieces {
                let now = piece.get(..left.min(piece.len())).unwrap_or_default();
                left -= now.len();
                line.note_answer(now);
            }
        }
        line.paced(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        let polled = Pin::new(&mut line.inner).poll_flush(cx);
        if polled.is_ready() {
            line.unflushed = false;
            line.writing.moved(0);
        }
        line.paced(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
