//! Sessions in Redis, for many replicas: one server, a master behind sentinels, or a cluster.
//!
//! Every key lives for a bounded time, counted by Redis. What logout needs to find is written before
//! the session, so that no crash leaves a session that cannot be ended; names without a session are
//! harmless and go with time. Needs Redis 6.0 (RESP3) and the rights that
//! conf/settings.yaml lists.

mod ask;
mod cluster;
mod copies;
mod dial;
mod engine;
mod index;
mod key;
mod link;
mod nodes;
mod note;
mod rate;
mod record;
mod script;
mod sentinel;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::Value;

use self::ask::{Asker, Question};
use self::dial::{Dial, NoConnection};
use self::engine::Engine;
use self::key::Names;
use self::nodes::Nodes;
use self::record::{first_number, number, optional, record, unclear};
use super::{Listener, Record, Saved, Selector, SessionStore, StoreError};
use crate::config::RedisConfig;
use crate::crypto::draw;
use crate::resilience::{Rate, Standing, UnixTime};
use crate::session::SessionKey;
use crate::session::key::hex;
use crate::telemetry::Metrics;

/// How long the start waits for the first connection; it goes on without.
const FIRST: Duration = Duration::from_millis(1_500);
/// The last number of a lease is kept so long; after that the clock of Redis makes it grow.
const FENCE: Duration = Duration::from_secs(24 * 3600);

/// The shared store.
pub struct RedisStore {
    asker: Asker,
    names: Names,
    /// Last, so that what runs on it is dropped first.
    _engine: Engine,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisStore")
    }
}

impl RedisStore {
    /// Connects. A server that cannot be reached is waited for in the background; one that refuses
    /// us, or may throw sessions away, is an error. Blocks for at most two seconds; meant for the start.
    pub fn open(config: &RedisConfig, metrics: &Metrics) -> Result<Self, StoreError> {
        let dial = Dial::new(config)?;
        let engine = Engine::start()?;
        let origin = draw::<8>().map_err(|error| StoreError::new("redis", error))?;
        let nodes = Nodes::start(dial, config.servers.clone(), hex(&origin), engine.handle.clone());
        wait_for_first(&nodes)?;
        let names = Names { prefix: config.key_prefix.clone() };
        Ok(Self { asker: Asker::new(nodes, metrics), names, _engine: engine })
    }

    /// What is published about a session.
    fn news(&self, key: &SessionKey) -> (String, String) {
        (self.asker.nodes.dial.channel.clone(), self.asker.nodes.message(&key.hex()))
    }

    /// A live record, with its place among others.
    async fn load_placed(&self, key: &SessionKey, now: UnixTime) -> Result<Option<(Record, i64)>, StoreError> {
        let found = record(&self.asker.ask(Question::new("load", script::LOAD, self.names.session(key))).await?)?;
        Ok(found.filter(|(record, _)| record.is_live(now)))
    }

    async fn insert_here(&self, key: &SessionKey, record: Record) -> Result<(), StoreError> {
        self.enter(key, &record).await?;
        let question = Question::new("insert", script::INSERT, self.names.session(key))
            .arg(time_to_live(&record))
            .arg(record.version)
            .arg(record.issuer)
            .arg(record.subject)
            .arg(optional(record.idp_session.as_deref()))
            .arg(record.created_at.0)
            .arg(record.expires_at.min(record.ends_at).0)
            .arg(record.ends_at.0)
            .arg(record.sealed);
        match first_number(&self.asker.ask(question).await?)? {
            1 => Ok(()),
            _ => Err(StoreError::new("redis", "a session of that key is there already")),
        }
    }

    async fn save_here(&self, key: &SessionKey, record: Record, expected: u64) -> Result<Saved, StoreError> {
        self.enter_names(key, &record).await?;
        let (channel, message) = self.news(key);
        let question = Question::new("save", script::SAVE, self.names.session(key))
            .arg(expected)
            .arg(channel)
            .arg(message)
            .arg(record.version)
            .arg(record.issuer)
            .arg(record.subject)
            .arg(optional(record.idp_session.as_deref()))
            .arg(record.created_at.0)
            .arg(record.ends_at.0)
            .arg(record.sealed);
        match first_number(&self.asker.ask(question).await?)? {
            1 => Ok(Saved::Yes),
            0 => Ok(Saved::Conflict),
            _ => Ok(Saved::Gone),
        }
    }

    async fn delete_here(&self, key: &SessionKey) -> Result<Option<Record>, StoreError> {
        let (channel, message) = self.news(key);
        let question = Question::new("delete", script::DELETE, self.names.session(key)).arg(channel).arg(message);
        let there = record(&self.asker.ask(question).await?)?.map(|(record, _)| record);
        if let Some(record) = &there {
            self.forget(key, &record.selectors()).await;
        }
        Ok(there)
    }
}

