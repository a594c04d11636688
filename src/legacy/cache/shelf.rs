//! The store itself: bounded by entries and by bytes, the least recently used goes first. Answers that
//! are still arriving count, so the bound holds at every moment.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::IntGauge;

use super::entry::{Entry, EntryId};
use super::key::{Audience, Known, Lookup, Resource};

/// Variants that one caller, or everybody, may have of one resource.
const MAX_VARIANTS: usize = 32;

/// How long an invalidation is remembered: longer than any answer takes to arrive.
const REMEMBERED: Duration = Duration::from_secs(300);
const MAX_REMEMBERED: usize = 8192;

/// Shared by reference; every method locks for the time of a few map operations.
#[derive(Debug)]
pub(super) struct Shelf {
    inner: Mutex<Inner>,
    max_entries: usize,
    max_bytes: usize,
    entries: IntGauge,
    bytes: IntGauge,
}

#[derive(Debug, Default)]
struct Inner {
    resources: HashMap<Resource, Held>,
    /// Least recently used first.
    order: BTreeMap<u64, Arc<Entry>>,
    clock: u64,
    next_id: u64,
    /// Of complete answers.
    stored: usize,
    /// Of answers that are arriving.
    arriving: usize,
    /// By a hash: an URL may be long, and a false alarm costs one answer its place.
    invalidated: HashMap<u64, Instant>,
    hasher: RandomState,
    /// Everything asked before this moment counts as invalidated.
    watermark: Option<Instant>,
}

#[derive(Debug, Default)]
struct Held {
    by_audience: HashMap<Audience, Vec<Arc<Entry>>>,
    known: Known,
}

impl Shelf {
    pub(super) fn new(max_entries: usize, max_bytes: usize, entries: IntGauge, bytes: IntGauge) -> Self {
        Self { inner: Mutex::default(), max_entries, max_bytes, entries, bytes }
    }

    /// What is known of a resource while any answer of it is held.
    pub(super) fn known(&self, resource: &Resource) -> Known {
        self.inner.lock().resources.get(resource).map(|held| held.known.clone()).unwrap_or_default()
    }

    /// The most recent answer to this request, which counts as used.
    pub(super) fn find(&self, lookup: &Lookup) -> Option<Arc<Entry>> {
        let mut inner = self.inner.lock();
        let held = inner.resources.get(&lookup.resource)?;
        let own = Audience::Only(lookup.caller.clone());
        let candidates = [own, Audience::Everybody].into_iter().filter_map(|audience| held.by_audience.get(&audience));
        let answers = candidates.flatten().filter(|entry| entry.answers(lookup));
        let found = answers.max_by_key(|entry| (entry.epoch, entry.id.0)).map(Arc::clone)?;
        inner.touch(&found);
        Some(found)
    }

    /// Makes room for bytes that arrive. `false`: the answer is not worth emptying the store for; many at once that
    /// serve nobody but who asked (`alone`) are not, either.
    pub(super) fn reserve(&self, bytes: usize, alone: bool) -> bool {
        let mut inner = self.inner.lock();
        let arriving = inner.arriving.saturating_add(bytes);
        if arriving > if alone { self.max_bytes / 4 } else { self.max_bytes } {
            return false;
        }
        inner.arriving = arriving;
        self.shrink(&mut inner);
        true
    }

    /// Gives back what was reserved.
    pub(super) fn release(&self, bytes: usize) {
        let mut inner = self.inner.lock();
        inner.arriving = inner.arriving.saturating_sub(bytes);
    }

    pub(super) fn next_id(&self) -> EntryId {
        let mut inner = self.inner.lock();
        inner.next_id += 1;
        EntryId(inner.next_id)
    }

    /// Keeps a complete answer in the place of those that answered the same request, and gives back what
    /// was reserved for it. `false`: the resource was invalidated since the question was asked.
    pub(super) fn keep(&self, entry: Entry, lookup: &Lookup, reserved: usize) -> bool {
        let mut inner = self.inner.lock();
        inner.arriving = inner.arriving.saturating_sub(reserved);
        if inner.is_outdated(&lookup.resource, lookup.asked) {
            return false;
        }
        let entry = Arc::new(entry);
        inner.replace(&entry, lookup);
        self.shrink(&mut inner);
        true
    }

    /// Forgets one entry, whoever sees it. `false`: it is gone already.
    pub(super) fn forget(&self, resource: &Resource, id: EntryId) -> bool {
        let mut inner = self.inner.lock();
        let held = inner.resources.get(resource);
        let entry = held.and_then(|held| held.by_audience.values().flatten().find(|entry| entry.id == id).cloned());
        let found = entry.is_some_and(|entry| inner.remove(&entry));
        self.show(&inner);
        found
    }

