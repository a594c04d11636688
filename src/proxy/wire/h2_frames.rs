//! What a client does to an HTTP/2 connection, by the heads of its frames (RFC 9113 §4.1): those that cost us
//! work and carry nothing are counted, for the engine answers each of them however many come. A client that is
//! sent data may say one for each frame of it: gRPC measures its window by a PING after what it receives.
//! Windows have an account of their own: some clients open them again after every read, however little it was.
//! What is begun is to be finished in time, and trailers, which nobody here reads, are to be short.

use std::task::Context;
use std::time::{Duration, Instant};

use super::pace::Pace;

/// So many may come at once: a page that is left cancels all it was loading.
const BURST: u32 = 1000;
/// And so many a second in the long run.
const A_SECOND: u32 = 200;
/// So many `WINDOW_UPDATE` may come at once: a client may read all it was sent before it says so.
const WINDOWS: u32 = 16_000;
/// One more for so many bytes that were sent, and two for each frame of them: stream and connection.
const BYTES_A_WINDOW: u32 = 128;
/// Bytes of trailers: each may be a field, which takes 72 bytes here until its answer is over.
const TRAILERS: usize = 1024;
/// The client's preface, which is no frame.
const PREFACE: usize = 24;
/// Length, type, flags, stream.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    received: Cursor,
    sent: Cursor,
    idle: Allowance,
    windows: Allowance,
    begun: bool,
    /// The last one was a piece of a block of fields that goes on.
    in_block: bool,
    in_data: bool,
    /// The newest stream.
    stream: u32,
    patience: Pace,
}

impl Frames {
    /// Each of them, and each block of fields, is to be finished within `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            received: Cursor::behind(PREFACE),
            sent: Cursor::behind(0),
            idle: Allowance::of(BURST),
            windows: Allowance { left: BURST, ..Allowance::of(WINDOWS) },
            begun: false,
            in_block: false,
            in_data: false,
            stream: 0,
            patience: Pace::new(0, patience),
        }
    }

    /// Whether the client may go on after these bytes.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> bool {
        while let Some(frame) = self.received.next(&mut bytes) {
            // RFC 9113 §3.4: the preface ends with SETTINGS, and without them may be answered by nothing at all.
            self.begun |= frame.kind == SETTINGS && frame.flags & ACK == 0;
            if !self.in_block {
                self.patience.renew();
            }
            let whole = frame.flags & END_HEADERS != 0;
            self.in_block = matches!(frame.kind, HEADERS | CONTINUATION) && !whole;
            self.in_data = frame.kind == DATA;
            let paid = match frame.kind {
                _ if !self.begun => false,
                HEADERS if frame.stream <= self.stream => whole && frame.length <= TRAILERS && self.pay_for(frame),
                WINDOW_UPDATE => self.windows.pay(),
                _ => self.pay_for(frame),
            };
            if frame.kind == HEADERS {
                self.stream = self.stream.max(frame.stream);
            }
            if !paid {
                return false;
            }
        }
        true
    }

    fn pay_for(&mut self, frame: Frame) -> bool {
        !frame.is_idle_work() || self.idle.pay()
    }

    /// Whether the client may be waited for, who has sent nothing more.
    pub(super) fn may_wait(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_amid() {
            return self.patience.stalled(cx).is_pending();
        }
        self.patience.renew();
        true
    }

    /// Something is begun and not finished; how slow a body may be is for others to say.
    fn is_amid(&self) -> bool {
        let cut = self.received.skip > 0 && !self.in_data;
        cut || !self.begun || self.in_block || !self.received.head.is_empty()
    }

    /// These bytes went to the client.
    pub(super) fn wrote(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.sent.next(&mut bytes) {
            if frame.kind == DATA && frame.length > 0 {
                let length = u32::try_from(frame.length).unwrap_or(u32::MAX);
                self.idle.earn(1);
                self.windows.earn(2 + length / BYTES_A_WINDOW);
            }
        }
    }
}

/// How many frames of a kind may still come.
#[derive(Debug)]
struct Allowance {
    left: u32,
    most: u32,
    since: Instant,
}

impl Allowance {
    fn of(most: u32) -> Self {
        Self { left: most, most, since: Instant::now() }
    }

    fn earn(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.most);
    }

    fn pay(&mut self) -> bool {
        if self.left == 0 {
            let earned = u128::from(A_SECOND) * self.since.elapsed().as_millis() / 1000;
            self.earn(u32::try_from(earned).unwrap_or(u32::MAX));
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
        let [a, b, c, kind, flags, ref stream @ ..] = *self.head else { return None };
        // The first bit means nothing.
        let stream = u32::from_be_bytes(stream.try_into().ok()?) & (u32::MAX >> 1);
        self.head.clear();
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Some(Frame { kind, flags, length: self.skip, stream })
    }
}

/// What a head says.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    length: usize,
    stream: u32,
}

