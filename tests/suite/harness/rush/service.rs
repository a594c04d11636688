//! A service that answers at once with whom and what it was sent: `{X-Original-User}|{token}`. What ends in
//! `same` may be stored.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Threads of its own; they end with their connections, the one that accepts with this.
pub(crate) struct Service {
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

/// What it answers to a request of this user with this token.
pub(super) fn echo(user: &str, bearer: &str) -> Vec<u8> {
    format!("{user}|{bearer}").into_bytes()
}

impl Service {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, over) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let ended = Arc::clone(&over);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::Builder::new().stack_size(256 * 1024).spawn(move || serve(stream)).unwrap();
            }
        });
        Self { address, over }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream) {
    let (mut seen, mut chunk) = (Vec::new(), [0; 8192]);
    let _ = stream.set_nodelay(true);
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        seen.extend_from_slice(&chunk[..count]);
        // No body is sent here, and no request before the answer to the one before.
        if !seen.ends_with(b"\r\n\r\n") {
            continue;
        }
        let head = String::from_utf8_lossy(&seen);
        let (mut user, mut bearer) = ("", "");
        let mut lines = head.split("\r\n");
        let stored = lines.next().unwrap_or_default().ends_with("same HTTP/1.1");
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("x-original-user") {
                user = value.trim();
            } else if name.eq_ignore_ascii_case("authorization") {
                bearer = value.trim().strip_prefix("Bearer ").unwrap_or("?");
            }
        }
        let (body, control) = (echo(user, bearer), if stored { "max-age=30" } else { "no-store" });
        let head = format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.into_bytes(), body].concat()).is_err() {
            return;
        }
        seen.clear();
    }
}
