//! Logins as fast as they go: the provider is a [`Mint`](super::super::mint::Mint), and the browser a socket.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::super::fleet::Member;
use super::super::mint::first_token;
use super::http1::connect;

/// One connection of somebody who logs in, as others on it after them.
pub(crate) struct Visitor<'a> {
    stream: TcpStream,
    host: String,
    client_id: &'a str,
}

impl<'a> Visitor<'a> {
    pub(crate) fn at(edge: SocketAddr, client_id: &'a str) -> Self {
        Self { stream: connect(edge), host: format!("localhost:{}", edge.port()), client_id }
    }

    /// The whole login; a session that was not acknowledged is an error.
    pub(crate) fn log_in(&mut self, user: &str) -> io::Result<Member> {
        let begun = self.get("/auth/login", "")?;
        let place = field(&begun, "location").ok_or_else(|| odd(&begun))?;
        let query = url::Url::parse(place).map_err(io::Error::other)?;
        let of = |name: &str| query.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let (state, nonce) = of("state").zip(of("nonce")).ok_or_else(|| odd(&begun))?;
        let flow = cookie(&begun, |_| true).ok_or_else(|| odd(&begun))?;
        let back = format!("/auth/callback?code={user}.{nonce}.{}&state={state}", self.client_id);
        let done = self.get(&back, &flow)?;
        let cookie = cookie(&done, |name| name == "bff_session").ok_or_else(|| odd(&done))?;
        Ok(Member { user: user.to_owned(), bearer: Some(first_token(user)), cookie })
    }

    /// The head of an answer; its body is read and forgotten.
    fn get(&mut self, target: &str, cookie: &str) -> io::Result<String> {
        let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{cookie}\r\n", self.host);
        self.stream.write_all(request.as_bytes())?;
        let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => seen.extend_from_slice(&chunk[..count]),
            }
            let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&seen[..end]).into_owned();
            let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            if seen.len() >= end + 4 + length {
                return Ok(head);
            }
        }
    }
}

fn odd(head: &str) -> io::Error {
    io::Error::other(format!("no login: {head}"))
}

fn field<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let mut pairs = head.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
}

/// `name=value` of a cookie that is set, not one that is taken away.
fn cookie(head: &str, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let set = head.lines().filter_map(|line| line.split_once(':'));
    let set = set.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    let mut pairs = set.filter_map(|(_, value)| value.trim().split(';').next()?.split_once('='));
    pairs.find(|(name, value)| wanted(name) && !value.is_empty()).map(|(name, value)| format!("{name}={value}"))
}

/// Logins without a pause, of users that nobody was before, on so many connections.
pub(crate) struct Queue<'a> {
    pub(crate) edge: SocketAddr,
    pub(crate) client_id: &'a str,
    pub(crate) threads: usize,
    pub(crate) name: fn(usize) -> String,
    pub(crate) next: &'a AtomicUsize,
}

impl Queue<'_> {
    /// Until `over`, or until so many have come in; those who were acknowledged, and why others were not.
    pub(crate) fn run(&self, most: usize, over: &AtomicBool) -> (Vec<Member>, Vec<String>) {
        let (kept, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let last = self.next.load(Ordering::SeqCst).saturating_add(most);
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    let mut visitor = Visitor::at(self.edge, self.client_id);
                    while !over.load(Ordering::Relaxed) {
                        let number = self.next.fetch_add(1, Ordering::SeqCst);
                        if number >= last {
                            return;
                        }
                        match visitor.log_in(&(self.name)(number)) {
                            Ok(member) => kept.lock().unwrap().push(member),
                            Err(error) => {
                                failed.lock().unwrap().push(error.to_string());
                                return;
                            }
                        }
                    }
                });
            }
        });
        (kept.into_inner().unwrap(), failed.into_inner().unwrap())
    }
}
