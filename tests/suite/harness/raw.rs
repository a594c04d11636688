//! A client that sends exactly the bytes it is given.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::wire::{Body, Head, Reader};

const PATIENCE: Duration = Duration::from_secs(10);

/// One connection.
pub(crate) struct RawClient {
    /// The half to read heads, bodies and chunks from.
    pub(crate) reader: Reader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl RawClient {
    /// Connects within ten seconds.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        Self { reader: Reader::new(reader), writer }
    }

    /// Sends the bytes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.writer.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next response head; panics after ten seconds or at the end of the stream.
    pub(crate) async fn head(&mut self) -> Head {
        timeout(PATIENCE, self.reader.head()).await.expect("a response in time").unwrap().expect("a response")
    }

    /// The next whole response, also 1xx ones.
    pub(crate) async fn response(&mut self) -> (Head, Body) {
        let head = self.head().await;
        let body = timeout(PATIENCE, self.reader.body(&head)).await.expect("a body in time").unwrap();
        (head, body)
    }

    /// Sends a request and reads its response.
    pub(crate) async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> (Head, Body) {
        self.send(bytes).await;
        self.response().await
    }
}

/// Sends the bytes on a connection of their own and reads one response.
pub(crate) async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> (Head, Body) {
    RawClient::connect(address).await.ask(bytes).await
}