    /// Forgets what answers this request, the caller's own or everybody's, too: without the most recent answer an older
    /// one would.
    pub(super) fn take_back(&self, lookup: &Lookup, everybodys: bool) {
        let mut inner = self.inner.lock();
        let own = Audience::Only(lookup.caller.clone());
        let audiences = [Some(own), everybodys.then_some(Audience::Everybody)].into_iter().flatten();
        let held = inner.resources.get(&lookup.resource);
        let answers = audiences.filter_map(|audience| held?.by_audience.get(&audience)).flatten();
        let doomed: Vec<Arc<Entry>> = answers.filter(|entry| entry.answers(lookup)).cloned().collect();
        for entry in doomed {
            inner.remove(&entry);
        }
        self.show(&inner);
    }

    /// Forgets every answer of a resource, also those that are being asked for now (RFC 9111 §4.4).
    pub(super) fn invalidate(&self, resource: &Resource) {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        if inner.invalidated.len() >= MAX_REMEMBERED {
            inner.invalidated.retain(|_, moment| now.duration_since(*moment) < REMEMBERED);
        }
        if inner.invalidated.len() >= MAX_REMEMBERED {
            inner.invalidated.clear();
            inner.watermark = Some(now);
        }
        let hash = inner.hasher.hash_one(resource);
        inner.invalidated.insert(hash, now);
        let doomed: Vec<Arc<Entry>> = inner
            .resources
            .get(resource)
            .map(|held| held.by_audience.values().flatten().cloned().collect())
            .unwrap_or_default();
        for entry in doomed {
            inner.remove(&entry);
        }
        self.show(&inner);
    }

    /// Entries and bytes, those that are arriving included.
    pub(super) fn size(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.order.len(), inner.stored + inner.arriving)
    }

    fn shrink(&self, inner: &mut Inner) {
        while inner.order.len() > self.max_entries || inner.stored + inner.arriving > self.max_bytes {
            let Some((_, oldest)) = inner.order.first_key_value() else { break };
            let oldest = Arc::clone(oldest);
            inner.remove(&oldest);
        }
        self.show(inner);
    }

    fn show(&self, inner: &Inner) {
        self.entries.set(i64::try_from(inner.order.len()).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(inner.stored).unwrap_or(i64::MAX));
    }
}

impl Inner {
    fn is_outdated(&self, resource: &Resource, asked: Instant) -> bool {
        let since = self.invalidated.get(&self.hasher.hash_one(resource)).copied().max(self.watermark);
        since.is_some_and(|since| since >= asked)
    }

    fn touch(&mut self, entry: &Arc<Entry>) {
        self.clock += 1;
        let before = entry.used.swap(self.clock, Ordering::Relaxed);
        if self.order.remove(&before).is_some() {
            self.order.insert(self.clock, Arc::clone(entry));
        }
    }

    fn replace(&mut self, entry: &Arc<Entry>, lookup: &Lookup) {
        let own = Audience::Only(lookup.caller.clone());
        let held = self.resources.entry(entry.resource.clone()).or_default();
        held.known = Known { shared: entry.audience == Audience::Everybody, vary: entry.vary().to_vec() };
        let mut doomed: Vec<Arc<Entry>> = Vec::new();
        for audience in [&own, &Audience::Everybody] {
            let entries = held.by_audience.get(audience).map(Vec::as_slice).unwrap_or_default();
            doomed.extend(entries.iter().filter(|other| other.answers(lookup)).cloned());
        }
        let variants = held.by_audience.entry(entry.audience.clone()).or_default();
        if variants.len() >= MAX_VARIANTS {
            doomed.extend(variants.iter().min_by_key(|other| other.used.load(Ordering::Relaxed)).cloned());
        }
        variants.push(Arc::clone(entry));
        for other in doomed {
            self.remove(&other);
        }
        self.clock += 1;
        entry.used.store(self.clock, Ordering::Relaxed);
        self.order.insert(self.clock, Arc::clone(entry));
        self.stored += entry.weight;
    }

    fn remove(&mut self, entry: &Arc<Entry>) -> bool {
        if self.order.remove(&entry.used.load(Ordering::Relaxed)).is_none() {
            return false;
        }
        self.stored = self.stored.saturating_sub(entry.weight);
        if let Some(held) = self.resources.get_mut(&entry.resource) {
            if let Some(entries) = held.by_audience.get_mut(&entry.audience) {
                entries.retain(|other| other.id != entry.id);
                if entries.is_empty() {
                    held.by_audience.remove(&entry.audience);
                }
            }
            if held.by_audience.is_empty() {
                self.resources.remove(&entry.resource);
            }
        }
        true
    }
}
