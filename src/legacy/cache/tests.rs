//! The storage under its engine's interface: isolation, bounds, and answers that never end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use pingora::cache::lock::{CacheKeyLock as _, LockStatus, Locked};
use pingora::cache::trace::Span;
use pingora::cache::{CacheKey, CacheMeta, Storage};
use pingora::http::ResponseHeader;
use prometheus::IntGauge;
use proptest::prelude::*;

use super::Lock;
use super::admission::StoragePolicy;
use super::entry::describe;
use super::key::{Caller, Known, Lookup, Resource};
use super::recall::age;
use super::shelf::Shelf;
use super::storage::ShelfStorage;
use crate::resilience::SystemClock;

struct Room {
    shelf: Arc<Shelf>,
    storage: &'static ShelfStorage,
}

fn room(max_entries: usize, max_bytes: usize) -> Room {
    let gauge = || IntGauge::new("x", "x").unwrap();
    let shelf = Arc::new(Shelf::new(max_entries, max_bytes, gauge(), gauge()));
    Room { storage: Box::leak(Box::new(ShelfStorage(Arc::clone(&shelf)))), shelf }
}

fn policy(shared: bool, vary: &[&str]) -> StoragePolicy {
    StoragePolicy {
        lifetime: Duration::from_secs(60),
        age: Duration::ZERO,
        stale_while_revalidate: 0,
        stale_if_error: 0,
        stale_if_disconnected: 0,
        never_stale: false,
        shared,
        without: vec![],
        vary: vary.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

fn meta(policy: StoragePolicy, length: Option<usize>) -> CacheMeta {
    let mut header = ResponseHeader::build(200, None).unwrap();
    if let Some(length) = length {
        header.insert_header("Content-Length", length).unwrap();
    }
    describe(&Arc::new(policy), SystemClock::moment(), header)
}

fn key(user: &str, target: &str, language: &str) -> CacheKey {
    let mut request = HeaderMap::new();
    request.insert("accept-language", language.parse().unwrap());
    let lookup = Lookup {
        resource: Resource::new("svc", target),
        caller: Caller::of_session("issuer", user),
        origin: "http://edge".into(),
        request,
        asked: Instant::now(),
        fault: super::flight::FaultCell::default(),
        alone: AtomicBool::default(),
    };
    Arc::new(lookup).key(&Known::default())
}

impl Room {
    async fn store(&self, key: &CacheKey, policy: StoragePolicy, body: &[u8]) -> bool {
        let span = Span::inactive().handle();
        let meta = meta(policy, Some(body.len()));
        let Ok(mut fill) = self.storage.get_miss_handler(key, &meta, &span).await else { return false };
        fill.write_body(Bytes::copy_from_slice(body), true).await.is_ok() && fill.finish().await.is_ok()
    }

    async fn read(&self, key: &CacheKey) -> Option<Vec<u8>> {
        let (_, mut hit) = self.storage.lookup(key, &Span::inactive().handle()).await.unwrap()?;
        let mut body = Vec::new();
        while let Some(part) = hit.read_body().await.unwrap() {
            body.extend_from_slice(&part);
        }
        Some(body)
    }
}

#[tokio::test]
async fn a_callers_answer_is_theirs_and_a_public_one_everybodys() {
    let room = room(100, 1 << 20);
    assert!(room.store(&key("ada", "/x", ""), policy(false, &[]), b"ada's").await);
    assert_eq!(room.read(&key("ada", "/x", "")).await.as_deref(), Some(&b"ada's"[..]));
    assert_eq!(room.read(&key("bob", "/x", "")).await, None);
    assert!(room.store(&key("bob", "/x", ""), policy(true, &[]), b"all").await);
    assert_eq!(room.read(&key("cyd", "/x", "")).await.as_deref(), Some(&b"all"[..]));
    assert_eq!(room.read(&key("ada", "/x", "")).await.as_deref(), Some(&b"all"[..]), "the most recent one counts");
    assert!(room.store(&key("bob", "/x", ""), policy(false, &[]), b"bob's").await);
    assert_eq!(room.read(&key("cyd", "/x", "")).await, None, "it is no longer public");
}

#[tokio::test]
async fn many_that_serve_only_who_asked_drive_nothing_out() {
    let room = room(100, 4096);
    assert!(room.store(&key("ada", "/x", ""), policy(true, &[]), &[0; 1500]).await);
    let alone = key("ada", "/y", "");
    alone.extensions.get::<Arc<Lookup>>().unwrap().alone.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(!room.store(&alone, policy(true, &[]), &[0; 1500]).await);
    assert!(room.read(&key("ada", "/x", "")).await.is_some());
}

/// The engine gives the lock of a stale answer to a copy of its request, by whose time others may know more of the resource.
#[test]
fn a_lock_that_is_released_under_another_key_holds_nobody_up() {
    let lock = Lock::default();
    let then = key("ada", "/x", "en");
    let now = then.extensions.get::<Arc<Lookup>>().unwrap().key(&Known { shared: true, ..Known::default() });
    for _ in 0..2 {
        let Locked::Write(permit) = lock.lock(&then, true) else { panic!("nobody is at it") };
        assert!(!lock.lock(&then, true).is_write(), "somebody is at it");
        lock.release(&now, permit, LockStatus::Done);
    }
}

#[tokio::test]
async fn what_is_taken_back_uncovers_nothing_older() {
    let room = room(100, 1 << 20);
    let (ada, bob) = (key("ada", "/x", ""), key("bob", "/x", ""));
    assert!(room.store(&bob, policy(false, &[]), b"bob's").await);
    assert!(room.store(&ada, policy(true, &[]), b"all").await);
    assert_eq!(room.read(&bob).await.as_deref(), Some(&b"all"[..]));
    let of_bob = bob.extensions.get::<Arc<Lookup>>().unwrap();
    room.shelf.take_back(of_bob, false);
    assert_eq!(room.read(&bob).await.as_deref(), Some(&b"all"[..]), "it is not for bob to take from everybody");
    room.shelf.take_back(of_bob, true);
    assert_eq!((room.read(&bob).await, room.read(&ada).await), (None, None));
    assert_eq!(room.shelf.size(), (0, 0));
}

#[tokio::test]
async fn selecting_fields_choose_among_variants() {
    let room = room(100, 1 << 20);
    for language in ["en", "de"] {
        assert!(room.store(&key("ada", "/x", language), policy(true, &["accept-language"]), language.as_bytes()).await);
    }
    assert_eq!(room.read(&key("bob", "/x", "en")).await.as_deref(), Some(&b"en"[..]));
    assert_eq!(room.read(&key("bob", "/x", "de")).await.as_deref(), Some(&b"de"[..]));
    assert_eq!(room.read(&key("bob", "/x", "fr")).await, None);
    for number in 0..100 {
        room.store(&key("ada", "/x", &format!("l{number}")), policy(true, &["accept-language"]), b"x").await;
    }
    assert!(room.shelf.size().0 <= 33, "variants of one resource are bounded: {:?}", room.shelf.size());
}

#[tokio::test]
async fn a_truncated_or_abandoned_answer_is_not_kept() {
    let room = room(100, 1 << 20);
    let (ada, span) = (key("ada", "/x", ""), Span::inactive().handle());
    let mut fill = room.storage.get_miss_handler(&ada, &meta(policy(true, &[]), Some(10)), &span).await.unwrap();
    fill.write_body(Bytes::from_static(b"half"), false).await.unwrap();
    assert!(fill.finish().await.is_err());
    let mut fill = room.storage.get_miss_handler(&ada, &meta(policy(true, &[]), None), &span).await.unwrap();
    fill.write_body(Bytes::from_static(b"half"), false).await.unwrap();
    assert_eq!(room.read(&ada).await, None, "nobody reads what is not complete");
    drop(fill);
    assert_eq!((room.read(&ada).await, room.shelf.size()), (None, (0, 0)));
}

#[tokio::test]
async fn what_was_asked_before_an_invalidation_is_not_kept() {
    let room = room(100, 1 << 20);
    let (ada, span) = (key("ada", "/x", ""), Span::inactive().handle());
    room.store(&ada, policy(false, &[]), b"old").await;
    room.store(&key("bob", "/x", ""), policy(false, &[]), b"old").await;
    let (found, _) = room.storage.lookup(&ada, &span).await.unwrap().unwrap();
    let fill = room.storage.get_miss_handler(&ada, &meta(policy(true, &[]), None), &span).await.unwrap();
    room.shelf.invalidate(&Resource::new("svc", "/x"));
    fill.finish().await.unwrap();
    assert_eq!(room.read(&ada).await, None);
    assert_eq!(room.read(&key("bob", "/x", "")).await, None, "for every caller");
    assert!(!room.storage.update_meta(&ada, &found, &span).await.unwrap(), "no panic, no resurrection");
    room.store(&key("ada", "/x", ""), policy(false, &[]), b"new").await;
    assert_eq!(room.read(&ada).await.as_deref(), Some(&b"new"[..]), "what is asked later is");
}

#[tokio::test]
async fn an_answer_evicted_while_it_is_validated_or_read_harms_nobody() {
    let room = room(1, 1 << 20);
    let (ada, span) = (key("ada", "/x", ""), Span::inactive().handle());
    room.store(&ada, policy(false, &[]), b"long body").await;
    let (found, mut hit) = room.storage.lookup(&ada, &span).await.unwrap().unwrap();
    room.store(&key("ada", "/y", ""), policy(false, &[]), b"other").await;
    assert!(!room.storage.update_meta(&ada, &found, &span).await.unwrap());
    assert_eq!(hit.read_body().await.unwrap().as_deref(), Some(&b"long body"[..]));
}

#[tokio::test]
async fn an_update_keeps_the_body_and_may_change_the_audience() {
    let room = room(10, 1 << 20);
    let (ada, span) = (key("ada", "/x", ""), Span::inactive().handle());
    room.store(&ada, policy(true, &[]), b"body").await;
    let (found, _) = room.storage.lookup(&ada, &span).await.unwrap().unwrap();
    let mut fresh = meta(policy(false, &[]), Some(4));
    fresh.extensions_mut().insert(*found.extensions().get::<super::entry::EntryId>().unwrap());
    assert!(room.storage.update_meta(&ada, &fresh, &span).await.unwrap());
    assert_eq!(room.read(&ada).await.as_deref(), Some(&b"body"[..]));
    assert_eq!(room.read(&key("bob", "/x", "")).await, None);
    assert_eq!(room.shelf.size().0, 1);
}

#[test]
fn what_a_clock_that_was_put_back_made_younger_is_of_no_known_age() {
    let ahead = |span: Duration| age(SystemClock::moment() + span);
    assert!(ahead(Duration::ZERO).is_some_and(|age| age < Duration::from_secs(1)));
    assert_eq!(ahead(Duration::from_secs(1)), Some(Duration::ZERO), "clocks are set right by so much");
    assert_eq!(ahead(Duration::from_secs(3600)), None);
}

#[tokio::test]
async fn parts_are_cut_from_the_stored_body() {
    let room = room(10, 1 << 20);
    let (ada, span) = (key("ada", "/x", ""), Span::inactive().handle());
    room.store(&ada, policy(true, &[]), b"0123456789").await;
    let (_, mut hit) = room.storage.lookup(&ada, &span).await.unwrap().unwrap();
    for (start, end, part) in [(2, Some(5), "234"), (8, None, "89"), (0, Some(99), "0123456789")] {
        hit.seek(start, end).unwrap();
        assert_eq!(hit.read_body().await.unwrap().as_deref(), Some(part.as_bytes()));
        assert_eq!(hit.read_body().await.unwrap(), None);
    }
    assert!(hit.seek(10, None).is_err());
}

#[tokio::test]
async fn a_stored_body_leaves_in_pieces() {
    let room = room(10, 1 << 20);
    let (ada, span) = (key("ada", "/x", ""), Span::inactive().handle());
    let body: Vec<u8> = (0..=255).cycle().take(150_000).collect();
    assert!(room.store(&ada, policy(true, &[]), &body).await);
    let (_, mut hit) = room.storage.lookup(&ada, &span).await.unwrap().unwrap();
    for (start, end, pieces) in [(0, None, 3), (100, Some(65_636), 1), (100, Some(65_637), 2)] {
        hit.seek(start, end).unwrap();
        let mut read = Vec::new();
        for _ in 0..pieces {
            let piece = hit.read_body().await.unwrap().unwrap();
            assert!(piece.len() <= 65_536);
            read.extend_from_slice(&piece);
        }
        assert_eq!((hit.read_body().await.unwrap(), read), (None, body[start..end.unwrap_or(body.len())].to_vec()));
    }
}

#[tokio::test]
async fn memory_stays_inside_its_bounds_while_many_urls_pass() {
    let room = room(1_000_000, 1 << 20);
    let urls = std::env::var("CACHE_TEST_URLS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    for number in 0..urls {
        assert!(room.store(&key("ada", &format!("/{number}"), ""), policy(true, &[]), &[7; 200]).await);
        assert!(room.shelf.size().1 <= 1 << 20);
    }
    let (entries, bytes) = room.shelf.size();
    assert!(entries > 500 && bytes > 1 << 19, "{entries} {bytes}");
    assert!(!room.store(&key("ada", "/big", ""), policy(true, &[]), &vec![0; 2 << 20]).await);
    assert!(room.store(&key("ada", "/small", ""), policy(true, &[]), b"x").await);
}

#[tokio::test]
async fn the_least_recently_used_goes_first() {
    let room = room(2, 1 << 20);
    for target in ["/a", "/b"] {
        room.store(&key("ada", target, ""), policy(true, &[]), b"x").await;
    }
    assert!(room.read(&key("ada", "/a", "")).await.is_some());
    room.store(&key("ada", "/c", ""), policy(true, &[]), b"x").await;
    assert!(room.read(&key("ada", "/a", "")).await.is_some());
    assert!(room.read(&key("ada", "/b", "")).await.is_none());
}

proptest! {
    /// Whatever happens: nobody reads a private answer of somebody else, and the books balance.
    #[test]
    fn isolation_and_bounds_hold_under_any_history(
        steps in proptest::collection::vec((0..4u8, 0..3usize, 0..3usize, 0..2usize, any::<bool>()), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let room = room(5, 8000);
        runtime.block_on(async {
            for (what, user, target, language, shared) in steps {
                let (user, target, language) =
                    (["ada", "bob", "cyd"][user], ["/x", "/y", "/z"][target], ["en", "de"][language]);
                let key = key(user, target, language);
                match what {
                    0 | 1 => {
                        let owner = if shared { "everybody" } else { user };
                        let body = format!("{owner} {target} {language}");
                        room.store(&key, policy(shared, &["accept-language"]), body.as_bytes()).await;
                    }
                    2 => room.shelf.invalidate(&Resource::new("svc", target)),
                    _ => if let Some(body) = room.read(&key).await {
                        let body = String::from_utf8(body).unwrap();
                        let mine = [format!("{user} {target} {language}"), format!("everybody {target} {language}")];
                        assert!(mine.contains(&body), "{user} asked for {target} in {language} and got {body}");
                    },
                }
                let (entries, bytes) = room.shelf.size();
                assert!(entries <= 5 && bytes <= 8000, "{entries} {bytes}");
            }
        });
        for target in ["/x", "/y", "/z"] {
            room.shelf.invalidate(&Resource::new("svc", target));
        }
        prop_assert_eq!(room.shelf.size(), (0, 0));
    }
}
