//! Counts what a store fails: the alarm of every kind of store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus::IntCounterVec;

use super::{Listener, Record, Saved, Selector, SessionStore, StoreError};
use crate::resilience::{Rate, Standing, UnixTime};
use crate::session::SessionKey;

/// A store whose errors count in `bff_store_errors_total`.
#[derive(Debug)]
pub(in crate::session) struct Counted {
    store: Arc<dyn SessionStore>,
    errors: IntCounterVec,
}

impl Counted {
    pub(in crate::session) fn new(store: Arc<dyn SessionStore>, errors: IntCounterVec) -> Self {
        Self { store, errors }
    }

    /// `operation` is a metric label: one of the names below.
    fn told<T>(&self, operation: &str, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if answer.is_err() {
            self.errors.with_label_values(&[operation]).inc();
        }
        answer
    }
}

#[async_trait]
impl SessionStore for Counted {
    async fn load(&self, key: &SessionKey, now: UnixTime) -> Result<Option<Record>, StoreError> {
        self.told("load", self.store.load(key, now).await)
    }
    async fn insert(&self, key: &SessionKey, record: Record) -> Result<(), StoreError> {
        self.told("insert", self.store.insert(key, record).await)
    }
    async fn save(&self, key: &SessionKey, record: Record, expected: u64) -> Result<Saved, StoreError> {
        self.told("save", self.store.save(key, record, expected).await)
    }
    async fn touch(&self, key: &SessionKey, expires_at: UnixTime) -> Result<bool, StoreError> {
        self.told("touch", self.store.touch(key, expires_at).await)
    }
    async fn delete(&self, key: &SessionKey) -> Result<Option<Record>, StoreError> {
        self.told("delete", self.store.delete(key).await)
    }
    async fn find(&self, selector: &Selector, now: UnixTime) -> Result<Vec<SessionKey>, StoreError> {
        self.told("find", self.store.find(selector, now).await)
    }
    async fn count(&self, now: UnixTime) -> Result<u64, StoreError> {
        self.told("count", self.store.count(now).await)
    }
    async fn sweep(&self, now: UnixTime) -> Result<u64, StoreError> {
        self.told("sweep", self.store.sweep(now).await)
    }
    async fn put_note(&self, name: &str, value: Vec<u8>, until: UnixTime, now: UnixTime) -> Result<bool, StoreError> {
        self.told("put_note", self.store.put_note(name, value, until, now).await)
    }
    async fn take_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        self.told("take_note", self.store.take_note(name, now).await)
    }
    async fn set_note(&self, name: &str, value: Vec<u8>, until: UnixTime, now: UnixTime) -> Result<(), StoreError> {
        self.told("set_note", self.store.set_note(name, value, until, now).await)
    }
    async fn read_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        self.told("read_note", self.store.read_note(name, now).await)
    }
    async fn lease(&self, name: &str, holder: &str, span: Duration, now: UnixTime) -> Result<Option<u64>, StoreError> {
        self.told("lease", self.store.lease(name, holder, span, now).await)
    }
    async fn renew_lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        now: UnixTime,
    ) -> Result<Option<u64>, StoreError> {
        self.told("lease", self.store.renew_lease(name, holder, span, now).await)
    }
    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.told("release", self.store.release(name, holder).await)
    }
    async fn count_request(&self, name: &str, rate: &Rate) -> Result<Option<Standing>, StoreError> {
        self.told("count_request", self.store.count_request(name, rate).await)
    }
    async fn changed_elsewhere(&self) -> Result<bool, StoreError> {
        self.told("watch", self.store.changed_elsewhere().await)
    }
    fn listen(&self, listener: Arc<dyn Listener>) {
        self.store.listen(listener);
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.told("ping", self.store.ping().await)
    }
}
