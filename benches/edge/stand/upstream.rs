//! The service behind every proxy: it reads a request, body included, and answers from memory. Also the
//! provider's published documents. One thread.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::message::head;

/// Answers by path; the longest prefix up to `?` counts, `/` is for everything else.
pub type Answers = HashMap<String, Vec<u8>>;

/// A whole answer.
pub fn answer(kind: &str, cache_control: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: {kind}\r\nCache-Control: {cache_control}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// What the scenarios ask for: 1 KiB that nobody may store, 1 KiB that everybody may, 1 MiB.
pub fn usual() -> Answers {
    let json = |length: usize| format!("{{\"text\":\"{}\"}}", "x".repeat(length - 11)).into_bytes();
    HashMap::from([
        ("/".to_owned(), answer("application/json", "no-store", &json(1024))),
        ("/kept".to_owned(), answer("application/json", "max-age=86400", &json(1024))),
        ("/large".to_owned(), answer("application/json", "no-store", &json(1024 * 1024))),
    ])
}

/// Serves from a thread of its own until the process ends.
pub fn start(listener: std::net::TcpListener, answers: Answers) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let answers = Arc::new(answers);
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                tokio::spawn(converse(stream, Arc::clone(&answers)));
            }
        });
    });
    address
}

async fn converse(mut stream: TcpStream, answers: Arc<Answers>) {
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        let Some((end, length)) = head(&buffer) else {
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let answer = find(&answers, &buffer);
        let mut missing = (end + length).saturating_sub(buffer.len());
        buffer.drain(..buffer.len().min(end + length));
        let mut sink = [0; 16 * 1024];
        while missing > 0 {
            let room = missing.min(sink.len());
            match stream.read(&mut sink[..room]).await {
                Ok(0) | Err(_) => return,
                Ok(read) => missing -= read,
            }
        }
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

fn find<'a>(answers: &'a Answers, request: &[u8]) -> &'a [u8] {
    let target = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let found = std::str::from_utf8(path).ok().and_then(|path| answers.get(path));
    found.unwrap_or_else(|| &answers["/"])
}
