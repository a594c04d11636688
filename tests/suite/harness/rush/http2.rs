//! One connection of HTTP/2 by prior knowledge (RFC 9113 §3.3), with several requests at a time. Of a response's
//! fields only the status is read: the body says whose it is.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::http1::connect;
use super::{Ask, Leave, Score, Stock};

/// Requests on one connection.
pub(super) const AT_ONCE: usize = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const CANCEL: u8 = 8;
/// After so many streams a new connection is taken, in time before any server's own limit.
const MANY: u32 = 2_000;

pub(super) struct Streams {
    edge: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
    next: u32,
    waiting: Vec<Waiting>,
}

struct Waiting {
    id: u32,
    ask: Ask,
    leave: Option<Leave>,
    status: u16,
    body: Vec<u8>,
}

/// The field block of a request (RFC 7541 §6.2.2: literals that nobody keeps).
pub(super) fn request(path: &str, host: &str, cookie: &str) -> Vec<u8> {
    // `:method GET`, `:scheme http`; then names of the static table: `:path`, `:authority`, `cookie`.
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(&[0x04][..], path), (&[0x01], host), (&[0x0f, 0x11], cookie)] {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).ok().filter(|length| *length < 127).expect("a short value"));
        block.extend_from_slice(value.as_bytes());
    }
    block
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

impl Streams {
    pub(super) fn open(edge: SocketAddr) -> Self {
        let mut stream = connect(edge);
        let window = 0x7fff_ffff_u32 - 65_535;
        let hello = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[]), frame(WINDOW_UPDATE, 0, 0, &window.to_be_bytes())];
        stream.write_all(&hello.concat()).unwrap();
        Self { edge, stream, buffer: Vec::new(), next: 1, waiting: Vec::new() }
    }

    pub(super) fn send(&mut self, stock: &Stock<'_>, asks: &[(Ask, Option<Leave>)], score: &mut Score) {
        if self.next > MANY {
            *self = Self::open(self.edge);
        }
        let mut out = Vec::new();
        for (ask, leave) in asks {
            let (id, block) = (self.next, &stock.packed[stock.place(*ask)]);
            self.next += 2;
            out.extend(frame(HEADERS, END_STREAM | END_HEADERS, id, block));
            if matches!(leave, Some(Leave::Halfway | Leave::AtOnce)) {
                score.left += 1;
                out.extend(frame(RST_STREAM, 0, id, &[0, 0, 0, CANCEL]));
            } else {
                self.waiting.push(Waiting { id, ask: *ask, leave: *leave, status: 0, body: Vec::new() });
            }
        }
        if let Err(error) = self.stream.write_all(&out) {
            self.lose(score, &format!("not sent: {}", error.kind()));
        }
    }

    pub(super) fn receive(&mut self, stock: &Stock<'_>, score: &mut Score) {
        // One of them leaves, or the whole connection.
        if let Some(at) = self.waiting.iter().position(|one| one.leave.is_some()) {
            let leaver = self.waiting.swap_remove(at);
            score.left += 1;
            let reset = frame(RST_STREAM, 0, leaver.id, &[0, 0, 0, CANCEL]);
            if leaver.leave == Some(Leave::Later) && fastrand::usize(0..4) == 0
                || self.stream.write_all(&reset).is_err()
            {
                score.left += self.waiting.len();
                *self = Self::open(self.edge);
                return;
            }
            return self.receive(stock, score);
        }
        while !self.waiting.is_empty() {
            if let Err(error) = self.take_frame(stock, score) {
                return self.lose(score, &format!("no answer on HTTP/2: {error}"));
            }
        }
    }

    fn lose(&mut self, score: &mut Score, why: &str) {
        for _ in &self.waiting {
            score.wonder(why);
        }
        *self = Self::open(self.edge);
    }

    fn take_frame(&mut self, stock: &Stock<'_>, score: &mut Score) -> io::Result<()> {
        let head = self.peek(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes(head[5..9].try_into().unwrap());
        self.peek(9 + length)?;
        let payload: Vec<u8> = self.buffer.drain(..9 + length).skip(9).collect();
        match kind {
            SETTINGS if flags & ACK == 0 => self.stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            PING if flags & ACK == 0 => self.stream.write_all(&frame(PING, ACK, 0, &payload))?,
            GOAWAY => return Err(io::Error::other("the connection is to end")),
            _ => {}
        }
        let Some(at) = self.waiting.iter().position(|one| one.id == id) else { return Ok(()) };
        let one = &mut self.waiting[at];
        match kind {
            HEADERS => one.status = status(&payload),
            DATA => one.body.extend_from_slice(&payload),
            RST_STREAM => {
                score.wonder(&format!("stream reset {payload:?}"));
                self.waiting.swap_remove(at);
                return Ok(());
            }
            _ => return Ok(()),
        }
        if flags & END_STREAM != 0 {
            let one = self.waiting.swap_remove(at);
            score.judge(stock, one.ask, one.status, &one.body);
        }
        Ok(())
    }

    fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        let mut chunk = [0; 8192];
        while self.buffer.len() < length {
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.buffer.extend_from_slice(&chunk[..count]),
            }
        }
        Ok(&self.buffer[..length])
    }
}

/// The status of a field block as our server writes it: first, from the static table, or 0.
fn status(block: &[u8]) -> u16 {
    // A change of the table's size may stand before it (RFC 7541 §6.3).
    let first = block.iter().find(|byte| **byte & 0xe0 != 0x20).copied().unwrap_or_default();
    let known = [200, 204, 206, 304, 400, 404, 500];
    usize::from(first).checked_sub(0x88).and_then(|at| known.get(at)).copied().unwrap_or(0)
}
