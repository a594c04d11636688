//! Who the sentinels say is the master (redis.io: guidelines for Sentinel clients). They are asked all the time: after
//! a failover that somebody asked for, the old master goes on for ten seconds, and says that it is one.

use std::sync::Weak;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Value, from_redis_value};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::dial::{Dial, NoConnection, PATIENCE, pairs};
use super::nodes::Nodes;
use crate::config::RedisAddress;

/// How often each of them is asked.
const BEAT: Duration = Duration::from_millis(250);
/// What one said counts for so long.
const FRESH: Duration = Duration::from_secs(1);
/// Whoever dials waits so long for the others once one has answered: the first may be the last to hear of a failover.
const LATE: Duration = Duration::from_millis(100);

/// Those that watch over one master.
pub(super) struct Sentinels {
    master: String,
    seats: Vec<Seat>,
}

/// One of them.
struct Seat {
    address: RedisAddress,
    kept: Mutex<Option<MultiplexedConnection>>,
    /// What it said last, and when it was asked.
    word: Mutex<Option<(Instant, Word)>>,
}

/// What one of them says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    master: RedisAddress,
    /// Grows with every failover; zero where we may not know.
    epoch: u64,
    /// It is about to make another one the master, and may have told that one already.
    another_to_come: bool,
}

impl Sentinels {
    pub(super) fn new(addresses: &[RedisAddress], master: &str) -> Self {
        let seat =
            |address: &RedisAddress| Seat { address: address.clone(), kept: Mutex::default(), word: Mutex::default() };
        Self { master: master.to_owned(), seats: addresses.iter().map(seat).collect() }
    }

    pub(super) fn count(&self) -> usize {
        self.seats.len()
    }

    /// The address of the master, by the newest of what they say.
    pub(super) async fn master(&self, dial: &Dial) -> Result<RedisAddress, NoConnection> {
        let mut asked: FuturesUnordered<_> = self.seats.iter().map(|seat| seat.ask(dial, &self.master)).collect();
        let mut last = NoConnection::Unreachable("no sentinel is configured".to_owned());
        let mut best: Option<Word> = None;
        let mut until = Instant::now() + PATIENCE.saturating_mul(4);
        while let Ok(Some(answer)) = timeout_at(until, asked.next()).await {
            match answer {
                Ok(word) => {
                    until = until.min(Instant::now() + LATE);
                    best = best.filter(|best| best.epoch >= word.epoch).or(Some(word));
                }
                Err(why) => last = why,
            }
        }
        best.map(|word| word.master).ok_or(last)
    }

    /// Another master than `current`, if what they said last names one.
    pub(super) fn another_than(&self, current: &RedisAddress) -> Option<RedisAddress> {
        let words: Vec<Word> = self.seats.iter().filter_map(Seat::fresh).collect();
        another(&words, current)
    }

    /// Asks all of them now whether `current` is the master, and stays it. A failover needs more than half of them: it is
    /// enough if half of them answer.
    pub(super) async fn confirm(&self, dial: &Dial, current: &RedisAddress) -> Result<(), String> {
        let asked = self.seats.iter().map(|seat| timeout(PATIENCE, seat.ask(dial, &self.master)));
        let words: Vec<Word> = join_all(asked).await.into_iter().filter_map(|answer| answer.ok()?.ok()).collect();
        if words.len() * 2 < self.seats.len() {
            return Err("fewer than half of the sentinels tell who is the master".to_owned());
        }
        if let Some(address) = another(&words, current) {
            return Err(format!("the sentinels made {address} the master"));
        }
        if words.iter().any(|word| word.another_to_come) {
            return Err("the sentinels are about to make another one the master".to_owned());
        }
        Ok(())
    }
}

/// The newest word counts. Two of one age name one server each in their own way.
fn another(words: &[Word], current: &RedisAddress) -> Option<RedisAddress> {
    let newest = words.iter().map(|word| word.epoch).max()?;
    let mut named = words.iter().filter(|word| word.epoch == newest).map(|word| &word.master);
    let first = named.clone().next()?;
    (!named.any(|master| master == current)).then(|| first.clone())
}

/// Runs as long as `nodes` are there: hears what the sentinel of that number says.
pub(super) async fn heed(nodes: Weak<Nodes>, number: usize) {
    loop {
        let Some(here) = nodes.upgrade() else { return };
        let Some((sentinels, seat)) = here.sentinels.as_ref().and_then(|all| Some((all, all.seats.get(number)?)))
        else {
            return;
        };
        // One that does not answer tells nothing; whoever has no connection hears of it when dialling.
        let answered = seat.ask(&here.dial, &sentinels.master).await.is_ok();
        if answered {
            here.follow();
        }
        drop(here);
        sleep(if answered { BEAT } else { FRESH }).await;
    }
}

