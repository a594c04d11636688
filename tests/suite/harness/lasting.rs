//! What does not end by itself: a service with silent event streams and WebSockets, and the clients of
//! both.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::wire::{Head, Reader};
use super::{Edge, RawClient};

const PATIENCE: Duration = Duration::from_secs(10);

/// A service that sends one event and then nothing, or takes a WebSocket and says nothing.
#[derive(Clone)]
pub(crate) struct Lasting {
    address: SocketAddr,
    state: Arc<State>,
    end: Arc<watch::Sender<bool>>,
}

#[derive(Default)]
struct State {
    open: AtomicUsize,
    said: Mutex<Vec<Vec<u8>>>,
}

impl Lasting {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lasting = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
            end: Arc::new(watch::channel(false).0),
        };
        let (state, end) = (Arc::clone(&lasting.state), Arc::clone(&lasting.end));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, end) = (Arc::clone(&state), end.subscribe());
                tokio::spawn(async move {
                    state.open.fetch_add(1, Ordering::SeqCst);
                    let said = serve(stream, end).await;
                    state.said.lock().unwrap().push(said);
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        lasting
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// What came over each connection that has ended, after its head.
    pub(crate) fn said(&self) -> Vec<Vec<u8>> {
        self.state.said.lock().unwrap().clone()
    }

    /// Sends one more event and ends all streams as they should end.
    pub(crate) fn end(&self) {
        self.end.send_replace(true);
    }
}

/// Serves one request; answers with what was said after it until the end.
async fn serve(stream: TcpStream, mut end: watch::Receiver<bool>) -> Vec<u8> {
    let (read, mut write) = stream.into_split();
    let mut reader = Reader::new(read);
    let Ok(Some(head)) = reader.head().await else { return Vec::new() };
    let websocket = head.one("upgrade").is_some();
    let answer = if websocket {
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    } else {
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
         d\r\ndata: hello\n\n\r\n"
    };
    if write.write_all(answer.as_bytes()).await.is_err() {
        return Vec::new();
    }
    let mut said = Vec::new();
    let told = async { end.wait_for(|end| *end).await.is_ok() };
    let ends = tokio::select! {
        () = reader.rest(&mut said) => false,
        told = told => told,
    };
    if ends && !websocket {
        let _ = write.write_all(b"c\r\ndata: last\n\n\r\n0\r\n\r\n").await;
        reader.rest(&mut said).await;
    }
    said
}

/// An event stream of somebody with this cookie, after its first event.
pub(crate) async fn events(edge: &Edge, path: &str, cookie: &str) -> RawClient {
    let mut client = RawClient::connect(edge.address()).await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n", edge.port)).await;
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(timeout(PATIENCE, client.reader.chunk()).await.unwrap().unwrap(), b"data: hello\n\n");
    client
}

/// The client's end of a WebSocket.
pub(crate) struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Opens one as a page of ours would.
    pub(crate) async fn open(edge: &Edge, path: &str, cookie: &str) -> Self {
        let mut stream = TcpStream::connect(edge.address()).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nCookie: {cookie}\r\n\
             Origin: {}\r\n\r\n",
            edge.port, edge.origin
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Head::default();
        while !head.bytes.ends_with(b"\r\n\r\n") {
            head.bytes.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        assert_eq!(head.status(), 101);
        Self { stream }
    }

    /// Sends a short text, masked with zeros.
    pub(crate) async fn say(&mut self, text: &str) {
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
        frame.extend(text.bytes());
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The code of the `Close` that comes next, if that comes next; answers it, and then there is an end.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        let mut head = [0; 4];
        timeout(PATIENCE, self.stream.read_exact(&mut head)).await.unwrap().ok()?;
        assert_eq!(head[0], 0x88, "a Close");
        let mut reason = vec![0; usize::from(head[1]) - 2];
        self.stream.read_exact(&mut reason).await.unwrap();
        self.stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, head[2], head[3]]).await.unwrap();
        let mut after = [0; 1];
        assert_eq!(timeout(PATIENCE, self.stream.read(&mut after)).await.unwrap().unwrap(), 0, "the end");
        Some(u16::from_be_bytes([head[2], head[3]]))
    }
}
