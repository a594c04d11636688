//! One stored answer. Immutable: an update makes another.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use pingora::cache::CacheMeta;
use pingora::http::ResponseHeader;

use super::admission::StoragePolicy;
use super::fields;
use super::key::{Audience, Lookup, Resource, selection};

/// Bookkeeping around one entry, bytes, roughly.
const OVERHEAD: usize = 640;

/// Fields that an answer gets each time it is told (`Recall::add_cache_headers`, the correlation id): with room for their
/// names in what is stored, no hit builds the index of its copy anew.
const TOLD: usize = 5;

/// Names an entry for the time between a look-up and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryId(pub(super) u64);

/// A complete answer and the requests it may answer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) resource: Resource,
    pub(super) audience: Audience,
    pub(super) origin: Box<str>,
    vary: Vec<HeaderName>,
    selection: Vec<u8>,
    pub(super) header: ResponseHeader,
    pub(super) body: Bytes,
    pub(super) policy: Arc<StoragePolicy>,
    /// When an answer of age zero would have been made.
    pub(super) epoch: SystemTime,
    pub(super) weight: usize,
    /// Place in the order of use; written under the shelf's lock.
    pub(super) used: AtomicU64,
}

impl Entry {
    pub(super) fn new(
        id: EntryId,
        lookup: &Lookup,
        meta: &CacheMeta,
        policy: &Arc<StoragePolicy>,
        body: Bytes,
    ) -> Self {
        let header = detached(meta.response_header());
        let selection = selection(&lookup.request, &policy.vary);
        let selectors: usize = policy.vary.iter().map(|name| name.as_str().len() + 32).sum();
        let weight = OVERHEAD
            + body.len()
            + fields::weight(&header.headers)
            + lookup.resource.weight()
            + lookup.origin.len()
            + selection.len()
            + selectors;
        let audience = if policy.shared { Audience::Everybody } else { Audience::Only(lookup.caller.clone()) };
        Self {
            id,
            resource: lookup.resource.clone(),
            audience,
            origin: lookup.origin.clone(),
            vary: policy.vary.clone(),
            selection,
            header,
            body,
            policy: Arc::clone(policy),
            epoch: meta.epoch(),
            weight,
            used: AtomicU64::new(0),
        }
    }

    /// RFC 9111 §4: same resource (given), visible to this caller, same selecting fields.
    pub(super) fn answers(&self, lookup: &Lookup) -> bool {
        let visible = match &self.audience {
            Audience::Everybody => true,
            Audience::Only(caller) => *caller == lookup.caller,
        };
        visible && self.origin == lookup.origin && self.selection == selection(&lookup.request, &self.vary)
    }

    pub(super) fn vary(&self) -> &[HeaderName] {
        &self.vary
    }

    /// As the engine wants to see it.
    pub(super) fn meta(&self) -> CacheMeta {
        let mut meta = describe(&self.policy, self.epoch, self.header.clone());
        meta.extensions_mut().insert(self.id);
        meta
    }
}

/// A copy that stands by itself: each value of what came over the wire is a window into the buffer that the head
/// was read into, and would keep some kilobytes alive. Spelling goes with it: names compare without (RFC 9110 §5.1).
fn detached(header: &ResponseHeader) -> ResponseHeader {
    let mut headers = HeaderMap::try_with_capacity(header.headers.len() + TOLD).unwrap_or_default();
    for (name, value) in &header.headers {
        // The bytes are those of a value, so this cannot fail; a field is not worth a panic in any case.
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(name.clone(), copy);
        }
    }
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (header.status, header.version, headers);
    ResponseHeader::from(parts)
}

/// The engine's description of an answer that is stored so.
pub(super) fn describe(policy: &Arc<StoragePolicy>, epoch: SystemTime, header: ResponseHeader) -> CacheMeta {
    // The engine calls an answer fresh up to and including `fresh_until`; RFC 9111 §4.2 up to the moment before.
    let end = epoch.checked_add(policy.lifetime).unwrap_or(epoch);
    let fresh_until = end.checked_sub(Duration::from_nanos(1)).unwrap_or(end);
    let stale_if_error = policy.stale_if_error.max(policy.stale_if_disconnected);
    let mut meta = CacheMeta::new(fresh_until, epoch, policy.stale_while_revalidate, stale_if_error, header);
    meta.set_epoch_override(epoch);
    meta.extensions_mut().insert(Arc::clone(policy));
    meta
}
