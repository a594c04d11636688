//! A connection to a service that can be cut from elsewhere, for answers without an end. The engine
//! wakes for bytes only, and a quiet stream has none: so the socket itself is woken, and breaks. What the
//! client is told then is decided where the engine reports the break. Other connections are the
//! engine's own, and cost nothing of this.

use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, Sleep, sleep_until};

use super::unread::UNREAD;
use super::ws_frames::{FrameCursor, masked_close_frame};
use crate::session::{Cord, EndReason};

/// How one such connection is to be made.
#[derive(Debug)]
pub struct Severable {
    /// What cuts it.
    pub cord: Cord,
    /// Set for a `WebSocket`.
    pub websocket: Option<WebSocketTimeouts>,
    /// Where its socket is named once it is dialled: the engine gives it no name.
    pub socket: Arc<AtomicI32>,
    /// Where it is noted that the service has taken the handshake. Below TLS nobody can read that.
    pub upgraded: Arc<AtomicBool>,
}

/// What a `WebSocket` is given. Both ends count: the engine's own timeouts see one direction each.
#[derive(Debug, Clone, Copy)]
pub struct WebSocketTimeouts {
    /// For the whole answer to its handshake.
    pub handshake: Duration,
    /// While neither end says anything; `None`: for ever.
    pub silence: Option<Duration>,
}

/// Dials for the engine, once.
#[derive(Debug)]
pub(super) struct Dial {
    severable: Mutex<Option<Severable>>,
    timeout: Duration,
    /// No TLS above the socket: what passes there are frames, and can be read.
    plain: bool,
}

impl Dial {
    pub(super) fn new(severable: Severable, timeout: Duration, tls: bool) -> Self {
        Self { severable: Mutex::new(Some(severable)), timeout, plain: !tls }
    }
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let severable = self.severable.lock().take();
        let (Some(severable), Some(address)) = (severable, address.as_inet()) else {
            return Err(Error::new_up(ErrorType::ConnectError));
        };
        let connecting = tokio::time::timeout(self.timeout, connect(*address));
        let stream = connecting.await.map_err(|_elapsed| Error::new_up(ErrorType::ConnectTimedout))?;
        let stream = stream.map_err(|error| Error::because(kind_of(&error), "dialling a service", error).into_up())?;
        severable.socket.store(stream.as_raw_fd(), Ordering::Relaxed);
        Ok(VirtualSocketStream::new(Box::new(SeverableStream::new(stream, severable, self.plain))).into())
    }
}

/// Bounded from the start: nobody knows how much it will carry.
async fn connect(address: std::net::SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(UNREAD)?;
    socket.connect(address).await
}

fn kind_of(error: &io::Error) -> ErrorType {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    }
}

#[derive(Debug)]
struct SeverableStream {
    stream: TcpStream,
    cord: Cord,
    cut: bool,
    silence: Option<Silence>,
    /// What the service was sent, where that can be read.
    said: Option<Said>,
}

impl SeverableStream {
    fn new(stream: TcpStream, severable: Severable, plain: bool) -> Self {
        let silence = severable.websocket.map(|timeouts| Silence::new(timeouts, severable.upgraded));
        let said = (plain && severable.websocket.is_some()).then(Said::default);
        Self { stream, cord: severable.cord, cut: false, silence, said }
    }

    /// Ready once the connection is to be no more.
    fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.cut {
            return Poll::Ready(());
        }
        if self.silence.as_mut().is_some_and(|silence| silence.poll(context).is_ready()) {
            let _ = self.cord.end_reason.set(EndReason::Silent);
        } else if Pin::new(&mut self.cord.pulled).poll(context).is_pending() {
            return Poll::Pending;
        }
        self.cut = true;
        self.bid_farewell();
        Poll::Ready(())
    }

    /// Tells the service of a `WebSocket`, if that is possible at this moment.
    fn bid_farewell(&self) {
        let Some(end_reason) = self.cord.end_reason.get() else { return };
        let upgraded = self.silence.as_ref().is_some_and(|silence| silence.upgraded);
        if upgraded && self.said.as_ref().is_some_and(Said::may_close) {
            let (code, reason) = close_code(*end_reason);
            // Best effort: a service that takes no bytes learns it from the end of the connection.
            let _ = self.stream.try_write(&masked_close_frame(code, reason));
        }
    }

    fn heard(&mut self) {
        if let Some(silence) = &mut self.silence {
            silence.broken();
        }
    }
}

/// RFC 6455 §7.4.1: 1008 for a policy that is no longer met, 1001 for an end that goes away.
#[must_use]
pub fn close_code(end_reason: EndReason) -> (u16, &'static str) {
    match end_reason {
        EndReason::SessionOver => (1008, "session ended"),
        EndReason::GoingAway => (1001, "going away"),
        EndReason::Silent => (1001, "idle"),
    }
}

fn cut_off<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
}

impl AsyncRead for SeverableStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.poll_cut(context).is_ready() {
            return cut_off();
        }
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if read.is_ready() {
            self.heard();
        }
        read
    }
}

impl AsyncWrite for SeverableStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.poll_cut(context).is_ready() {
            return cut_off();
        }
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &wrote {
            self.heard();
            if let Some(said) = &mut self.said {
                said.pass(bytes.get(..*count).unwrap_or_default());
            }
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl VirtualSocket for SeverableStream {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.stream.set_nodelay(true),
            _ => Ok(()),
        }
    }
}

/// How long nobody has said anything.
#[derive(Debug)]
struct Silence {
    timeouts: WebSocketTimeouts,
    told: Arc<AtomicBool>,
    /// Before, all of the time counts, whatever is said.
    upgraded: bool,
    since: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Silence {
    fn new(timeouts: WebSocketTimeouts, told: Arc<AtomicBool>) -> Self {
        let since = Instant::now();
        let alarm = Box::pin(sleep_until(since + timeouts.handshake));
        Self { timeouts, told, upgraded: false, since, alarm }
    }

    fn broken(&mut self) {
        if self.upgraded {
            self.since = Instant::now();
        }
    }

    fn listen(&mut self) {
        if self.upgraded || !self.told.load(Ordering::Relaxed) {
            return;
        }
        (self.upgraded, self.since) = (true, Instant::now());
        // The alarm was set for the handshake.
        if let Some(silence) = self.timeouts.silence {
            self.alarm.as_mut().reset(self.since + silence);
        }
    }

    /// The alarm is set again only when it rings: bytes cost a look at the clock.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.listen();
        let timeout = if self.upgraded { self.timeouts.silence } else { Some(self.timeouts.handshake) };
        let Some(timeout) = timeout else { return Poll::Pending };
        while self.alarm.as_mut().poll(context).is_ready() {
            let end = self.since + timeout;
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(end);
        }
        Poll::Pending
    }
}

/// What went to the service of a `WebSocket`: the head of its request, then frames.
#[derive(Debug, Default)]
struct Said {
    /// Bytes of the empty line that ends the head, so far.
    line: usize,
    frames: FrameCursor,
}

impl Said {
    const END: &'static [u8; 4] = b"\r\n\r\n";

    fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.line < Self::END.len() {
            let Some((byte, after)) = rest.split_first() else { return };
            self.line =
                if Self::END.get(self.line) == Some(byte) { self.line + 1 } else { usize::from(*byte == b'\r') };
            rest = after;
        }
        self.frames.pass(rest);
    }

    fn may_close(&self) -> bool {
        self.line == Self::END.len() && self.frames.between_frames() && !self.frames.closed()
    }
}
