//! HTTP/1.1 as bytes: heads and bodies read without a library that would tidy them up.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A request or response head exactly as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    /// Start line, header lines and the empty line.
    pub(crate) bytes: Vec<u8>,
}

impl Head {
    /// The start line.
    pub(crate) fn start_line(&self) -> String {
        let end = self.bytes.windows(2).position(|two| two == b"\r\n").unwrap_or(self.bytes.len());
        String::from_utf8_lossy(&self.bytes[..end]).into_owned()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.start_line().split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Every header line as (name, value); the value without the surrounding blanks.
    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.bytes
            .split(|byte| *byte == b'\n')
            .skip(1)
            .filter_map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                let name = String::from_utf8_lossy(&line[..colon]).into_owned();
                Some((name, line[colon + 1..].trim_ascii().to_vec()))
            })
            .collect()
    }

    /// All values of one header, whatever its case.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let named = |(key, value): (String, Vec<u8>)| {
            key.eq_ignore_ascii_case(name).then(|| String::from_utf8_lossy(&value).into_owned())
        };
        self.headers().into_iter().filter_map(named).collect()
    }

    /// The only value of one header; a second line of it is a failure.
    pub(crate) fn one(&self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        assert!(all.len() < 2, "{name} came {} times: {all:?}", all.len());
        all.pop()
    }

    fn is_chunked(&self) -> bool {
        self.all("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case("chunked"))
    }

    fn content_length(&self) -> u64 {
        self.one("content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// A connection read in pieces, keeping what belongs to the next message.
pub(crate) struct Reader<R> {
    stream: R,
    buffer: Vec<u8>,
}

/// A body's length and its first bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    /// Bytes received.
    pub(crate) length: u64,
    /// At most `KEPT` of them.
    pub(crate) start: Vec<u8>,
}

const KEPT: usize = 256 * 1024;

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from `stream`.
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next head; `None` at a clean end.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.buffer.split_off(end + 4);
                return Ok(Some(Head { bytes: std::mem::replace(&mut self.buffer, rest) }));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The body that belongs to `head`; an absent length means none.
    pub(crate) async fn body(&mut self, head: &Head) -> io::Result<Body> {
        let mut body = Body::default();
        if head.is_chunked() {
            loop {
                let line = self.line().await?;
                let size = u64::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16)
                    .map_err(|_| io::Error::other(format!("bad chunk size {line:?}")))?;
                self.take(size, &mut body).await?;
                self.line().await?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        self.take(head.content_length(), &mut body).await?;
        Ok(body)
    }

    /// One chunk of a chunked body as it arrives; empty at the end.
    pub(crate) async fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = self.line().await?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(|_| io::Error::other("bad chunk size"))?;
        let mut body = Body::default();
        self.take(size, &mut body).await?;
        self.line().await?;
        Ok(body.start)
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let rest = self.buffer.split_off(end + 2);
                let line = std::mem::replace(&mut self.buffer, rest);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn take(&mut self, mut length: u64, body: &mut Body) -> io::Result<()> {
        while length > 0 {
            if self.buffer.is_empty() && !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let taken = self.buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            let kept = taken.min(KEPT - body.start.len());
            body.start.extend_from_slice(&self.buffer[..kept]);
            self.buffer.drain(..taken);
            body.length += taken as u64;
            length -= taken as u64;
        }
        Ok(())
    }

    /// Everything until the end of the connection, however that comes.
    pub(crate) async fn rest(&mut self, into: &mut Vec<u8>) {
        loop {
            into.append(&mut self.buffer);
            if !matches!(self.fill().await, Ok(true)) {
                return;
            }
        }
    }

    async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(64 * 1024);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}
