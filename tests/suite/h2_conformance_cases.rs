//! The cases of `h2_conformance`: what a client sends, and what RFC 9113 or RFC 7541 (HPACK) makes of it. Written
//! from their text; the number before each name is the section.

use crate::harness::frames::{PREFACE, fields, frame, request};

/// What to do on a connection that has been opened.
pub(crate) enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits until this stream is answered with 200, to the end.
    Answered(u32),
    /// The next DATA frame has this many bytes.
    Data(usize),
}

/// What must come of it.
#[derive(Debug)]
pub(crate) enum Wants {
    /// This stream is answered.
    Answers(u32),
    /// Nothing: the connection goes on.
    Goes,
    /// The client has said goodbye: the connection goes on or is closed without an error.
    Leaves,
    /// A stream error (§5.4.2), or a refusal of the request, or a connection error.
    Resets(u32),
    /// A connection error (§5.4.1).
    Ends,
}

/// Name, steps, outcome.
pub(crate) type Case = (&'static str, Vec<Step>, Wants);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// `END_STREAM`, `END_HEADERS`, `PADDED`, `PRIORITY`.
const ES: u8 = 1;
const EH: u8 = 4;
const PAD: u8 = 8;
const PRIO: u8 = 0x20;

type Fields<'a> = &'a [(&'a str, &'a str)];

fn one(name: &'static str, bytes: Vec<u8>, wants: Wants) -> Case {
    (name, vec![Step::Send(bytes)], wants)
}

fn post(more: Fields<'_>) -> Vec<u8> {
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", "/open/x")];
    fields(&[&head[..], more].concat())
}

/// A whole request.
fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, EH | ES, stream, &request(&[]))
}

/// A request whose body is to come.
fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, EH, stream, &post(&[]))
}

fn data(flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, payload)
}

fn setting(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[weight]].concat())
}

/// A field block in two pieces or more, each `at` bytes long.
fn pieces(stream: u32, flags: u8, block: &[u8], at: usize) -> Vec<u8> {
    let (first, rest) = block.split_at(at);
    let mut bytes = frame(HEADERS, flags, stream, first);
    let mut rest = rest.chunks(at).peekable();
    while let Some(piece) = rest.next() {
        let last = if rest.peek().is_none() { EH } else { 0 };
        bytes.extend(frame(CONTINUATION, last, stream, piece));
    }
    bytes
}

