//! The head of an HTTP/1 request, read byte by byte as it arrives: what is junk is known at its first wrong
//! byte, and what two readers could take for two things is refused before the engine sees any of it.

use super::framing::{Chunks, Framing};
use super::request_line::{RequestLine, bad, valid_authority};
use crate::config::{is_token, token_length};
use crate::reply::ProxyError;
use crate::routing::Methods;

/// A request line may be this long, `GET ` and the version included.
pub(in crate::proxy) const REQUEST_LINE: usize = 16 * 1024;
/// Request line and fields together.
pub(super) const HEAD: usize = 64 * 1024;
/// Fields of one request, on HTTP/2 as well.
pub(in crate::proxy) const FIELDS: usize = 128;
// What `admit` says, too: of requests on HTTP/2, and of those that came past the door.
pub(in crate::proxy) const ONE_HOST: &str = "the request needs exactly one Host";
pub(in crate::proxy) const ONE_LENGTH: &str = "Content-Length must be one plain decimal number, once";
pub(in crate::proxy) const ONE_CODING: &str = "the only transfer coding taken here is `chunked`, once";
pub(in crate::proxy) const MISSPELT: &str = "the body's length is told in a misspelt header";
/// The longest registered method has 17 letters.
const METHOD: usize = 32;

/// What the door has against a whole head: for `explain`, which sends none.
pub(crate) fn objection(head: &[u8]) -> Option<ProxyError> {
    HeadReader::default().read(head).err()
}

/// What is known of a head that arrives in pieces.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Where the line under way begins.
    line: usize,
    /// Bytes looked at.
    seen: usize,
    after_cr: bool,
    method_over: bool,
    /// Behind the `?` of the target, whose UTF-8 browsers' address bars and curl send as it is.
    query: bool,
    /// Where the request line begins: empty lines before it are skipped (RFC 9112 §2.2).
    start: usize,
    request: Option<RequestLine>,
    fields: usize,
    length: Option<u64>,
    chunked: bool,
    host: Option<Host>,
    upgrade: bool,
}

/// What is known of the one `Host`; said with the rest of the head.
#[derive(Debug)]
struct Host {
    valid: bool,
    /// It is the host of an absolute-form target, or there is none.
    agrees: bool,
}

/// A whole head.
#[derive(Debug)]
pub(super) struct Head {
    /// Bytes before it that mean nothing.
    pub(super) skip: usize,
    /// Its bytes, those before it included.
    pub(super) end: usize,
    pub(super) body: Framing,
    /// It asks for another protocol.
    pub(super) upgrade: bool,
}

impl Head {
    /// Whether what has come of the body already is wrong: a service need not hear of it at all.
    pub(super) fn misframed(&self, bytes: &[u8]) -> bool {
        self.body.clone().take(bytes.get(self.end..).unwrap_or_default()).is_err()
    }
}

