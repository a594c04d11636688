//! Requests of many users as fast as plain sockets carry them: two threads with many connections each, kept
//! ones of HTTP/1.1 and HTTP/2, of which some hang up. Every answer says whose it is, and is compared.

mod http1;
mod http2;
mod logins;
mod service;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use self::http1::Kept;
use self::http2::Streams;
pub(crate) use self::logins::Queue;
pub(crate) use self::service::Service;
use super::fleet::Member;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) path: &'static str,
    /// A [`Service`] answers; else the edge itself, in JSON that names the user.
    pub(crate) echoed: bool,
}

/// What to do.
#[derive(Debug)]
pub(crate) struct Rush<'a> {
    pub(crate) edge: SocketAddr,
    pub(crate) members: &'a [Member],
    pub(crate) questions: &'a [Question],
    pub(crate) requests: usize,
    /// Connections; every third speaks HTTP/2 with several requests at once.
    pub(crate) lines: usize,
    /// Each member as often as any other, one after the other; else at random.
    pub(crate) in_turn: bool,
    /// Of a hundred clients, so many do not wait for their answer.
    pub(crate) leaving: usize,
}

/// One request: numbers of its member and of its question.
#[derive(Debug, Clone, Copy)]
struct Ask {
    member: usize,
    question: usize,
}

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Leave {
    /// In the middle of its request.
    Halfway,
    /// When all is sent.
    AtOnce,
    /// A moment later.
    Later,
    /// With the first bytes of the answer.
    Begun,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Score {
    /// 200, and the right one.
    pub(crate) answered: usize,
    /// By the façade's cache (seen on HTTP/1.1 only).
    pub(crate) hits: usize,
    /// Who hung up.
    pub(crate) left: usize,
    /// Answers that were not the asker's: how many, and the first.
    pub(crate) wrong: (usize, String),
    /// Everything else.
    pub(crate) odd: BTreeMap<String, usize>,
    pub(crate) took: Duration,
}

/// What stands ready to be sent, and to be compared with.
struct Stock<'a> {
    rush: &'a Rush<'a>,
    plain: Vec<Vec<u8>>,
    packed: Vec<Vec<u8>>,
    expected: Vec<Vec<u8>>,
}

enum Line {
    One(Kept),
    Two(Streams),
}

impl Rush<'_> {
    /// Runs to the end; blocks.
    pub(crate) fn run(&self) -> Score {
        let begun = Instant::now();
        let (stock, left) = (Stock::of(self), AtomicUsize::new(self.requests));
        let mut score = Score::default();
        std::thread::scope(|scope| {
            let threads = [0, 1].map(|thread| {
                let (stock, left) = (&stock, &left);
                scope.spawn(move || work(stock, left, thread))
            });
            for thread in threads {
                score.add(thread.join().unwrap());
            }
        });
        score.took = begun.elapsed();
        score
    }
}

fn work(stock: &Stock<'_>, left: &AtomicUsize, thread: usize) -> Score {
    let (mut score, rush) = (Score::default(), stock.rush);
    let open = |number: usize| match number % 3 {
        2 => Line::Two(Streams::open(rush.edge)),
        _ => Line::One(Kept::open(rush.edge)),
    };
    let mut lines: Vec<Line> = (0..rush.lines).skip(thread).step_by(2).map(open).collect();
    loop {
        let mut asked = 0;
        for line in &mut lines {
            let most = if matches!(line, Line::One(_)) { 1 } else { http2::AT_ONCE };
            let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| Some(all.saturating_sub(most)));
            let before = before.unwrap_or_default();
            let count = before.min(most);
            let asks: Vec<_> = (before - count..before).map(|number| (draw(rush, number), leave(rush))).collect();
            asked += count;
            match line {
                Line::One(line) => asks.into_iter().for_each(|(ask, leave)| line.send(stock, ask, leave, &mut score)),
                Line::Two(line) => line.send(stock, &asks, &mut score),
            }
        }
        for line in &mut lines {
            match line {
                Line::One(line) => line.receive(stock, &mut score),
                Line::Two(line) => line.receive(stock, &mut score),
            }
        }
        if asked == 0 {
            return score;
        }
    }
}

fn draw(rush: &Rush<'_>, number: usize) -> Ask {
    let (members, questions) = (rush.members.len(), rush.questions.len());
    let member = if rush.in_turn { number % members } else { fastrand::usize(0..members) };
    Ask { member, question: fastrand::usize(0..questions) }
}

fn leave(rush: &Rush<'_>) -> Option<Leave> {
    (fastrand::usize(0..100) < rush.leaving)
        .then(|| [Leave::Halfway, Leave::AtOnce, Leave::Later, Leave::Begun][fastrand::usize(0..4)])
}

/// So many in that time.
pub(crate) fn per_second(count: usize, span: Duration) -> u128 {
    count as u128 * 1_000 / span.as_millis().max(1)
}

impl<'a> Stock<'a> {
    fn of(rush: &'a Rush<'a>) -> Self {
        let host = format!("localhost:{}", rush.edge.port());
        let mut stock = Self { rush, plain: Vec::new(), packed: Vec::new(), expected: Vec::new() };
        for member in rush.members {
            for question in rush.questions {
                stock.plain.push(http1::request(question.path, &host, &member.cookie));
                stock.packed.push(http2::request(question.path, &host, &member.cookie));
            }
            let bearer = member.bearer.as_deref().expect("whose token is known");
            stock.expected.push(service::echo(&format!("auth:account:testidp:{}", member.user), bearer));
        }
        stock
    }

    fn place(&self, ask: Ask) -> usize {
        ask.member * self.rush.questions.len() + ask.question
    }

    fn is_own(&self, ask: Ask, body: &[u8]) -> bool {
        if self.rush.questions[ask.question].echoed {
            return body == self.expected[ask.member];
        }
        let named = format!("\"sub\":\"{}\"", self.rush.members[ask.member].user);
        String::from_utf8_lossy(body).contains(&named)
    }
}

impl Score {
    fn judge(&mut self, stock: &Stock<'_>, ask: Ask, status: u16, body: &[u8]) {
        if status != 200 {
            self.wonder(&format!("status {status}"));
        } else if stock.is_own(ask, body) {
            self.answered += 1;
        } else {
            let (user, text) = (&stock.rush.members[ask.member].user, String::from_utf8_lossy(body));
            self.wrong.1 = format!("{user} at {}: {text}", stock.rush.questions[ask.question].path);
            self.wrong.0 += 1;
        }
    }

    fn wonder(&mut self, what: &str) {
        *self.odd.entry(what.to_owned()).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.hits += other.hits;
        self.left += other.left;
        self.wrong.0 += other.wrong.0;
        if other.wrong.0 > 0 {
            self.wrong.1 = other.wrong.1;
        }
        for (what, count) in other.odd {
            *self.odd.entry(what).or_default() += count;
        }
    }

    /// All were asked, nobody got anybody else's, and nothing odd was seen; with a line for who looks at numbers.
    pub(crate) fn nobody_elses(&self, rush: &Rush<'_>, what: &str) {
        let rate = per_second(rush.requests, self.took);
        println!(
            "{what}: {} requests of {} users in {:?} ({rate}/s), {} answered, {} from the cache, {} hung up, odd {:?}",
            rush.requests,
            rush.members.len(),
            self.took,
            self.answered,
            self.hits,
            self.left,
            self.odd
        );
        assert_eq!(self.wrong.0, 0, "wrong: {}", self.wrong.1);
        assert!(self.odd.is_empty(), "{:?}", self.odd);
        assert!(self.answered + self.left >= rush.requests, "{} and {}", self.answered, self.left);
    }
}
