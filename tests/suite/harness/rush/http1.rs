//! One connection that is kept, with one request at a time.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::{Ask, Leave, PATIENCE, Score, Stock};

pub(super) struct Kept {
    edge: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
    waiting: Option<(Ask, Option<Leave>)>,
}

/// The whole request.
pub(super) fn request(path: &str, host: &str, cookie: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n").into_bytes()
}

/// A connection in order.
pub(super) fn connect(edge: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&edge, PATIENCE).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl Kept {
    pub(super) fn open(edge: SocketAddr) -> Self {
        Self { edge, stream: connect(edge), buffer: Vec::with_capacity(4096), waiting: None }
    }

    fn open_again(&mut self) {
        self.stream = connect(self.edge);
        self.buffer.clear();
    }

    pub(super) fn send(&mut self, stock: &Stock<'_>, ask: Ask, leave: Option<Leave>, score: &mut Score) {
        let request = &stock.plain[stock.place(ask)];
        let part = if leave == Some(Leave::Halfway) { &request[..request.len() / 2] } else { request };
        if let Err(error) = self.stream.write_all(part) {
            score.wonder(&format!("not sent: {}", error.kind()));
            return self.open_again();
        }
        if matches!(leave, Some(Leave::Halfway | Leave::AtOnce)) {
            score.left += 1;
            return self.open_again();
        }
        self.waiting = Some((ask, leave));
    }

    pub(super) fn receive(&mut self, stock: &Stock<'_>, score: &mut Score) {
        let Some((ask, leave)) = self.waiting.take() else { return };
        if let Some(leave) = leave {
            if leave == Leave::Begun {
                let _ = self.stream.read(&mut [0]);
            }
            score.left += 1;
            return self.open_again();
        }
        match self.answer() {
            Ok((status, body, hit)) => {
                score.hits += usize::from(hit);
                score.judge(stock, ask, status, &self.buffer[body..]);
                self.buffer.clear();
            }
            Err(error) => {
                score.wonder(&format!("no answer: {}", error.kind()));
                self.open_again();
            }
        }
    }

    /// Status, where the body begins (it ends with the buffer), and whether it was stored.
    fn answer(&mut self) -> io::Result<(u16, usize, bool)> {
        let mut chunk = [0; 4096];
        loop {
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&chunk[..count]);
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = str::from_utf8(&self.buffer[..end]).map_err(io::Error::other)?;
            let (mut length, mut hit) = (None, false);
            for line in head.split("\r\n").skip(1) {
                let (name, value) = line.split_once(':').unwrap_or_default();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse::<usize>().ok();
                } else if name.eq_ignore_ascii_case("x-cache") {
                    hit = value.trim() == "HIT";
                }
            }
            let status = head.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0);
            let whole = end + 4 + length.ok_or_else(|| io::Error::other("an answer without a length"))?;
            match self.buffer.len() {
                here if here < whole => {}
                here if here > whole => return Err(io::Error::other("more than one answer")),
                _ => return Ok((status, end + 4, hit)),
            }
        }
    }
}
