//! Where a request's body ends: by its length, or by chunks that are read more strictly than the engine does.
//! Nothing behind that end is shown to the engine before the request is over.

use super::extension::Extension;
use crate::config::is_token;
use crate::reply::ProxyError;

/// How the body under way is framed.
#[derive(Debug, Clone)]
pub(super) enum Framing {
    /// Bytes still to come.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked(Chunks),
}

impl Framing {
    /// Whether the body is over.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.state == State::Over,
        }
    }

    /// How many of `bytes` belong to the body; it goes on behind them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunks) => chunks.take(bytes),
        }
    }
}

/// The chunks cannot be read in one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunked body is malformed")]
pub(in crate::proxy) struct Malformed;

impl From<Malformed> for ProxyError {
    fn from(malformed: Malformed) -> Self {
        Self::BadRequest(malformed.to_string())
    }
}

/// More digits than any body needs: `0x…`, signs and numbers that overflow are refused alike.
const DIGITS: usize = 15;
/// Long ones are an attack.
const EXTENSION: usize = 256;
/// Trailers are not forwarded.
const TRAILERS: usize = 8 * 1024;

/// A place between two bytes of a chunked body.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunks {
    state: State,
    size: u64,
    /// Digits of this size, bytes of this extension, or bytes of the trailers.
    count: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Line,
    Name,
    Value,
    ValueLf,
    EndLf,
    Over,
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            match self.state {
                State::Over => break,
                State::Data => {
                    let here = usize::try_from(self.size).map_or(bytes.len() - at, |size| size.min(bytes.len() - at));
                    at += here;
                    self.size -= here as u64;
                    if self.size == 0 {
                        self.state = State::DataCr;
                    }
                }
                _ => {
                    self.state = self.next(byte)?;
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    fn next(&mut self, byte: u8) -> Result<State, Malformed> {
        let text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        Ok(match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                self.size = self.size * 16 + u64::from(digit);
                self.counted(DIGITS)?;
                State::Size
            }
            (State::Size, b';') if self.count > 0 => self.begin(State::Extension(Extension::Begun)),
            (State::Size, b'\r') if self.count > 0 => State::SizeLf,
            (State::Extension(extension), b'\r') if extension.may_end() => State::SizeLf,
            (State::Extension(extension), _) => {
                self.counted(EXTENSION)?;
                State::Extension(extension.read(byte).ok_or(Malformed)?)
            }
            (State::SizeLf, b'\n') => self.begin(if self.size == 0 { State::Line } else { State::Data }),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => self.begin(State::Size),
            (State::Line, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::Over,
            (State::Line | State::Name, _) if is_token(&[byte]) => {
                self.counted(TRAILERS)?;
                State::Name
            }
            (State::Name, b':') => State::Value,
            (State::Value, b'\r') => State::ValueLf,
            (State::Value, _) if text => {
                self.counted(TRAILERS)?;
                State::Value
            }
            (State::ValueLf, b'\n') => State::Line,
            _ => return Err(Malformed),
        })
    }

    fn begin(&mut self, state: State) -> State {
        self.count = 0;
        state
    }

    fn counted(&mut self, most: usize) -> Result<(), Malformed> {
        self.count += 1;
        if self.count > most { Err(Malformed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(usize, bool), Malformed> {
        // In one piece and byte by byte: the place must be the same.
        let mut whole = Framing::Chunked(Chunks::default());
        let taken = whole.take(text.as_bytes());
        let mut slow = Framing::Chunked(Chunks::default());
        let mut count = 0;
        for byte in text.bytes() {
            match slow.take(&[byte]) {
                Ok(taken) => count += taken,
                Err(error) => {
                    assert_eq!(taken, Err(error), "{text:?}");
                    return Err(error);
                }
            }
        }
        assert_eq!(taken, Ok(count), "{text:?}");
        Ok((count, whole.is_over()))
    }

    #[test]
    fn a_body_ends_where_it_ends_and_nowhere_else() {
        for (text, rest) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "GET / HTTP/1.1\r\n"),
            ("00A;x=\"y\"\r\n0123456789\r\n000\r\nX-T: a\r\nY:\r\n\r\n", "0\r\n\r\n"),
        ] {
            assert_eq!(read(&format!("{text}{rest}")), Ok((text.len(), true)), "{text:?}");
        }
        assert_eq!(read("5\r\nhel"), Ok((6, false)));
        for text in [
            "\r\n",
            ";\r\n",
            "0x5\r\nhello",
            "+5\r\nhello",
            "-5\r\n",
            " 5\r\nhello",
            "5 \r\nhello",
            "5\nhello",
            "5;a\nhello",
            "5;\r\nhello",
            "0;\r\n\r\n",
            "1;a=\"\r\nX\r\n0\r\n\r\n",
            "5;a\rb\r\nhello",
            "5\r\nhelloX",
            "5\r\nhello\n0\r\n",
            "5\r\nhello\r0",
            "g\r\n",
            "1000000000000000\r\n",
            "FFFFFFFFFFFFFFFF1\r\n",
            "0\r\n\n",
            "0\r\nX Y: a\r\n\r\n",
            "0\r\n X: a\r\n",
            "0\r\nX: a\0\r\n",
            "0\r\nX: a\n\r\n",
            "5\r\r\nhello",
            "0\r\n:\r\n\r\n",
        ] {
            assert_eq!(read(text), Err(Malformed), "{text:?}");
        }
        assert_eq!(read(&format!("5;{}\r\n", "a".repeat(300))), Err(Malformed));
        assert_eq!(read(&format!("0\r\nX: {}\r\n", "a".repeat(9000))), Err(Malformed));
    }
}
