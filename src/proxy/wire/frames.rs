//! What a client does to an HTTP/2 connection, by the heads of its frames (RFC 9113 §4.1): those that cost us
//! work and carry nothing are counted, for the engine answers each of them however many come. A client that is
//! sent data may say one for each frame of it: gRPC measures its window by a PING after what it receives.

use std::time::Instant;

/// So many may come at once: a page that is left cancels all it was loading.
const BURST: u32 = 1000;
/// And so many a second in the long run.
const A_SECOND: u32 = 200;
/// The client's preface, which is no frame.
const PREFACE: usize = 24;
/// Length, type, flags, stream.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// The frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    received: Cursor,
    sent: Cursor,
    left: u32,
    since: Instant,
}

impl Default for Frames {
    fn default() -> Self {
        Self { received: Cursor::behind(PREFACE), sent: Cursor::behind(0), left: BURST, since: Instant::now() }
    }
}

impl Frames {
    /// Whether the client may go on after these bytes.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> bool {
        while let Some(frame) = self.received.next(&mut bytes) {
            if frame.is_idle_work() && !self.pay() {
                return false;
            }
        }
        true
    }

    /// These bytes went to the client.
    pub(super) fn wrote(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.sent.next(&mut bytes) {
            if frame.kind == DATA && frame.length > 0 {
                self.left = self.left.saturating_add(1).min(BURST);
            }
        }
    }

    fn pay(&mut self) -> bool {
        if self.left == 0 {
            let earned = u128::from(A_SECOND) * self.since.elapsed().as_millis() / 1000;
            self.left = u32::try_from(earned).unwrap_or(BURST).min(BURST);
            self.since = Instant::now();
        }
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return false,
        };
        true
    }
}

/// A place in one direction.
#[derive(Debug)]
struct Cursor {
    /// Bytes to pass over before the next head.
    skip: usize,
    head: Vec<u8>,
}

impl Cursor {
    fn behind(skip: usize) -> Self {
        Self { skip, head: Vec::with_capacity(HEAD) }
    }

    /// The next head in `bytes`, which begin behind it then; `None` once they are used up.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let passed = self.skip.min(bytes.len());
        self.skip -= passed;
        let taken = (HEAD - self.head.len()).min(bytes.len() - passed);
        let (now, rest) = bytes.split_at_checked(passed + taken)?;
        *bytes = rest;
        self.head.extend_from_slice(now.get(passed..).unwrap_or_default());
        let [a, b, c, kind, flags, _, _, _, _] = *self.head else { return None };
        self.head.clear();
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Some(Frame { kind, flags, length: self.skip })
    }
}

/// What a head says.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    length: usize,
}

impl Frame {
    /// It makes us work without carrying a request or a part of one.
    fn is_idle_work(self) -> bool {
        match self.kind {
            DATA => self.length == 0 && self.flags & END_STREAM == 0,
            HEADERS => self.length == 0,
            PRIORITY | RST_STREAM | SETTINGS | PING | CONTINUATION => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_however_the_bytes_come() {
        let ping = [&[0, 0, 8, PING, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
        let data = [&[0, 0, 3, DATA, 0, 0, 0, 0, 1][..], &[PING; 3]].concat();
        let bytes = [&[b'x'; PREFACE][..], &ping, &data, &ping, &data].concat();
        for piece in [1, 2, 7, 9, 17, bytes.len()] {
            let mut frames = Frames::default();
            assert!(bytes.chunks(piece).all(|piece| frames.read(piece)));
            assert_eq!(frames.left, BURST - 2, "pieces of {piece}");
        }
        let mut frames = Frames::default();
        assert!(frames.read(&[b'x'; PREFACE]));
        let passed = (0..10 * BURST).take_while(|_| frames.read(&ping)).count();
        assert!((BURST as usize..10 * BURST as usize).contains(&passed), "{passed}");
        let mut frames = Frames::default();
        assert!(frames.read(&[b'x'; PREFACE]) && (0..10 * BURST).all(|_| frames.read(&data)), "data is no flood");
    }

    #[test]
    fn data_that_is_sent_pays_for_a_frame_each() {
        let ping = [&[0, 0, 8, PING, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
        let data = [&[0, 0, 3, DATA, 0, 0, 0, 0, 1][..], &[PING; 3]].concat();
        let acknowledged = [&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &[DATA; 8]].concat();
        let mut frames = Frames::default();
        assert!(frames.read(&[b'x'; PREFACE]));
        for _ in 0..10 * BURST {
            data.chunks(5).for_each(|piece| frames.wrote(piece));
            assert!(frames.read(&ping), "one for each");
            frames.wrote(&acknowledged);
        }
        let passed = (0..10 * BURST).take_while(|_| {
            frames.wrote(&acknowledged);
            frames.read(&ping)
        });
        assert!(passed.count() < 10 * BURST as usize, "an acknowledgement is no data");
    }
}
