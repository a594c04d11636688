//! A store in memory that a test can hold up, break and count.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::resilience::UnixTime;
use crate::session::SessionKey;
use crate::session::store::{Listener, MemoryStore, Record, Saved, Selector, SessionStore, StoreError};

/// Memory, with a hand on it. Answers of `load` and `save` are held back until the gates let them go.
#[derive(Debug)]
pub(super) struct Handled {
    pub inner: MemoryStore,
    pub loads: AtomicUsize,
    pub saves: AtomicUsize,
    pub touches: AtomicUsize,
    pub down: AtomicBool,
    /// What is inserted is there, and nobody is told.
    pub lost: AtomicBool,
    pub listener: OnceLock<Arc<dyn Listener>>,
    pub load_gate: Semaphore,
    pub save_gate: Semaphore,
    /// For strangers only.
    pub lease_gate: Semaphore,
    pub sweep_gate: Semaphore,
    /// Another process wrote.
    pub changed: AtomicBool,
}

impl Handled {
    pub fn new() -> Self {
        let [load_gate, save_gate, lease_gate, sweep_gate] = [(); 4].map(|()| Semaphore::new(1_000));
        let [loads, saves, touches] = [const { AtomicUsize::new(0) }; 3];
        let [down, lost, changed] = [const { AtomicBool::new(false) }; 3];
        Self {
            inner: MemoryStore::new(),
            loads,
            saves,
            touches,
            down,
            lost,
            listener: OnceLock::new(),
            load_gate,
            save_gate,
            lease_gate,
            sweep_gate,
            changed,
        }
    }

    fn up(&self) -> Result<(), StoreError> {
        if self.down.load(Ordering::SeqCst) { Err(StoreError::new("memory", "told to fail")) } else { Ok(()) }
    }
}

#[async_trait]
impl SessionStore for Handled {
    async fn load(&self, key: &SessionKey, now: UnixTime) -> Result<Option<Record>, StoreError> {
        self.up()?;
        let answer = self.inner.load(key, now).await;
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.load_gate.acquire().await.unwrap().forget();
        answer
    }
    async fn insert(&self, key: &SessionKey, record: Record) -> Result<(), StoreError> {
        self.up()?;
        self.inner.insert(key, record).await?;
        if self.lost.load(Ordering::SeqCst) { Err(StoreError::new("memory", "the answer is lost")) } else { Ok(()) }
    }
    async fn save(&self, key: &SessionKey, record: Record, expected: u64) -> Result<Saved, StoreError> {
        self.up()?;
        let answer = self.inner.save(key, record, expected).await;
        self.saves.fetch_add(1, Ordering::SeqCst);
        self.save_gate.acquire().await.unwrap().forget();
        answer
    }
    async fn touch(&self, key: &SessionKey, expires_at: UnixTime) -> Result<bool, StoreError> {
        self.touches.fetch_add(1, Ordering::SeqCst);
        self.up()?;
        self.inner.touch(key, expires_at).await
    }
    async fn delete(&self, key: &SessionKey) -> Result<Option<Record>, StoreError> {
        self.up()?;
        self.inner.delete(key).await
    }
    async fn find(&self, selector: &Selector, now: UnixTime) -> Result<Vec<SessionKey>, StoreError> {
        self.inner.find(selector, now).await
    }
    async fn count(&self, now: UnixTime) -> Result<u64, StoreError> {
        self.inner.count(now).await
    }
    async fn sweep(&self, now: UnixTime) -> Result<u64, StoreError> {
        self.sweep_gate.acquire().await.unwrap().forget();
        self.inner.sweep(now).await
    }
    async fn put_note(&self, name: &str, value: Vec<u8>, until: UnixTime, now: UnixTime) -> Result<bool, StoreError> {
        self.inner.put_note(name, value, until, now).await
    }
    async fn take_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.take_note(name, now).await
    }
    async fn set_note(&self, name: &str, value: Vec<u8>, until: UnixTime, now: UnixTime) -> Result<(), StoreError> {
        self.up()?;
        self.inner.set_note(name, value, until, now).await
    }
    async fn read_note(&self, name: &str, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
        self.up()?;
        self.inner.read_note(name, now).await
    }
    async fn lease(&self, name: &str, holder: &str, span: Duration, now: UnixTime) -> Result<Option<u64>, StoreError> {
        self.lease_gate.acquire().await.unwrap().forget();
        self.renew_lease(name, holder, span, now).await
    }
    async fn renew_lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        now: UnixTime,
    ) -> Result<Option<u64>, StoreError> {
        self.up()?;
        self.inner.lease(name, holder, span, now).await
    }
    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.inner.release(name, holder).await
    }
    async fn changed_elsewhere(&self) -> Result<bool, StoreError> {
        Ok(self.changed.swap(false, Ordering::SeqCst))
    }
    fn listen(&self, listener: Arc<dyn Listener>) {
        self.listener.set(listener).unwrap();
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.up()
    }
}