impl HeadReader {
    /// Reads on in `bytes`, which begin where they began at the first call.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<Head>, ProxyError> {
        while let Some(byte) = bytes.get(self.seen).copied() {
            // Most of a head is this.
            let plain = if self.after_cr { 0 } else { self.plain(bytes) };
            if plain > 0 {
                self.seen += plain;
                continue;
            }
            let at = self.seen;
            self.seen = at + 1;
            if at >= HEAD {
                return Err(ProxyError::HeaderTooLarge);
            }
            match byte {
                b'\n' if self.after_cr => {
                    self.after_cr = false;
                    let line = bytes.get(self.line..at.saturating_sub(1)).unwrap_or_default();
                    self.line = at + 1;
                    if self.end_line(line)? {
                        return self.finish(at + 1).map(Some);
                    }
                }
                b'\n' => return bad("a line ends in LF alone"),
                _ if self.after_cr => return bad("a CR stands alone"),
                b'\r' => self.after_cr = true,
                _ if self.request.is_none() => self.check_first_line(byte, at - self.line)?,
                _ if is_field_byte(byte) => {}
                _ => return bad("a header field contains a control character"),
            }
        }
        Ok(None)
    }

    /// How many of the next bytes need no closer look.
    fn plain(&self, bytes: &[u8]) -> usize {
        let most = if self.request.is_some() { HEAD } else { self.line + REQUEST_LINE };
        let left = bytes.get(self.seen..most.min(bytes.len())).unwrap_or_default();
        match (&self.request, self.method_over) {
            (Some(_), _) => run(left, is_field_byte),
            (None, true) => run(left, |byte| matches!(byte, b' '..=b'~') && byte != b'?'),
            (None, false) => 0,
        }
    }

    /// Whether anything but empty lines has come.
    pub(super) fn begun(&self) -> bool {
        self.seen > self.start
    }

    /// Whatever speaks another protocol shows at once.
    fn check_first_line(&mut self, byte: u8, place: usize) -> Result<(), ProxyError> {
        if place >= REQUEST_LINE {
            return Err(ProxyError::TargetTooLong);
        }
        if self.method_over {
            self.query |= byte == b'?';
            let fits = matches!(byte, b' '..=b'~') || self.query && byte >= 0x80;
            return if fits { Ok(()) } else { bad("the request line contains a byte that must be percent-encoded") };
        }
        self.method_over = byte == b' ' && place > 0;
        let fits = self.method_over || is_token(&[byte]) && place < METHOD;
        if fits { Ok(()) } else { bad("the request does not begin with a method") }
    }

    /// Whether the head is over with this line.
    fn end_line(&mut self, line: &[u8]) -> Result<bool, ProxyError> {
        if self.request.is_none() {
            if line.is_empty() && self.line <= 4 {
                self.start = self.line;
            } else {
                self.request = Some(RequestLine::parse(line)?);
            }
            return Ok(false);
        }
        if line.is_empty() {
            return Ok(true);
        }
        self.fields += 1;
        if self.fields > FIELDS {
            return Err(ProxyError::HeaderTooLarge);
        }
        self.end_field(line).map(|()| false)
    }

    fn end_field(&mut self, line: &[u8]) -> Result<(), ProxyError> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return bad("a header field goes on in a second line");
        }
        let (name, rest) = line.split_at_checked(token_length(line)).unwrap_or_default();
        let value = match rest {
            [b':', value @ ..] if !name.is_empty() => value.trim_ascii(),
            _ if !line.contains(&b':') => return bad("a header line has no colon"),
            _ => return bad("a header field's name is empty or contains a character that no name may have"),
        };
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"host") {
            let target = self.request.as_ref().and_then(|request| request.authority.as_ref());
            let agrees = target.is_none_or(|authority| authority == value);
            let first = self.host.replace(Host { valid: valid_authority(value), agrees }).is_none();
            return if first { Ok(()) } else { bad(ONE_HOST) };
        }
        if is(b"content-length") {
            return self.length_is(value);
        }
        if is(b"transfer-encoding") {
            return self.coding_is(value);
        }
        if is_misspelt(name) {
            return bad(MISSPELT);
        }
        self.upgrade |= is(b"upgrade");
        Ok(())
    }

    /// RFC 9112 §6.3: digits, once. Twice the same number is read by some as a list, by some as an error.
    fn length_is(&mut self, value: &[u8]) -> Result<(), ProxyError> {
        let digits = value.iter().all(u8::is_ascii_digit) && (1..=18).contains(&value.len());
        // What begins with a zero is octal to some.
        let plain = digits && (value.len() == 1 || value.first() != Some(&b'0'));
        let number = std::str::from_utf8(value).ok().filter(|_| plain).and_then(|text| text.parse().ok());
        if number.is_none() || self.length.is_some() {
            return bad(ONE_LENGTH);
        }
        self.length = number;
        Ok(())
    }

    /// RFC 9112 §6.1: the engine forwards a body coded otherwise as if it were plain.
    fn coding_is(&mut self, value: &[u8]) -> Result<(), ProxyError> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return bad(ONE_CODING);
        }
        self.chunked = true;
        Ok(())
    }

    /// What only the whole head tells.
    fn finish(&mut self, end: usize) -> Result<Head, ProxyError> {
        let Some(request) = &self.request else { return bad("there is no request line") };
        if request.is_connect {
            return Err(ProxyError::MethodNotAllowed { allow: Methods::new(&[]).allowed().cloned().collect() });
        }
        match &self.host {
            Some(host) if !host.valid => return bad("Host is not a host name with at most one port"),
            Some(host) if !host.agrees => return bad("Host is not the host of the request target"),
            // RFC 9112 §3.2.
            None if request.minor == 1 => return bad(ONE_HOST),
            _ => {}
        }
        let body = match (self.chunked, self.length) {
            // RFC 9112 §6.1: such a request is an attempt at smuggling, or as good as one.
            (true, Some(_)) => return bad("Content-Length and Transfer-Encoding cannot both be right"),
            (true, None) if request.minor == 0 => return bad("HTTP/1.0 has no Transfer-Encoding"),
            (true, None) => Framing::Chunked(Chunks::default()),
            (false, length) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(Head { skip: self.start, end, body, upgrade: self.upgrade && request.minor == 1 })
    }
}

