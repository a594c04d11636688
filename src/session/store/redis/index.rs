//! Finding sessions without their cookie: by person, by login at the provider, and all of them.
//! The sets name candidates; the record decides.

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream;
use redis::Value;

use super::super::{AT_ONCE, Record, Selector, StoreError};
use super::ask::Question;
use super::key::LISTS;
use super::record::{first_number, number, unclear};
use super::{RedisStore, script};
use crate::resilience::UnixTime;
use crate::session::SessionKey;

/// Members read at once.
const PAGE: usize = 1_000;
/// What is listed stays somewhat longer than what it lists, so that its end is counted.
const LONGER: u64 = 3_600;

impl RedisStore {
    /// Lists a new session everywhere.
    pub(super) async fn enter(&self, key: &SessionKey, record: &Record) -> Result<(), StoreError> {
        let score = record.expires_at.min(record.ends_at).0;
        let (list, names) =
            tokio::join!(self.add(self.names.list(key), score, key, record, false), self.enter_names(key, record));
        list.and(names)
    }

    /// Everything a session is written to.
    pub(super) fn places(&self, key: &SessionKey, record: &Record) -> Vec<String> {
        let names = record.selectors().into_iter().map(|selector| self.names.selector(&selector));
        names.chain([self.names.list(key), self.names.session(key)]).collect()
    }

    /// Lists a session under its person and its login.
    pub(super) async fn enter_names(&self, key: &SessionKey, record: &Record) -> Result<(), StoreError> {
        let sets = record.selectors().into_iter().map(|selector| self.names.selector(&selector));
        let added = join_all(sets.map(|set| self.add(set, record.ends_at.0, key, record, true))).await;
        added.into_iter().collect()
    }

    async fn add(
        &self,
        set: String,
        score: i64,
        key: &SessionKey,
        record: &Record,
        forget_ended: bool,
    ) -> Result<(), StoreError> {
        let span = u64::try_from(record.ends_at.0.saturating_sub(record.created_at.0)).unwrap_or(0);
        let ended = if forget_ended { record.created_at.0.to_string() } else { String::new() };
        let question = Question::new("index", script::INDEX, set)
            .arg(score)
            .arg(key.hex())
            .arg(span.saturating_add(LONGER).saturating_mul(1_000))
            .arg(ended);
        self.asker.ask(question).await.map(|_| ())
    }

    /// Takes an ended session out of every set. What fails here goes with time.
    pub(super) async fn forget(&self, key: &SessionKey, selectors: &[Selector]) {
        let names = selectors.iter().map(|selector| self.names.selector(selector));
        for set in names.chain([self.names.list(key)]) {
            if let Err(error) = self.strike(set, key).await {
                tracing::debug!(%error, "an ended session is still listed");
                return;
            }
        }
    }

    /// Whether it was there.
    async fn strike(&self, set: String, key: &SessionKey) -> Result<bool, StoreError> {
        let answer = self.asker.ask(Question::new("index", script::FORGET, set).arg(key.hex())).await?;
        Ok(first_number(&answer)? > 0)
    }

    pub(super) async fn find_live(&self, selector: &Selector, now: UnixTime) -> Result<Vec<SessionKey>, StoreError> {
        let lowest = format!("({}", now.0);
        let keys = self.members(self.names.selector(selector), &lowest, "+inf", usize::MAX >> 1).await?;
        let mut records = stream::iter(keys)
            .map(|key| async move { (key, self.load_placed(&key, now).await) })
            .buffer_unordered(AT_ONCE);
        let mut found = Vec::new();
        while let Some((key, record)) = records.next().await {
            if let Some((record, place)) = record?
                && record.selectors().contains(selector)
            {
                found.push((place, key));
            }
        }
        found.sort_unstable_by_key(|(place, key)| (*place, key.0));
        Ok(found.into_iter().map(|(_, key)| key).collect())
    }

    async fn members(
        &self,
        set: String,
        lowest: &str,
        highest: &str,
        most: usize,
    ) -> Result<Vec<SessionKey>, StoreError> {
        let question = Question::new("find", script::RANGE, set).arg(lowest).arg(highest).arg(most);
        let answer = self.asker.ask(question).await?;
        let Some(Value::Array(members)) = answer.first() else { return Err(unclear()) };
        let member = |member: &Value| match member {
            Value::BulkString(hex) => SessionKey::of_hex(hex),
            _ => None,
        };
        members.iter().map(|value| member(value).ok_or_else(unclear)).collect()
    }

    pub(super) async fn count_live(&self, now: UnixTime) -> Result<u64, StoreError> {
        let mut live: u64 = 0;
        for list in 0..LISTS {
            let question =
                Question::new("count", script::COUNT, self.names.numbered_list(list)).arg(format!("({}", now.0));
            let counted = first_number(&self.asker.ask(question).await?)?;
            live = live.saturating_add(u64::try_from(counted).unwrap_or(0));
        }
        Ok(live)
    }

    /// Redis removes what is over by itself; the lists are put in order here, and what ended is
    /// counted, each session by one replica only.
    pub(super) async fn sweep_lists(&self, now: UnixTime) -> Result<u64, StoreError> {
        let mut gone: u64 = 0;
        for list in 0..LISTS {
            loop {
                let name = self.names.numbered_list(list);
                let due = self.members(name, "-inf", &now.0.to_string(), PAGE).await?;
                let last = due.len() < PAGE;
                let mut judged = stream::iter(due).map(|key| self.judge(key, now)).buffer_unordered(AT_ONCE);
                while let Some(ended) = judged.next().await {
                    gone += u64::from(ended?);
                }
                if last {
                    break;
                }
            }
        }
        Ok(gone)
    }

    /// A session listed as over: struck off, or listed by the end it has now.
    async fn judge(&self, key: SessionKey, now: UnixTime) -> Result<bool, StoreError> {
        let question = Question::new("expire", script::EXPIRE, self.names.session(&key)).arg(now.0);
        match self.asker.ask(question).await?.first() {
            Some(Value::Nil) => self.strike(self.names.list(&key), &key).await,
            Some(end) => {
                let rescore = Question::new("index", script::RESCORE, self.names.list(&key));
                self.asker.ask(rescore.arg(number(end)?).arg(key.hex())).await.map(|_| false)
            }
            None => Err(unclear()),
        }
    }
}
