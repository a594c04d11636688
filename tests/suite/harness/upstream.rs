//! An echo service written on the bare socket, so that what it records is what the program sent, byte
//! for byte. It answers with JSON: `{"method","target","headers":[[name,value],…],"body_length"}`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::wire::{Body, Head, Reader};

/// What the service does with the next requests.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Behaviour {
    /// Answers with what it was sent.
    Echo,
    /// Waits, then answers.
    Delay(Duration),
    /// Answers with this status.
    Status(u16),
    /// Closes without an answer.
    Close,
    /// Waits, then closes without an answer.
    CloseAfter(Duration),
    /// Sends the head of an answer byte by byte, with this pause before each.
    Drip(Duration),
    /// Resets the connection at every so manyeth request, without an answer; echoes the others.
    ResetEvery(usize),
    /// Sends these bytes and closes.
    Bytes(Vec<u8>),
    /// Sends these bytes and then nothing, while the other end stays.
    Stall(&'static str),
    /// Answers with these header lines and `USER #N`, the user it was told of and the number of the
    /// request. With an `ETag` among them, a request that holds it gets a 304 with the lines.
    Say(Say),
    /// Sends so many events, one at a time; each holds the microseconds since the service started.
    Events { count: usize, every: Duration },
}

/// An answer for caches.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Say {
    /// 0: 200.
    pub(crate) status: u16,
    /// Header lines, each ending in CRLF.
    pub(crate) lines: String,
    /// Waits first.
    pub(crate) after: Duration,
    /// Announces this much more than it sends, then closes.
    pub(crate) missing: usize,
}

impl Say {
    /// 200 with one `Cache-Control` and perhaps more lines.
    pub(crate) fn cache_control(value: &str, more: &str) -> Behaviour {
        Behaviour::Say(Self { lines: format!("Cache-Control: {value}\r\n{more}"), ..Self::default() })
    }

    async fn answer(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        received: &Received,
        number: usize,
    ) -> std::io::Result<()> {
        tokio::time::sleep(self.after).await;
        let known =
            received.head.one("if-none-match").is_some_and(|tag| self.lines.contains(&format!("ETag: {tag}\r\n")));
        let status = if known {
            304
        } else if self.status == 0 {
            200
        } else {
            self.status
        };
        let body = format!("{} #{number}", received.head.one("x-original-user").unwrap_or_default());
        let length = body.len() + self.missing;
        let framing = if known { String::new() } else { format!("Content-Length: {length}\r\n") };
        let head = format!("HTTP/1.1 {status} Said\r\n{framing}{}\r\n", self.lines);
        writer.write_all(head.as_bytes()).await?;
        if !known && received.head.start_line().split(' ').next() != Some("HEAD") {
            writer.write_all(body.as_bytes()).await?;
        }
        writer.flush().await?;
        if self.missing > 0 { Err(std::io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// Start line and headers.
    pub(crate) head: Head,
    /// Length and first bytes of the body.
    pub(crate) body: Body,
}

impl Received {
    /// `Bearer …` without the word; panics when there is none.
    pub(crate) fn bearer(&self) -> String {
        let value = self.head.one("authorization").expect("an Authorization header");
        value.strip_prefix("Bearer ").expect("a bearer token").to_owned()
    }

    /// The target of the request line.
    pub(crate) fn target(&self) -> String {
        self.head.start_line().split(' ').nth(1).unwrap_or("").to_owned()
    }
}

/// A running echo service; ends with the runtime of the test.
#[derive(Clone)]
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// When it was started: the zero of the events' clock.
    pub(crate) epoch: Instant,
    state: Arc<State>,
    tls: bool,
}

#[derive(Debug)]
struct State {
    behaviour: Mutex<Behaviour>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    heads: AtomicUsize,
    epoch: Instant,
}

impl Upstream {
    /// A plain-text service.
    pub(crate) async fn start() -> Self {
        Self::listen(None).await
    }

    /// A service behind TLS.
    pub(crate) async fn start_tls(config: rustls::ServerConfig) -> Self {
        Self::listen(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let epoch = Instant::now();
        let state = Arc::new(State {
            behaviour: Mutex::new(Behaviour::Echo),
            received: Mutex::default(),
            connections: AtomicUsize::new(0),
            heads: AtomicUsize::new(0),
            epoch,
        });
        let upstream =
            Self { address: listener.local_addr().unwrap(), epoch, state: Arc::clone(&state), tls: tls.is_some() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accept(stream, tls.clone(), Arc::clone(&state)));
            }
        });
        upstream
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// Changes what it does from the next request on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().unwrap() = behaviour;
    }