/// Read as the names of the body's length behind CGI-like interfaces.
pub(in crate::proxy) fn is_misspelt(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content_length") || name.eq_ignore_ascii_case(b"transfer_encoding")
}

/// How many of the first bytes fit: sixteen at a time without a branch between them, which the compiler does at once.
fn run(bytes: &[u8], fits: impl Fn(u8) -> bool) -> usize {
    let all_fit = |chunk: &&[u8; 16]| chunk.iter().fold(true, |all, byte| all & fits(*byte));
    let whole = bytes.as_chunks().0.iter().take_while(all_fit).count() * 16;
    let rest = bytes.get(whole..).unwrap_or_default();
    whole + rest.iter().position(|byte| !fits(*byte)).unwrap_or(rest.len())
}

/// RFC 9110 §5.5.
fn is_field_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read in one piece and byte by byte, which must come to the same.
    fn read(text: &str) -> Result<Option<(usize, usize)>, ProxyError> {
        let place = |head: Option<Head>| head.map(|head| (head.skip, head.end));
        let whole = HeadReader::default().read(text.as_bytes()).map(place);
        let mut reader = HeadReader::default();
        for end in 1..=text.len() {
            match reader.read(&text.as_bytes()[..end]) {
                Ok(None) => {}
                other => {
                    let slow = other.map(place);
                    assert_eq!(slow, whole, "{text:?}");
                    return slow;
                }
            }
        }
        assert_eq!(whole, Ok(None), "{text:?}");
        whole
    }

    #[test]
    fn a_head_ends_where_it_ends() {
        let head = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(read(head), Ok(Some((0, head.len()))));
        assert_eq!(read(&format!("\r\n{head}GET /next")), Ok(Some((2, head.len() + 2))));
        assert_eq!(read(&head[..head.len() - 1]), Ok(None));
        assert!(!HeadReader::default().begun());
        let query = "GET /a?b?\u{20ac}?~0123456789abcdef\u{20ac} HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(read(query), Ok(Some((0, query.len()))));
        for text in ["", "\r\n", "\r\n\r\n", "G", "GET /?\u{20ac}", "GET / HTTP/1.1\r\nHost: h\r\nX: \u{20ac}"] {
            assert_eq!(read(text), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn junk_is_known_at_its_first_wrong_byte() {
        for text in [
            "\0",
            "\u{1f}",
            "{",
            " ",
            "\n",
            "\r\n\r\n\r\n",
            "\rG",
            "GET /\u{1}",
            "GET /\u{20ac}",
            "GET / HTTP/1.1\r\nX\0",
            "GET / HTTP/1.1\r\nX-Long: 0123456789abcdef0123456789\u{1}",
            "GET /?0123456789abcdef\u{7f}",
        ] {
            assert!(matches!(read(text), Err(ProxyError::BadRequest(_))), "{text:?}");
        }
        assert!(matches!(read(&"A".repeat(33)), Err(ProxyError::BadRequest(_))));
        assert_eq!(read(&format!("GET /{}", "a".repeat(REQUEST_LINE))), Err(ProxyError::TargetTooLong));
        let field = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(HEAD));
        assert_eq!(HeadReader::default().read(field.as_bytes()).err(), Some(ProxyError::HeaderTooLarge));
    }

    #[test]
    fn hosts_are_one_name_with_one_port() {
        for host in ["h", "h:80", "127.0.0.1:8080", "[::1]", "[::1]:443", "a-b.example", "a_b"] {
            assert!(valid_authority(host.as_bytes()), "{host}");
        }
        for host in
            ["", ":", "h:", ":80", "h:80:80", "h:65536", "u@h", "h,i", "h i", "[::1", "[x]", "::1", "[::1]x", "h/"]
        {
            assert!(!valid_authority(host.as_bytes()), "{host}");
        }
    }
}