fn wait_for_first(nodes: &Nodes) -> Result<(), StoreError> {
    let begun = Instant::now();
    while !(nodes.all_up() && nodes.knows_time()) {
        for kept in &nodes.map().kept {
            if let Some(NoConnection::Misconfigured(reason)) = kept.link.down() {
                return Err(StoreError::new("redis", format!("{}: {reason}", kept.link.name)));
            }
        }
        if let Some(NoConnection::Misconfigured(reason)) = &*nodes.unmapped.lock() {
            return Err(StoreError::new("redis", reason));
        }
        if begun.elapsed() > FIRST {
            tracing::error!("Redis does not answer; starting without it, not ready until it does");
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The time to live of a record: a little longer than its sliding end, which other replicas may
/// have moved without having told it yet (`Slide::lag`).
fn time_to_live(record: &Record) -> u64 {
    let span = record.expires_at.min(record.ends_at).0.saturating_sub(record.created_at.0).max(1);
    let span = u64::try_from(span).unwrap_or(1);
    (span + span / 20 + 1).saturating_mul(1_000)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn load(&self, key: &SessionKey, now: UnixTime) -> Result<Option<Record>, StoreError> {
        Ok(self.load_placed(key, now).await?.map(|(record, _)| record))
    }

    async fn insert(&self, key: &SessionKey, record: Record) -> Result<(), StoreError> {
        self.copied(&self.places(key, &record), self.insert_here(key, record)).await
    }

    async fn save(&self, key: &SessionKey, record: Record, expected: u64) -> Result<Saved, StoreError> {
        self.copied(&self.places(key, &record), self.save_here(key, record, expected)).await
    }

    async fn delete(&self, key: &SessionKey) -> Result<Option<Record>, StoreError> {
        self.copied(&[self.names.session(key)], self.delete_here(key)).await
    }

    async fn touch(&self, key: &SessionKey, expires_at: UnixTime) -> Result<bool, StoreError> {
        let question = Question::new("touch", script::TOUCH, self.names.session(key)).arg(expires_at.0);
        Ok(first_number(&self.asker.ask(question).await?)? == 1)
    }

    async fn find(&self, selector: &Selector, now: UnixTime) -> Result<Vec<SessionKey>, StoreError> {
        self.find_live(selector, now).await
    }

    async fn count(&self, now: UnixTime) -> Result<u64, StoreError> {
        self.count_live(now).await
    }

    async fn sweep(&self, now: UnixTime) -> Result<u64, StoreError> {
        self.sweep_lists(now).await
    }

    async fn put_note(
        &self,
        name: &str,
        value: Vec<u8>,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let question = Question::new("put_note", script::PUT_NOTE, self.names.note(name))
            .arg(millis(now.until(expires_at)))
            .arg(note::write(&value, expires_at))
            .arg(now.0);
        Ok(first_number(&self.asker.ask(question).await?)? == 1)
    }

    async fn take_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        let question = Question::new("take_note", script::TAKE_NOTE, self.names.note(name)).once();
        note::read(self.asker.ask(question).await?, now)
    }

    async fn set_note(
        &self,
        name: &str,
        value: Vec<u8>,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let question = Question::new("set_note", script::SET_NOTE, self.names.note(name))
            .arg(millis(now.until(expires_at)))
            .arg(note::write(&value, expires_at));
        self.asker.ask(question).await.map(drop)
    }

    async fn read_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        let question = Question::new("read_note", script::READ_NOTE, self.names.note(name));
        note::read(self.asker.ask(question).await?, now)
    }

    /// After an outage leases are given a moment later than sessions are saved and leases renewed: whoever got a new
    /// refresh token meanwhile stores it, and whoever still asks for one has the lease again, before somebody else spends
    /// the old one.
    async fn lease(&self, name: &str, holder: &str, span: Duration, now: UnixTime) -> Result<Option<u64>, StoreError> {
        self.asker.nodes.settle(&self.names.lease(name)).await;
        self.renew_lease(name, holder, span, now).await
    }

    /// Redis counts the span: replicas whose clocks differ must not hold one lease at once.
    async fn renew_lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        _now: UnixTime,
    ) -> Result<Option<u64>, StoreError> {
        let question = Question::new("lease", script::LEASE, self.names.lease(name))
            .key(self.names.fence(name))
            .arg(holder)
            .arg(millis(span))
            .arg(millis(FENCE));
        match self.asker.ask(question).await?.first() {
            Some(Value::Nil) => Ok(None),
            Some(fence) => u64::try_from(number(fence)?).map(Some).map_err(|_| unclear()),
            None => Err(unclear()),
        }
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let question = Question::new("release", script::RELEASE, self.names.lease(name)).arg(holder);
        self.asker.ask(question).await.map(|_| ())
    }

    async fn count_request(&self, name: &str, rate: &Rate) -> Result<Option<Standing>, StoreError> {
        self.count_for_all(name, rate).await.map(Some)
    }

    async fn changed_elsewhere(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn listen(&self, listener: Arc<dyn Listener>) {
        self.asker.nodes.listen(listener);
    }

    /// Of a cluster, one node that answers will do: it is not the balancer's business to take every
    /// replica away because a third of the sessions cannot be read.
    async fn ping(&self) -> Result<(), StoreError> {
        let map = self.asker.nodes.map();
        if map.kept.iter().any(|kept| kept.link.is_up()) {
            return Ok(());
        }
        let why =
            map.kept.iter().find_map(|kept| kept.link.down()).or_else(|| self.asker.nodes.unmapped.lock().clone());
        let reason = why.as_ref().map_or("nobody knows the nodes of the cluster", NoConnection::reason);
        Err(StoreError::new("redis", reason))
    }
}
