//! The engine's view of the shelf: `Storage` and its two handlers. Readers wait for a whole answer
//! (`support_streaming_partial_write` is false): a truncated one is then never seen by anybody but the
//! client it was cut for.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use pingora::cache::storage::{HandleHit, HandleMiss, MissFinishType};
use pingora::cache::trace::SpanHandle;
use pingora::cache::{CacheKey, CacheMeta, HitHandler, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage};
use pingora::{Error, ErrorType, Result};

use super::admission::StoragePolicy;
use super::entry::{Entry, EntryId};
use super::key::Lookup;
use super::shelf::Shelf;

/// A stored body leaves in pieces of this size: a client has so long for each of them.
const PIECE: usize = 64 * 1024;

/// Everything is found by what travels in the key's extensions; the engine's own hash serves its locks.
#[derive(Debug)]
pub(super) struct ShelfStorage(pub(super) Arc<Shelf>);

fn lookup_of(key: &CacheKey) -> Result<Arc<Lookup>> {
    let lookup = key.extensions.get::<Arc<Lookup>>().cloned();
    lookup.ok_or_else(|| Error::explain(ErrorType::InternalError, "a cache key without its look-up"))
}

fn policy_of(meta: &CacheMeta) -> Result<Arc<StoragePolicy>> {
    let policy = meta.extensions().get::<Arc<StoragePolicy>>().cloned();
    policy.ok_or_else(|| Error::explain(ErrorType::InternalError, "an answer without its policy"))
}

#[async_trait]
impl Storage for ShelfStorage {
    async fn lookup(&'static self, key: &CacheKey, _: &SpanHandle) -> Result<Option<(CacheMeta, HitHandler)>> {
        let found = self.0.find(&*lookup_of(key)?);
        Ok(found.map(|entry| {
            let hit: HitHandler = Box::new(Hit { end: entry.body.len(), body: entry.body.clone(), at: 0 });
            (entry.meta(), hit)
        }))
    }

    async fn get_miss_handler(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> Result<MissHandler> {
        let announced = meta.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        // The entry is made now: the engine's description cannot be kept until the body is here.
        let (lookup, policy) = (lookup_of(key)?, policy_of(meta)?);
        let entry = Entry::new(self.0.next_id(), &lookup, meta, &policy, Bytes::new());
        let mut fill =
            Fill { shelf: Arc::clone(&self.0), lookup, entry: Some(entry), body: Vec::new(), reserved: 0, announced };
        fill.reserve(fill.entry.as_ref().map_or(0, |entry| entry.weight))?;
        Ok(Box::new(fill))
    }

    /// The engine evicts nothing here, and invalidation goes by resource, not by key.
    async fn purge(&'static self, _: PurgeTarget<'_>, _: PurgeType, _: &SpanHandle) -> Result<PurgeOutcome> {
        Ok(PurgeOutcome::NotFound)
    }

    async fn update_meta(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> Result<bool> {
        let (lookup, policy) = (lookup_of(key)?, policy_of(meta)?);
        let Some(id) = meta.extensions().get::<EntryId>().copied() else { return Ok(false) };
        let Some(old) = self.0.find(&lookup).filter(|entry| entry.id == id) else { return Ok(false) };
        let fresh = Entry::new(self.0.next_id(), &lookup, meta, &policy, old.body.clone());
        // It may be somebody else's by now: then the old place is not the new one.
        self.0.forget(&lookup.resource, id);
        Ok(self.0.keep(fresh, &lookup, 0))
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

/// A stored body on its way out, whole or a part.
struct Hit {
    body: Bytes,
    at: usize,
    end: usize,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        if self.at >= self.end || self.end > self.body.len() {
            return Ok(None);
        }
        let end = self.end.min(self.at.saturating_add(PIECE));
        let part = self.body.slice(self.at..end);
        self.at = end;
        Ok(Some(part))
    }

    async fn finish(self: Box<Self>, _: &'static (dyn Storage + Sync), _: &CacheKey, _: &SpanHandle) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        if start >= self.body.len() {
            return Error::e_explain(ErrorType::InternalError, "a range beyond the stored body");
        }
        self.at = start;
        self.end = end.unwrap_or(self.body.len()).min(self.body.len());
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// An answer that is arriving. Dropped before its end, it leaves nothing behind.
struct Fill {
    shelf: Arc<Shelf>,
    lookup: Arc<Lookup>,
    entry: Option<Entry>,
    body: Vec<u8>,
    reserved: usize,
    announced: Option<usize>,
}

impl Fill {
    fn reserve(&mut self, bytes: usize) -> Result<()> {
        if !self.shelf.reserve(bytes, self.lookup.alone.load(Ordering::Relaxed)) {
            return Error::e_explain(ErrorType::InternalError, "no room for an answer of this size");
        }
        self.reserved += bytes;
        Ok(())
    }
}

#[async_trait]
impl HandleMiss for Fill {
    async fn write_body(&mut self, data: Bytes, _end: bool) -> Result<()> {
        self.reserve(data.len())?;
        // A copy: the piece is a window into a read buffer that it would keep alive.
        self.body.extend_from_slice(&data);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        let length = self.body.len();
        if self.announced.is_some_and(|announced| announced != length) {
            return Error::e_explain(ErrorType::InternalError, "an answer shorter than announced");
        }
        let body = Bytes::from(std::mem::take(&mut self.body).into_boxed_slice());
        if let Some(mut entry) = self.entry.take() {
            entry.weight += length;
            entry.body = body;
            self.shelf.keep(entry, &self.lookup, std::mem::take(&mut self.reserved));
        }
        Ok(MissFinishType::Created(length))
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.shelf.release(self.reserved);
    }
}