impl Frame {
    /// It makes us work without carrying a request or a part of one.
    fn is_idle_work(self) -> bool {
        match self.kind {
            DATA => self.length == 0 && self.flags & END_STREAM == 0,
            HEADERS => self.length == 0,
            // Those of no known type are passed over (§5.5), but not for nothing.
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn fresh() -> Frames {
        Frames::new(Duration::from_secs(10))
    }

    fn opening() -> Vec<u8> {
        [&[b'x'; PREFACE][..], &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]].concat()
    }

    #[test]
    fn settings_come_first() {
        for (first, well) in [(SETTINGS, true), (PING, false), (DATA, false), (0xbb, false)] {
            let mut frames = fresh();
            let head = [&[b'x'; PREFACE][..], &[0, 0, 0, first, 0, 0, 0, 0, 0]].concat();
            assert_eq!(head.chunks(5).all(|piece| frames.read(piece)), well, "{first}");
        }
        let acknowledged = [&[b'x'; PREFACE][..], &[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]].concat();
        assert!(!fresh().read(&acknowledged));
    }

    #[test]
    fn heads_are_found_however_the_bytes_come() {
        let ping = [&[0, 0, 8, PING, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
        let data = [&[0, 0, 3, DATA, 0, 0, 0, 0, 1][..], &[PING; 3]].concat();
        let bytes = [&opening()[..], &ping, &data, &ping, &data].concat();
        for piece in [1, 2, 7, 9, 17, bytes.len()] {
            let mut frames = fresh();
            assert!(bytes.chunks(piece).all(|piece| frames.read(piece)));
            assert_eq!(frames.idle.left, BURST - 3, "pieces of {piece}");
        }
        let mut frames = fresh();
        assert!(frames.read(&opening()));
        let passed = (0..10 * BURST).take_while(|_| frames.read(&ping)).count();
        // The first frame of all has been counted.
        assert!((BURST as usize - 1..10 * BURST as usize).contains(&passed), "{passed}");
        let mut frames = fresh();
        assert!(frames.read(&opening()) && (0..10 * BURST).all(|_| frames.read(&data)), "data is no flood");
    }

    #[test]
    fn data_that_is_sent_pays_for_a_frame_each() {
        let ping = [&[0, 0, 8, PING, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
        let data = [&[0, 0, 3, DATA, 0, 0, 0, 0, 1][..], &[PING; 3]].concat();
        let acknowledged = [&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &[DATA; 8]].concat();
        let mut frames = fresh();
        assert!(frames.read(&opening()));
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

    #[test]
    fn windows_are_opened_as_often_as_there_was_something_to_take() {
        let window = [0, 0, 4, WINDOW_UPDATE, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        let data = [&[0, 0x40, 0, DATA, 0, 0, 0, 0, 1][..], &[PING; 0x4000]].concat();
        let mut frames = fresh();
        assert!(frames.read(&opening()));
        for _ in 0..1000 {
            frames.wrote(&data);
            assert!((0..100).all(|_| frames.read(&window)), "after every read of 164 bytes");
        }
        let passed = (0..10 * WINDOWS).take_while(|_| frames.read(&window)).count();
        assert!(passed < 2 * WINDOWS as usize, "{passed} for nothing");
    }

    #[test]
    fn only_what_is_begun_and_is_no_data_is_waited_for() {
        let begun = |bytes: &[u8]| {
            let mut frames = fresh();
            assert!(frames.read(&[&opening(), bytes].concat()), "{bytes:?}");
            frames.is_amid()
        };
        let (whole, open) = (1 | END_HEADERS, 1);
        for (bytes, amid) in [
            (&[][..], false),
            (&[0, 0, 8], true),
            (&[0, 0, 8, PING, 0, 0, 0, 0, 0], true),
            (&[0, 0, 1, HEADERS, whole, 0, 0, 0, 1], true),
            (&[0, 0, 1, HEADERS, whole, 0, 0, 0, 1, 0x82], false),
            (&[0, 0, 1, HEADERS, open, 0, 0, 0, 1, 0x82], true),
            (&[0, 0, 1, HEADERS, open, 0, 0, 0, 1, 0x82, 0, 0, 0, CONTINUATION, END_HEADERS, 0, 0, 0, 1], false),
            (&[0, 0, 9, DATA, 0, 0, 0, 0, 1, 0], false),
        ] {
            assert_eq!(begun(bytes), amid, "{bytes:?}");
        }
        assert!(fresh().is_amid(), "the SETTINGS of the client");
    }

    #[test]
    fn trailers_are_few() {
        let head = |stream: u8, flags: u8, length: u16| {
            let [a, b] = length.to_be_bytes();
            [&[0, a, b, HEADERS, flags, 0, 0, 0, stream][..], &vec![0x82; usize::from(length)]].concat()
        };
        let well = |trailers: &[u8]| fresh().read(&[&opening()[..], &head(1, END_HEADERS, 4000), trailers].concat());
        assert!(well(&head(1, 1 | END_HEADERS, 1024)) && well(&head(3, 1 | END_HEADERS, 4000)) && well(&head(3, 1, 9)));
        assert!(!well(&head(1, 1 | END_HEADERS, 1025)) && !well(&head(1, 1, 9)));
    }
}