    /// Whole requests received so far.
    pub(crate) fn count(&self) -> usize {
        self.state.received.lock().unwrap().len()
    }

    /// Forgets the requests so far, where there are too many to keep.
    pub(crate) fn forget(&self) {
        self.state.received.lock().unwrap().clear();
    }

    /// Request heads seen so far, answered or not.
    pub(crate) fn heads(&self) -> usize {
        self.state.heads.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The last request; panics when there is none.
    pub(crate) fn last(&self) -> Received {
        self.state.received.lock().unwrap().last().expect("the service was asked").clone()
    }

    /// Every request so far.
    pub(crate) fn all(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }
}

async fn accept(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    stream.set_nodelay(true).unwrap();
    if matches!(*state.behaviour.lock().unwrap(), Behaviour::ResetEvery(_)) {
        // Closing is then a reset.
        stream.set_zero_linger().unwrap();
    }
    match tls {
        None => drop(serve(stream, &state).await),
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                drop(serve(stream, &state).await);
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite, state: &State) -> std::io::Result<()> {
    let (reader, writer) = tokio::io::split(stream);
    tokio::pin!(reader, writer);
    let mut reader = Reader::new(reader);
    state.connections.fetch_add(1, Ordering::SeqCst);
    while let Some(head) = reader.head().await? {
        state.heads.fetch_add(1, Ordering::SeqCst);
        if head.one("expect").is_some() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            writer.flush().await?;
        }
        let body = reader.body(&head).await?;
        let received = Received { head, body };
        let echo = describe(&received);
        let (asked, number) = {
            let mut all = state.received.lock().unwrap();
            all.push(received.clone());
            (received, all.len())
        };
        let behaviour = state.behaviour.lock().unwrap().clone();
        match behaviour {
            Behaviour::Close => return Ok(()),
            Behaviour::CloseAfter(span) => {
                tokio::time::sleep(span).await;
                return Ok(());
            }
            Behaviour::Drip(pause) => drip(&mut writer, pause).await?,
            Behaviour::ResetEvery(nth) if number % nth == 0 => return Ok(()),
            Behaviour::Bytes(bytes) => {
                writer.write_all(&bytes).await?;
                return writer.flush().await;
            }
            Behaviour::Stall(bytes) => {
                writer.write_all(bytes.as_bytes()).await?;
                writer.flush().await?;
                while reader.head().await?.is_some() {}
            }
            Behaviour::Events { count, every } => send_events(&mut writer, state, count, every).await?,
            Behaviour::Say(say) => say.answer(&mut writer, &asked, number).await?,
            Behaviour::Delay(span) => {
                tokio::time::sleep(span).await;
                answer(&mut writer, 200, &echo).await?;
            }
            Behaviour::Status(status) => answer(&mut writer, status, &echo).await?,
            Behaviour::Echo | Behaviour::ResetEvery(_) => answer(&mut writer, 200, &echo).await?,
        }
    }
    Ok(())
}

fn describe(received: &Received) -> String {
    let headers: Vec<_> = received
        .head
        .headers()
        .into_iter()
        .map(|(name, value)| json!([name, String::from_utf8_lossy(&value)]))
        .collect();
    let line = received.head.start_line();
    let mut words = line.split(' ');
    let (method, target) = (words.next(), words.next());
    json!({"method": method, "target": target, "headers": headers, "body_length": received.body.length}).to_string()
}

async fn answer(writer: &mut (impl AsyncWrite + Unpin), status: u16, body: &str) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    writer.write_all(head.as_bytes()).await?;
    writer.write_all(body.as_bytes()).await?;
    writer.flush().await
}

async fn drip(writer: &mut (impl AsyncWrite + Unpin), pause: Duration) -> std::io::Result<()> {
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: yes\r\nContent-Length: 0\r\n\r\n" {
        tokio::time::sleep(pause).await;
        writer.write_all(&[*byte]).await?;
        writer.flush().await?;
    }
    Ok(())
}

async fn send_events(
    writer: &mut (impl AsyncWrite + Unpin),
    state: &State,
    count: usize,
    every: Duration,
) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    writer.write_all(head.as_bytes()).await?;
    writer.flush().await?;
    for _ in 0..count {
        tokio::time::sleep(every).await;
        let event = format!("data: {}\n\n", state.epoch.elapsed().as_micros());
        writer.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
        writer.flush().await?;
    }
    writer.write_all(b"0\r\n\r\n").await?;
    writer.flush().await
}
