//! An open load: requests leave by the clock, whatever became of those before, and an answer's wait is
//! counted from the moment at which its request was to leave. A generator that waits for answers, as wrk
//! does, asks less while the proxy is slow and so sees little of it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::stand::message::head;

/// What is asked, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Pace<'a> {
    pub port: u16,
    pub requests: &'a [String],
    pub per_second: f64,
    pub connections: usize,
    pub lasts: Duration,
}

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// When its request was to leave, since the begin.
    pub meant: Duration,
    /// From then until the answer was whole.
    pub waited: Duration,
    /// How late the request left: the generator's own fault, unless the answer before was late.
    pub late: Duration,
}

/// One connection.
struct Lane {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What is under way: when it was to leave, and how late it did.
    asked: Option<(Duration, Duration)>,
}

impl Pace<'_> {
    /// Asks from this one thread, looking around every few ten microseconds: to wake up for each answer would
    /// cost more than the answer. Panics on anything but 200.
    pub fn keep(&self) -> Vec<Answer> {
        let mut lanes: Vec<Lane> = (0..self.connections).map(|_| self.lane()).collect();
        let due = (0..).map(|number: usize| (number, Duration::from_secs_f64(number as f64 / self.per_second)));
        let mut due = due.take_while(|(_, meant)| *meant < self.lasts).peekable();
        let (mut answers, begin) = (Vec::new(), Instant::now());
        while due.peek().is_some() || lanes.iter().any(|lane| lane.asked.is_some()) {
            let mut idle = true;
            for lane in &mut lanes {
                if lane.asked.is_none()
                    && let Some((number, meant)) = due.next_if(|(_, meant)| *meant <= begin.elapsed())
                {
                    let request = &self.requests[number % self.requests.len()];
                    lane.asked = Some((meant, begin.elapsed().saturating_sub(meant)));
                    lane.stream.write_all(request.as_bytes()).unwrap();
                    idle = false;
                } else if let Some((meant, late)) = lane.asked
                    && lane.has_answer()
                {
                    lane.asked = None;
                    answers.push(Answer { meant, waited: begin.elapsed().saturating_sub(meant), late });
                    idle = false;
                }
            }
            if idle {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        answers
    }

    fn lane(&self) -> Lane {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        Lane { stream, buffer: Vec::with_capacity(4096), asked: None }
    }
}

impl Lane {
    /// Whether the answer is whole; it is dropped then.
    fn has_answer(&mut self) -> bool {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            read => {
                let read = read.unwrap();
                assert!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&self.buffer));
                self.buffer.extend_from_slice(&chunk[..read]);
            }
        }
        let Some((end, length)) = head(&self.buffer) else { return false };
        assert!(self.buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&self.buffer));
        let whole = self.buffer.len() >= end + length;
        if whole {
            self.buffer.clear();
        }
        whole
    }
}

/// The wait that this share of the answers does not exceed, in milliseconds; 1.0 is the slowest.
pub fn quantile(mut waits: Vec<Duration>, share: f64) -> f64 {
    waits.sort_unstable();
    let beyond = waits.len() as f64 * share;
    let found = waits.iter().enumerate().find(|(below, _)| *below as f64 + 1.0 >= beyond);
    found.map_or(f64::NAN, |(_, wait)| wait.as_secs_f64() * 1000.0)
}