/// Connections that do not begin as one must (§3.4).
pub(crate) fn openings() -> Vec<(&'static str, Vec<u8>)> {
    let preface = &PREFACE[..24];
    vec![
        ("3.4 another preface", b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n".to_vec()),
        ("3.4 junk", b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec()),
        ("3.4 a first frame that is no SETTINGS", [preface, &frame(PING, 0, 0, &[0; 8])].concat()),
        ("3.4 a request before SETTINGS", [preface, &get(1)].concat()),
    ]
}

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    [
        requests(),
        streams(),
        states(),
        numbers(),
        bodies(),
        heads(),
        priorities(),
        ends(),
        settings(),
        pings(),
        windows(),
        continuations(),
        semantics(),
        malformed(),
        hpack(),
        huffman(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn requests() -> Vec<Case> {
    let method = |name: &str, flags| {
        let head = [(":method", name), (":scheme", "http"), (":authority", "h"), (":path", "/open/x")];
        frame(HEADERS, flags, 1, &fields(&head))
    };
    let trailers = frame(HEADERS, EH | ES, 1, &fields(&[("x-trailer", "y")]));
    let padded = [&[3][..], &request(&[]), &[0; 3]].concat();
    let ranked = [&[0, 0, 0, 0, 7][..], &request(&[])].concat();
    let both = [&[3, 0, 0, 0, 0, 7][..], &request(&[]), &[0; 3]].concat();
    vec![
        one("3.4 the preface", Vec::new(), Wants::Goes),
        one("8.1 GET", method("GET", EH | ES), Wants::Answers(1)),
        one("8.1 HEAD", method("HEAD", EH | ES), Wants::Answers(1)),
        one("8.1 POST", [method("POST", EH), data(ES, 1, b"test")].concat(), Wants::Answers(1)),
        one("8.1 POST with trailers", [open(1), data(0, 1, b"test"), trailers].concat(), Wants::Answers(1)),
        one("8.1 a method of its own", method("BREW", EH | ES), Wants::Answers(1)),
        one("8.2.2 te: trailers", frame(HEADERS, EH | ES, 1, &request(&[("te", "trailers")])), Wants::Answers(1)),
        one("6.1 several DATA", [open(1), data(0, 1, b"te"), data(ES, 1, b"st")].concat(), Wants::Answers(1)),
        one("6.1 padding", [open(1), data(ES | PAD, 1, b"\x06test\0\0\0\0\0\0")].concat(), Wants::Answers(1)),
        one("6.1 an empty DATA", [open(1), data(ES, 1, b"")].concat(), Wants::Answers(1)),
        one("4.2 DATA of 2^14", [open(1), data(ES, 1, &b"x".repeat(16_384))].concat(), Wants::Answers(1)),
        one("6.2 padding", frame(HEADERS, EH | ES | PAD, 1, &padded), Wants::Answers(1)),
        one("6.2 priority", frame(HEADERS, EH | ES | PRIO, 1, &ranked), Wants::Answers(1)),
        one("6.2 both", frame(HEADERS, EH | ES | PAD | PRIO, 1, &both), Wants::Answers(1)),
        one("6.10 one CONTINUATION", pieces(1, ES, &request(&[]), 30), Wants::Answers(1)),
        one("6.10 several CONTINUATION", pieces(1, ES, &request(&[]), 15), Wants::Answers(1)),
        one(
            "6.10 CONTINUATION after priority",
            [priority(1, 0, 9), pieces(1, ES, &request(&[]), 9)].concat(),
            Wants::Answers(1),
        ),
    ]
}

fn streams() -> Vec<Case> {
    let after =
        |name, bytes: Vec<u8>, wants| (name, vec![Step::Send(get(1)), Step::Answered(1), Step::Send(bytes)], wants);
    let goaway = |code: u32| frame(GOAWAY, 0, 0, &[&[0; 4][..], &code.to_be_bytes()].concat());
    vec![
        one("5.1 half-closed: WINDOW_UPDATE", [get(1), window(1, 1)].concat(), Wants::Answers(1)),
        one("5.1 half-closed: PRIORITY", [get(1), priority(1, 0, 1)].concat(), Wants::Answers(1)),
        one("5.1 half-closed: RST_STREAM", [get(1), reset(1, 8)].concat(), Wants::Goes),
        after("5.1 closed: PRIORITY", priority(1, 0, 1), Wants::Goes),
        after("5.1 closed: WINDOW_UPDATE", window(1, 1), Wants::Goes),
        after("5.1 closed: the next request", get(3), Wants::Answers(3)),
        one("5.1 reserved: PRIORITY on an idle stream", [priority(3, 0, 1), get(1)].concat(), Wants::Answers(1)),
        one("6.4 RST_STREAM", [open(1), reset(1, 8)].concat(), Wants::Goes),
        one("7 RST_STREAM with an unknown code", [open(1), reset(1, 0xff)].concat(), Wants::Goes),
        one("6.8 GOAWAY", goaway(0), Wants::Leaves),
        one("7 GOAWAY with an unknown code", goaway(0xff), Wants::Leaves),
        one("6.8 GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), Wants::Ends),
        one("4.1 an unknown type", frame(0x16, 0, 0, &[0; 8]), Wants::Goes),
        one("4.1 an unknown flag", frame(PING, 0x16, 0, &[0; 8]), Wants::Goes),
        one("4.1 the reserved bit", frame(PING, 0, 0x8000_0000, &[0; 8]), Wants::Goes),
        one(
            "5.5 an extension's frame on a stream",
            [open(1), frame(0xbb, 0xff, 1, b"x"), data(ES, 1, b"x")].concat(),
            Wants::Answers(1),
        ),
        one(
            "5.5 an extension's frame in a field block",
            [frame(HEADERS, ES, 1, &request(&[])), frame(0xbb, 0, 1, b"x"), frame(CONTINUATION, EH, 1, b"")].concat(),
            Wants::Ends,
        ),
        one("5.4.1 an error closes the connection", frame(PING, 0, 0, &[0; 6]), Wants::Ends),
    ]
}

fn states() -> Vec<Case> {
    let after =
        |name, bytes: Vec<u8>| (name, vec![Step::Send(get(1)), Step::Answered(1), Step::Send(bytes)], Wants::Resets(1));
    let aborted = |bytes: Vec<u8>| [open(1), reset(1, 8), bytes].concat();
    let continuation = || frame(CONTINUATION, EH, 1, &fields(&[("x", "y")]));
    vec![
        one("5.1 idle: DATA", data(ES, 1, b"x"), Wants::Ends),
        one("5.1 idle: RST_STREAM", reset(1, 8), Wants::Ends),
        one("5.1 idle: WINDOW_UPDATE", window(1, 1), Wants::Ends),
        one("5.1 idle: CONTINUATION", continuation(), Wants::Ends),
        one("5.1 half-closed: DATA", [get(1), data(ES, 1, b"x")].concat(), Wants::Resets(1)),
        one("5.1 half-closed: HEADERS", [get(1), get(1)].concat(), Wants::Resets(1)),
        one("5.1 half-closed: CONTINUATION", [get(1), continuation()].concat(), Wants::Resets(1)),
        one("5.1 closed by RST_STREAM: HEADERS", aborted(get(1)), Wants::Resets(1)),
        one("5.1 closed by RST_STREAM: CONTINUATION", aborted(continuation()), Wants::Resets(1)),
        after("5.1 closed: DATA", data(ES, 1, b"x")),
        after("5.1 closed: HEADERS", get(1)),
        after("5.1 closed: CONTINUATION", continuation()),
    ]
}

fn numbers() -> Vec<Case> {
    let odd = |count: u32| (0..count).map(|number| number * 2 + 1);
    vec![
        one("5.1.1 an even number", get(2), Wants::Ends),
        one("5.1.1 a smaller number", [get(5), get(3)].concat(), Wants::Resets(3)),
        one("5.1.2 more streams than were offered", odd(101).flat_map(open).collect(), Wants::Resets(201)),
        one("5.1.1 the last number", get(0x7fff_ffff), Wants::Answers(0x7fff_ffff)),
    ]
}

fn bodies() -> Vec<Case> {
    vec![
        one("6.1 DATA on stream 0", data(ES, 0, b"x"), Wants::Ends),
        one("6.1 padding longer than the frame", [open(1), data(ES | PAD, 1, b"\x06test")].concat(), Wants::Ends),
        one("6.1 padding without its length", [open(1), data(ES | PAD, 1, b"")].concat(), Wants::Ends),
        one(
            "4.2 DATA over SETTINGS_MAX_FRAME_SIZE",
            [open(1), data(ES, 1, &b"x".repeat(16_385))].concat(),
            Wants::Resets(1),
        ),
        one(
            "8.1.1 less than its length",
            [frame(HEADERS, EH, 1, &post(&[("content-length", "9")])), data(ES, 1, b"x")].concat(),
            Wants::Resets(1),
        ),
        one(
            "8.1.1 more than its length",
            [frame(HEADERS, EH, 1, &post(&[("content-length", "1")])), data(0, 1, b"xx"), data(ES, 1, b"xx")].concat(),
            Wants::Resets(1),
        ),
        one(
            "8.1.1 a length and no body",
            frame(HEADERS, EH | ES, 1, &post(&[("content-length", "1")])),
            Wants::Resets(1),
        ),
    ]
}

fn heads() -> Vec<Case> {
    let unfinished = || frame(HEADERS, ES, 1, &request(&[]));
    let large: Vec<u8> = (0..70).flat_map(|_| fields(&[("x", &"y".repeat(250))])).take(16_385).collect();
    vec![
        one("6.2 HEADERS on stream 0", get(0), Wants::Ends),
        one(
            "6.2 padding longer than the frame",
            frame(HEADERS, EH | ES | PAD, 1, &[&[200][..], &request(&[])].concat()),
            Wants::Ends,
        ),
        one("6.2 PRIORITY before the end of a block", [unfinished(), priority(1, 0, 1)].concat(), Wants::Ends),
        one("6.2 HEADERS of another stream before it", [unfinished(), get(3)].concat(), Wants::Ends),
        one("4.2 HEADERS over SETTINGS_MAX_FRAME_SIZE", frame(HEADERS, EH | ES, 1, &large), Wants::Ends),
        one("8.1 HEADERS again, without END_STREAM", [open(1), open(1)].concat(), Wants::Resets(1)),
        one("8.4 PUSH_PROMISE", frame(PUSH_PROMISE, EH, 1, &[&[0, 0, 0, 2][..], &request(&[])].concat()), Wants::Ends),
        one(
            "8.4 PUSH_PROMISE on an open stream",
            [open(1), frame(PUSH_PROMISE, EH, 1, &[&[0, 0, 0, 2][..], &request(&[])].concat())].concat(),
            Wants::Ends,
        ),
    ]
}

fn priorities() -> Vec<Case> {
    let itself = [&[0, 0, 0, 1, 7][..], &request(&[])].concat();
    vec![
        one("5.3 weight 1", [priority(1, 0, 0), get(1)].concat(), Wants::Answers(1)),
        one("5.3 weight 256", [priority(1, 0, 255), get(1)].concat(), Wants::Answers(1)),
        one("5.3 a dependency", [priority(1, 0, 255), priority(3, 1, 255), get(3)].concat(), Wants::Answers(3)),
        one("5.3 an exclusive one", [priority(3, 0x8000_0001, 255), get(3)].concat(), Wants::Answers(3)),
        one("5.3.1 HEADERS that depend on themselves", frame(HEADERS, EH | ES | PRIO, 1, &itself), Wants::Resets(1)),
        one("5.3.1 PRIORITY that depends on itself", priority(1, 1, 255), Wants::Resets(1)),
        one("6.3 PRIORITY on stream 0", priority(0, 0, 1), Wants::Ends),
        one("6.3 PRIORITY of four bytes", frame(PRIORITY, 0, 1, &[0; 4]), Wants::Resets(1)),
    ]
}

fn ends() -> Vec<Case> {
    vec![
        one("6.4 RST_STREAM on stream 0", reset(0, 8), Wants::Ends),
        one("6.4 RST_STREAM on an idle stream", reset(1, 8), Wants::Ends),
        one("6.4 RST_STREAM of three bytes", [open(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), Wants::Ends),
        one("6.8 GOAWAY of seven bytes", frame(GOAWAY, 0, 0, &[0; 7]), Wants::Ends),
    ]
}

fn settings() -> Vec<Case> {
    let one_setting = |name, id, value, wants| one(name, setting(&[(id, value)]), wants);
    vec![
        one_setting("6.5 SETTINGS", 3, 100, Wants::Goes),
        one("6.5 SETTINGS acknowledged with a payload", frame(SETTINGS, 1, 0, &[0; 6]), Wants::Ends),
        one("6.5 SETTINGS on a stream", frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 100]), Wants::Ends),
        one("6.5 SETTINGS of three bytes", frame(SETTINGS, 0, 0, &[0; 3]), Wants::Ends),
        one_setting("6.5.2 ENABLE_PUSH of 2", 2, 2, Wants::Ends),
        one_setting("6.5.2 INITIAL_WINDOW_SIZE of 2^31", 4, 0x8000_0000, Wants::Ends),
        one_setting("6.5.2 MAX_FRAME_SIZE of 2^14 - 1", 5, 16_383, Wants::Ends),
        one_setting("6.5.2 MAX_FRAME_SIZE of 2^24", 5, 1 << 24, Wants::Ends),
        one_setting("6.5.2 an unknown setting", 0xff, 1, Wants::Goes),
        (
            "6.5.3 the last value counts",
            vec![Step::Send([setting(&[(4, 100), (4, 1)]), get(1)].concat()), Step::Data(1)],
            Wants::Goes,
        ),
    ]
}

fn pings() -> Vec<Case> {
    vec![
        one("6.7 PING", frame(PING, 0, 0, b"01234567"), Wants::Goes),
        one("6.7 PING acknowledged", frame(PING, 1, 0, b"unasked "), Wants::Goes),
        one("6.7 PING on a stream", frame(PING, 0, 1, &[0; 8]), Wants::Ends),
        one("6.7 PING of seven bytes", frame(PING, 0, 0, &[0; 7]), Wants::Ends),
    ]
}

fn windows() -> Vec<Case> {
    let most = 0x7fff_ffff;
    let narrow = |name, size, more: Vec<Step>| {
        let mut steps = vec![Step::Send([setting(&[(4, size)]), get(1)].concat())];
        steps.extend(more);
        (name, steps, Wants::Goes)
    };
    vec![
        one("6.9 WINDOW_UPDATE", window(0, 1), Wants::Goes),
        one("6.9 WINDOW_UPDATE on a stream", [open(1), window(1, 100), data(ES, 1, b"x")].concat(), Wants::Answers(1)),
        one("6.9 of nothing", window(0, 0), Wants::Ends),
        one("6.9 of nothing, on a stream", [open(1), window(1, 0)].concat(), Wants::Resets(1)),
        one("6.9 of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Wants::Ends),
        one("6.9.1 beyond 2^31 - 1", [window(0, most), window(0, most)].concat(), Wants::Ends),
        one("6.9.1 beyond it on a stream", [open(1), window(1, most), window(1, most)].concat(), Wants::Resets(1)),
        narrow("6.9.1 a window of one byte", 1, vec![Step::Data(1)]),
        narrow("6.9.2 a window that opens later", 0, vec![Step::Send(setting(&[(4, 1)])), Step::Data(1)]),
        narrow(
            "6.9.2 a window below nothing",
            3,
            vec![Step::Data(3), Step::Send([setting(&[(4, 2)]), window(1, 2)].concat()), Step::Data(1)],
        ),
        one(
            "6.9.2 an open window beyond 2^31 - 1",
            [open(1), window(1, most - 65_535), setting(&[(4, 65_536)])].concat(),
            Wants::Ends,
        ),
    ]
}

fn continuations() -> Vec<Case> {
    let more = |flags, stream| frame(CONTINUATION, flags, stream, &fields(&[("x", "y")]));
    let begun = || frame(HEADERS, ES, 1, &request(&[]));
    vec![
        one("6.10 another frame between", [begun(), data(ES, 1, b"x")].concat(), Wants::Ends),
        one("6.10 another frame behind one", [begun(), more(0, 1), frame(PING, 0, 0, &[0; 8])].concat(), Wants::Ends),
        one("6.10 on stream 0", [begun(), more(EH, 0)].concat(), Wants::Ends),
        one("6.10 on another stream", [begun(), more(EH, 3)].concat(), Wants::Ends),
        one("6.10 behind the end of a block", [open(1), more(EH, 1)].concat(), Wants::Ends),
        one(
            "6.10 behind the end of a block in pieces",
            [pieces(1, 0, &post(&[]), 20), more(EH, 1)].concat(),
            Wants::Ends,
        ),
        one("6.10 behind DATA", [open(1), data(0, 1, b"x"), more(EH, 1)].concat(), Wants::Ends),
    ]
}

fn semantics() -> Vec<Case> {
    let malformed = |name, more: Fields<'_>| one(name, frame(HEADERS, EH | ES, 1, &request(more)), Wants::Resets(1));
    vec![
        malformed("8.2.1 an upper-case name", &[("X-Test", "y")]),
        malformed("8.2.1 a space in a name", &[("x test", "y")]),
        malformed("8.2.1 a colon in a name", &[("x:test", "y")]),
        malformed("8.2.1 a control byte in a name", &[("x\x01", "y")]),
        malformed("8.2.1 DEL in a name", &[("x\x7f", "y")]),
        malformed("8.2.1 a letter beyond ASCII in a name", &[("xé", "y")]),
        malformed("8.2.1 NUL in a value", &[("x", "a\0b")]),
        malformed("8.2.1 CR in a value", &[("x", "a\rb")]),
        malformed("8.2.1 LF in a value", &[("x", "a\nb")]),
        malformed("8.2.1 a space before a value", &[("x", " y")]),
        malformed("8.2.1 a space behind a value", &[("x", "y ")]),
        malformed("8.2.1 a tab behind a value", &[("x", "y\t")]),
        malformed("8.2.2 connection", &[("connection", "keep-alive")]),
        malformed("8.2.2 proxy-connection", &[("proxy-connection", "keep-alive")]),
        malformed("8.2.2 keep-alive", &[("keep-alive", "timeout=5")]),
        malformed("8.2.2 transfer-encoding", &[("transfer-encoding", "chunked")]),
        malformed("8.2.2 upgrade", &[("upgrade", "foo")]),
        malformed("8.2.2 te: gzip", &[("te", "gzip")]),
        malformed("8.2.2 te: trailers, deflate", &[("te", "trailers, deflate")]),
        malformed("8.3 an unknown pseudo field", &[(":test", "ok")]),
        malformed("8.3 a response's pseudo field", &[(":status", "200")]),
        malformed("8.3.1 another Host than :authority", &[("host", "other")]),
    ]
}

fn malformed() -> Vec<Case> {
    let (get, scheme, host, path) =
        ((":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/open/x"));
    let case = |name, pairs: Fields<'_>| one(name, frame(HEADERS, EH | ES, 1, &fields(pairs)), Wants::Resets(1));
    let connect = (":method", "CONNECT");
    vec![
        case("8.3 a pseudo field behind others", &[get, scheme, host, ("x", "y"), path]),
        case("8.3.1 an empty path", &[get, scheme, host, (":path", "")]),
        case("8.3.1 no method", &[scheme, host, path]),
        case("8.3.1 no scheme", &[get, host, path]),
        case("8.3.1 no path", &[get, scheme, host]),
        case("8.3 two methods", &[get, get, scheme, host, path]),
        case("8.3 two schemes", &[get, scheme, scheme, host, path]),
        case("8.3 two paths", &[get, scheme, host, path, path]),
        case("8.3 two authorities", &[get, scheme, host, host, path]),
        case("8.3.1 no method, no path", &[scheme, host]),
        case("8.5 CONNECT with a scheme", &[connect, scheme, host]),
        case("8.5 CONNECT with a path", &[connect, host, path]),
        case("8.5 CONNECT without an authority", &[connect]),
        case("8.5 CONNECT", &[connect, (":authority", "h:443")]),
        case("8.3 nothing at all", &[]),
    ]
}

/// `:scheme` and `:method` by their index, `:path`, and then these bytes.
fn indexed(rest: &[u8]) -> Vec<u8> {
    [&[0x86, 0x82, 0x04, 7][..], b"/open/x", rest].concat()
}

fn hpack() -> Vec<Case> {
    let with = |name, authority: &[u8], wants| one(name, frame(HEADERS, EH | ES, 1, &indexed(authority)), wants);
    let h = |first: u8| [first, 1, b'h'];
    let named = |first: u8| [&[0x01, 1, b'h', first, 1][..], b"x\x01y"].concat();
    // A field that was added to the table, and is meant by its index: 62 is the newest (RFC 7541 §2.3.3).
    let again =
        [frame(HEADERS, EH | ES, 1, &indexed(&h(0x41))), frame(HEADERS, EH | ES, 3, &indexed(&[0xbe]))].concat();
    let resized = |sizes: &[u8]| [sizes, &indexed(&h(0x01))].concat();
    vec![
        with("HPACK 6.2.1 added, name by index", &h(0x41), Wants::Answers(1)),
        with("HPACK 6.2.1 added, a new name", &named(0x40), Wants::Answers(1)),
        with("HPACK 6.2.2 not added, name by index", &h(0x01), Wants::Answers(1)),
        with("HPACK 6.2.2 not added, a new name", &named(0x00), Wants::Answers(1)),
        with("HPACK 6.2.3 never indexed, name by index", &h(0x11), Wants::Answers(1)),
        with("HPACK 6.2.3 never indexed, a new name", &named(0x10), Wants::Answers(1)),
        one("HPACK 6.1 from the dynamic table", again, Wants::Answers(3)),
        one("HPACK 6.3 a smaller table", frame(HEADERS, EH | ES, 1, &resized(&[0x20])), Wants::Answers(1)),
        one(
            "HPACK 6.3 none, then the largest",
            frame(HEADERS, EH | ES, 1, &resized(&[0x20, 0x3f, 0xe1, 0x1f])),
            Wants::Answers(1),
        ),
        one(
            "HPACK 6.3 larger than was offered",
            frame(HEADERS, EH | ES, 1, &resized(&[0x3f, 0xe2, 0xff, 0x03])),
            Wants::Ends,
        ),
        one(
            "HPACK 4.2 a new size at the end",
            frame(HEADERS, EH | ES, 1, &[indexed(&h(0x01)), vec![0x20]].concat()),
            Wants::Ends,
        ),
        with("HPACK 2.3.3 an index beyond both tables", &[0x01, 1, b'h', 0xff, 0x0f], Wants::Ends),
        with("HPACK 2.3.3 a name beyond both tables", &[0x01, 1, b'h', 0x7f, 0x0f, 1, b'x'], Wants::Ends),
        with("HPACK 6.1 index 0", &[0x80], Wants::Ends),
        with("HPACK 5.1 a number without an end", &[0xff; 12], Wants::Ends),
        with("HPACK 5.2 a string longer than the block", &[0x01, 0x7f, 0x20], Wants::Ends),
        one("4.3 a block that stops in a field", frame(HEADERS, EH | ES, 1, &[0x40]), Wants::Ends),
    ]
}

fn huffman() -> Vec<Case> {
    let with = |name, value: &[u8], wants| {
        let value = [&[0x01, 1, b'h', 0x00, 1, b'x', 0x80 | u8::try_from(value.len()).unwrap()][..], value].concat();
        one(name, frame(HEADERS, EH | ES, 1, &indexed(&value)), wants)
    };
    // RFC 7541 appendix B: `a` is 00011.
    vec![
        with("HPACK 5.2 Huffman", &[0b0001_1111], Wants::Answers(1)),
        with("HPACK 5.2 padding of more than 7 bits", &[0b0001_1111, 0xff], Wants::Ends),
        with("HPACK 5.2 padding that is no beginning of EOS", &[0b0001_1000], Wants::Ends),
        with("HPACK 5.2 EOS", &[0xff; 4], Wants::Ends),
    ]
}