impl Seat {
    async fn ask(&self, dial: &Dial, name: &str) -> Result<Word, NoConnection> {
        let asked = Instant::now();
        let kept = self.kept.lock().clone();
        let answered = match kept {
            Some(connection) => questions(connection, name).await.ok(),
            None => None,
        };
        let answers = if let Some(answers) = answered {
            answers
        } else {
            self.kept.lock().take();
            let connection = dial.sentinel(&self.address).await?;
            let answers = questions(connection.clone(), name).await?;
            *self.kept.lock() = Some(connection);
            answers
        };
        let [_, state] = &answers;
        if let Value::ServerError(error) = state
            && self.word.lock().is_none()
        {
            tracing::warn!(sentinel = %self.address, %error, "it does not tell whether a failover is under way");
        }
        let word = self.word(answers, name)?;
        *self.word.lock() = Some((asked, word.clone()));
        Ok(word)
    }

    fn word(&self, [address, state]: [Value; 2], name: &str) -> Result<Word, NoConnection> {
        let sentinel = &self.address;
        let explain = |reason| format!("{sentinel} is no sentinel that may be asked: {reason}");
        let address = address.extract_error().map_err(|error| NoConnection::from(error).explained(explain))?;
        let address: Option<(String, u16)> =
            from_redis_value(address).map_err(|error| NoConnection::Unreachable(error.to_string()))?;
        let (host, port) = address
            .ok_or_else(|| NoConnection::Misconfigured(format!("the sentinel {sentinel} knows no master `{name}`")))?;
        let state = pairs(&state);
        let field = |name: &str| state.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        // It names the new one as soon as that one says so itself, and lists the old one until all is done.
        let named_as_listed = field("ip") == Some(host.as_str()) && field("port") == Some(port.to_string().as_str());
        let failover = field("flags").is_some_and(|flags| flags.split(',').any(|flag| flag == "failover_in_progress"));
        Ok(Word {
            master: RedisAddress { host, port },
            epoch: field("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
            another_to_come: failover && named_as_listed,
        })
    }

    fn fresh(&self) -> Option<Word> {
        self.word.lock().as_ref().filter(|(asked, _)| asked.elapsed() < FRESH).map(|(_, word)| word.clone())
    }
}

/// What they are asked in one go. Who may not ask the second gets an error in its place, which tells nothing.
async fn questions(mut connection: MultiplexedConnection, name: &str) -> redis::RedisResult<[Value; 2]> {
    let mut questions = redis::pipe();
    questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).cmd("SENTINEL").arg("MASTER").arg(name);
    let mut answers = connection.send_packed_commands(&questions, 0, 2).await?.into_iter();
    Ok([(); 2].map(|()| answers.next().unwrap_or(Value::Nil)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> RedisAddress {
        RedisAddress { host: "redis".to_owned(), port }
    }

    fn word(epoch: u64, port: u16) -> Word {
        Word { master: at(port), epoch, another_to_come: false }
    }

    #[test]
    fn the_newest_word_counts() {
        assert_eq!(another(&[], &at(1)), None);
        assert_eq!(another(&[word(1, 1), word(1, 1)], &at(1)), None);
        assert_eq!(another(&[word(1, 1), word(2, 2), word(1, 1)], &at(1)), Some(at(2)));
        assert_eq!(another(&[word(1, 1), word(2, 2), word(1, 1)], &at(2)), None, "two have not heard of it");
        assert_eq!(another(&[word(1, 1), word(1, 2)], &at(1)), None, "nobody goes back and forth");
        assert_eq!(another(&[word(1, 1), word(1, 2)], &at(3)), Some(at(1)));
    }

    #[test]
    fn a_failover_is_to_come_until_the_new_one_is_named() {
        let seat = Seat { address: at(26379), kept: Mutex::default(), word: Mutex::default() };
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let said = |port: &str, flags: &str| {
            let row = ["ip", "redis", "port", "1", "flags", flags, "config-epoch", "7"].map(text).to_vec();
            seat.word([Value::Array(vec![text("redis"), text(port)]), Value::Array(row)], "main").unwrap()
        };
        assert_eq!(said("1", "master"), word(7, 1));
        assert!(said("1", "master,failover_in_progress").another_to_come);
        assert_eq!(said("2", "master,failover_in_progress"), word(7, 2));
    }
}
