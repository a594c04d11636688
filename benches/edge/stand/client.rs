//! A client that does the same thing every time: each connection gets a request, then each answer is
//! read. For counting instructions, where a load generator's timing would show.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use super::message::head;

/// Kept connections to one port.
pub struct Client {
    streams: Vec<TcpStream>,
}

impl Client {
    /// Opens `connections` of them.
    pub fn connect(port: u16, connections: usize) -> Self {
        let open = |_| {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        Self { streams: (0..connections).map(open).collect() }
    }

    /// Asks `count` times, walking through `requests`; panics on anything but 200.
    pub fn ask(&mut self, requests: &[String], count: usize) {
        let mut turn = requests.iter().cycle();
        let mut left = count;
        while left > 0 {
            let now = left.min(self.streams.len());
            for stream in self.streams.iter_mut().take(now) {
                stream.write_all(turn.next().unwrap().as_bytes()).unwrap();
            }
            self.streams.iter_mut().take(now).for_each(read_answer);
            left -= now;
        }
    }
}

fn read_answer(stream: &mut TcpStream) {
    let mut buffer = Vec::with_capacity(4096);
    let mut chunk = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&buffer));
        buffer.extend_from_slice(&chunk[..read]);
        let Some((end, length)) = head(&buffer) else { continue };
        assert!(buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer));
        if buffer.len() >= end + length {
            return;
        }
    }
}

/// One request on a connection of its own: the whole answer, whatever it is. The request must ask for the
/// connection to be closed.
pub fn once(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
