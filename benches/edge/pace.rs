//! An open load: requests leave by the clock, whatever became of those before, and an answer's wait is
//! counted from the moment at which its request was to leave. A generator that waits for answers, as wrk
//! does, asks less while the proxy is slow and so sees little of it.

use std::time::{Duration, Instant};

use crate::stand::client::Client;

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

impl Pace<'_> {
    /// Asks, a thread a connection; panics on anything but 200.
    pub fn keep(&self) -> Vec<Answer> {
        let begin = Instant::now() + Duration::from_millis(50);
        std::thread::scope(|scope| {
            let lanes: Vec<_> =
                (0..self.connections).map(|lane| scope.spawn(move || self.keep_lane(lane, begin))).collect();
            lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
        })
    }

    fn keep_lane(&self, lane: usize, begin: Instant) -> Vec<Answer> {
        let mut client = Client::connect(self.port, 1);
        let mut answers = Vec::new();
        for number in (lane..).step_by(self.connections) {
            let meant = Duration::from_secs_f64(number as f64 / self.per_second);
            if meant >= self.lasts {
                break;
            }
            std::thread::sleep((begin + meant).saturating_duration_since(Instant::now()));
            let late = begin.elapsed().saturating_sub(meant);
            let at = number % self.requests.len();
            client.ask(&self.requests[at..=at], 1);
            answers.push(Answer { meant, waited: begin.elapsed().saturating_sub(meant), late });
        }
        answers
    }
}

/// The wait that this share of the answers does not exceed, in milliseconds; 1.0 is the slowest.
pub fn quantile(mut waits: Vec<Duration>, share: f64) -> f64 {
    waits.sort_unstable();
    let at = ((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1));
    waits.get(at).map_or(f64::NAN, |wait| wait.as_secs_f64() * 1000.0)
}
