//! The one contract that every session store keeps, and what SQLite promises beyond it. What Redis
//! promises beyond it is in `redis.rs`.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use pingora_bff::resilience::{Rate, UnixTime};
use pingora_bff::session::SessionKey;
use pingora_bff::session::store::{MemoryStore, Record, Saved, Selector, SessionStore, SqliteStore};

use crate::harness::{Cluster, Redis, Sentinels, redis_store};

type Store = Arc<dyn SessionStore>;

const NOW: UnixTime = UnixTime(10_000);
const SPAN: Duration = Duration::from_secs(10);
const ONE: Duration = Duration::from_secs(1);

fn key(number: u8) -> SessionKey {
    SessionKey([number; 32])
}

fn record(version: u64, subject: &str) -> Record {
    Record {
        version,
        issuer: "https://idp.example".to_owned(),
        subject: subject.to_owned(),
        idp_session: Some(format!("sid-{subject}")),
        created_at: NOW,
        expires_at: UnixTime(10_100),
        ends_at: UnixTime(11_000),
        sealed: vec![0, 255, 7, b'\'', 0],
    }
}

fn subject(name: &str) -> Selector {
    Selector::Subject { issuer: "https://idp.example".to_owned(), subject: name.to_owned() }
}

fn idp_session(sid: &str) -> Selector {
    Selector::IdpSession { issuer: "https://idp.example".to_owned(), sid: sid.to_owned() }
}

fn sqlite(path: &Path) -> Store {
    Arc::new(SqliteStore::open(path).unwrap())
}

/// Runs one promise against every store.
async fn every_store<F: Future<Output = ()>>(promise: impl Fn(Store) -> F) {
    promise(Arc::new(MemoryStore::new())).await;
    let folder = tempfile::tempdir().unwrap();
    promise(sqlite(&folder.path().join("new/folder/sessions.db"))).await;
    for url in [REDIS.url(), SENTINELS.url(), CLUSTER.url()] {
        // Shown where the promise is broken.
        println!("on {url}");
        promise(Arc::new(redis_store(&url))).await;
    }
}

// Started once for all promises; they end with this process.
static REDIS: LazyLock<Redis> = LazyLock::new(|| Redis::start(""));
static SENTINELS: LazyLock<Sentinels> = LazyLock::new(Sentinels::start);
static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(false));

#[tokio::test]
async fn what_is_inserted_is_loaded_whole() {
    every_store(|store| async move {
        assert_eq!(store.load(&key(1), NOW).await.unwrap(), None);
        store.insert(&key(1), record(1, "ada")).await.unwrap();
        let unnamed = Record { idp_session: None, sealed: Vec::new(), ..record(7, "") };
        store.insert(&key(2), unnamed.clone()).await.unwrap();
        assert_eq!(store.load(&key(1), NOW).await.unwrap(), Some(record(1, "ada")));
        assert_eq!(store.load(&key(2), NOW).await.unwrap(), Some(unnamed));
        assert_eq!(store.load(&key(3), NOW).await.unwrap(), None);
        assert!(store.insert(&key(1), record(1, "eve")).await.is_err(), "a key is taken once");
        assert_eq!(store.load(&key(1), NOW).await.unwrap(), Some(record(1, "ada")));
        store.ping().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn save_compares_and_leaves_the_sliding_end() {
    every_store(|store| async move {
        store.insert(&key(1), record(1, "ada")).await.unwrap();
        store.touch(&key(1), UnixTime(10_200)).await.unwrap();
        let second = Record { sealed: b"second".to_vec(), expires_at: UnixTime(1), ..record(2, "ada") };
        assert_eq!(store.save(&key(1), second.clone(), 1).await.unwrap(), Saved::Yes);
        assert_eq!(store.save(&key(1), record(2, "ada"), 1).await.unwrap(), Saved::Conflict);
        let expected = Record { expires_at: UnixTime(10_200), ..second };
        assert_eq!(store.load(&key(1), NOW).await.unwrap(), Some(expected));
        assert_eq!(store.save(&key(2), record(2, "ada"), 1).await.unwrap(), Saved::Gone);
        store.delete(&key(1)).await.unwrap();
        assert_eq!(store.save(&key(1), record(3, "ada"), 2).await.unwrap(), Saved::Gone);
        assert_eq!(store.load(&key(1), NOW).await.unwrap(), None, "an ended session stays ended");
    })
    .await;
}

#[tokio::test]
async fn a_persons_sessions_are_found_in_the_order_they_came() {
    every_store(|store| async move {
        // Of one second, and named without order.
        let names: Vec<u8> = (0..30).map(|number| number * 7 % 31 + 100).collect();
        for name in &names {
            store.insert(&key(*name), record(1, "in-turn")).await.unwrap();
        }
        assert_eq!(store.save(&key(names[3]), record(2, "in-turn"), 1).await.unwrap(), Saved::Yes);
        store.touch(&key(names[5]), UnixTime(10_200)).await.unwrap();
        for selector in [subject("in-turn"), idp_session("sid-in-turn")] {
            let found = store.find(&selector, NOW).await.unwrap();
            assert_eq!(found.iter().map(|key| key.0[0]).collect::<Vec<_>>(), names);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_saves_of_one_version_one_is_written() {
    every_store(|store| async move {
        store.insert(&key(1), record(1, "ada")).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..100_u8 {
            let store = Arc::clone(&store);
            let next = Record { sealed: vec![number], ..record(2, "ada") };
            tasks.spawn(async move { (number, store.save(&key(1), next, 1).await.unwrap()) });
        }
        let outcomes = tasks.join_all().await;
        let winners: Vec<u8> =
            outcomes.iter().filter(|(_, saved)| *saved == Saved::Yes).map(|(number, _)| *number).collect();
        assert_eq!(winners.len(), 1);
        assert!(outcomes.iter().all(|(_, saved)| *saved != Saved::Gone));
        assert_eq!(store.load(&key(1), NOW).await.unwrap().unwrap().sealed, winners);
    })
    .await;
}

#[tokio::test]
async fn nothing_expired_is_ever_returned() {
    every_store(|store| async move {
        store.insert(&key(1), record(1, "ada")).await.unwrap();
        let absolute = Record { expires_at: UnixTime(99_999), ends_at: UnixTime(10_050), ..record(1, "ada") };
        store.insert(&key(2), absolute).await.unwrap();
        let find = |now| {
            let store = Arc::clone(&store);
            async move { store.find(&subject("ada"), UnixTime(now)).await.unwrap().len() }
        };
        assert_eq!((find(10_049).await, store.count(UnixTime(10_049)).await.unwrap()), (2, 2));
        assert!(store.load(&key(2), UnixTime(10_049)).await.unwrap().is_some());
        assert_eq!(store.load(&key(2), UnixTime(10_050)).await.unwrap(), None);
        assert_eq!((find(10_050).await, store.count(UnixTime(10_050)).await.unwrap()), (1, 1));
        assert_eq!(store.load(&key(1), UnixTime(10_100)).await.unwrap(), None);
        assert_eq!((find(10_100).await, store.count(UnixTime(10_100)).await.unwrap()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn touch_moves_forward_and_not_beyond_the_absolute_end() {
    every_store(|store| async move {
        store.insert(&key(1), record(1, "ada")).await.unwrap();
        for (asked, kept) in [(10_300, 10_300), (10_200, 10_300), (99_999, 11_000)] {
            assert!(store.touch(&key(1), UnixTime(asked)).await.unwrap());
            assert_eq!(store.load(&key(1), NOW).await.unwrap().unwrap().expires_at, UnixTime(kept));
        }
        assert!(!store.touch(&key(2), UnixTime(10_300)).await.unwrap());
        assert_eq!(store.load(&key(2), NOW).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn sessions_are_found_by_person_and_by_login() {
    every_store(|store| async move {
        store.insert(&key(1), record(1, "ada")).await.unwrap();
        store.insert(&key(2), record(1, "ada")).await.unwrap();
        store.insert(&key(3), record(1, "bob")).await.unwrap();
        let elsewhere = Record { issuer: "https://other.example".to_owned(), ..record(1, "ada") };
        store.insert(&key(4), elsewhere).await.unwrap();
        store.insert(&key(5), Record { idp_session: None, ..record(1, "ada") }).await.unwrap();
        let found = |selector: Selector| {
            let store = Arc::clone(&store);
            async move { store.find(&selector, NOW).await.unwrap().iter().map(|key| key.0[0]).collect::<BTreeSet<_>>() }
        };
        assert_eq!(found(subject("ada")).await, BTreeSet::from([1, 2, 5]));
        assert_eq!(found(idp_session("sid-ada")).await, BTreeSet::from([1, 2]));
        assert_eq!(found(subject("' OR 1=1 --")).await, BTreeSet::new());
        assert_eq!(store.delete(&key(1)).await.unwrap(), Some(record(1, "ada")));
        assert_eq!(store.delete(&key(1)).await.unwrap(), None);
        assert_eq!(found(subject("ada")).await, BTreeSet::from([2, 5]));
        // A save may learn of another login at the provider.
        let moved = Record { idp_session: Some("sid-new".to_owned()), ..record(2, "ada") };
        store.save(&key(2), moved, 1).await.unwrap();
        assert_eq!(found(idp_session("sid-ada")).await, BTreeSet::new());
        assert_eq!(found(idp_session("sid-new")).await, BTreeSet::from([2]));
    })
    .await;
}

#[tokio::test]
async fn sweep_removes_what_is_over_and_nothing_else() {
    every_store(|store| async move {
        for number in 0..4 {
            let expires_at = UnixTime(10_100 + i64::from(number) * 10);
            store.insert(&key(number), Record { expires_at, ..record(1, "ada") }).await.unwrap();
        }
        store.put_note("old", b"x".to_vec(), UnixTime(10_010), NOW).await.unwrap();
        store.put_note("new", b"y".to_vec(), UnixTime(10_500), NOW).await.unwrap();
        assert_eq!(store.sweep(UnixTime(10_110)).await.unwrap(), 2);
        assert_eq!(store.sweep(UnixTime(10_110)).await.unwrap(), 0);
        assert_eq!(store.count(NOW).await.unwrap(), 2);
        assert!(!store.touch(&key(0), UnixTime(10_900)).await.unwrap());
        assert_eq!(store.take_note("new", NOW).await.unwrap(), Some(b"y".to_vec()));
        assert_eq!(store.take_note("old", UnixTime(10_110)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_taken_once() {
    every_store(|store| async move {
        assert!(store.put_note("flow", b"first".to_vec(), UnixTime(10_600), NOW).await.unwrap());
        assert!(!store.put_note("flow", b"second".to_vec(), UnixTime(10_600), NOW).await.unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let store = Arc::clone(&store);
            tasks.spawn(async move { store.take_note("flow", NOW).await.unwrap() });
        }
        let taken: Vec<Vec<u8>> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(taken, [b"first".to_vec()]);
        assert!(store.put_note("flow", b"third".to_vec(), UnixTime(10_600), NOW).await.unwrap());
        assert_eq!(store.take_note("flow", UnixTime(10_600)).await.unwrap(), None, "too late");
        assert!(store.put_note("gone", b"x".to_vec(), UnixTime(10_010), NOW).await.unwrap());
        assert!(store.put_note("gone", b"y".to_vec(), UnixTime(10_600), UnixTime(10_010)).await.unwrap());
        assert_eq!(store.take_note("gone", UnixTime(10_011)).await.unwrap(), Some(b"y".to_vec()));
    })
    .await;
}

#[tokio::test]
async fn a_lease_has_one_holder_and_a_growing_number() {
    // A shared store counts the span by its own clock: that time passes for real.
    let later = || async {
        tokio::time::sleep(Duration::from_millis(600)).await;
    };
    every_store(|store| async move {
        let first = store.lease("a", "one", ONE, NOW).await.unwrap().unwrap();
        assert_eq!(store.lease("a", "two", ONE, NOW).await.unwrap(), None);
        assert!(store.lease("b", "two", ONE, NOW).await.unwrap().is_some());
        later().await;
        let renewed = store.lease("a", "one", ONE, UnixTime(10_001)).await.unwrap().unwrap();
        assert!(renewed > first);
        later().await;
        assert_eq!(store.lease("a", "two", ONE, UnixTime(10_001)).await.unwrap(), None, "renewed");
        later().await;
        let over = store.lease("a", "two", SPAN, UnixTime(10_002)).await.unwrap().unwrap();
        assert!(over > renewed);
        store.release("a", "one").await.unwrap();
        assert_eq!(store.lease("a", "one", ONE, UnixTime(10_003)).await.unwrap(), None, "not ours to give back");
        store.release("a", "two").await.unwrap();
        let next = store.lease("a", "one", ONE, UnixTime(10_003)).await.unwrap().unwrap();
        store.sweep(UnixTime(20_000)).await.unwrap();
        let after_sweep = store.lease("a", "one", ONE, UnixTime(20_000)).await.unwrap().unwrap();
        assert!(over < next && next < after_sweep);
    })
    .await;
}

#[tokio::test]
async fn a_note_that_is_set_is_read_as_often_as_wanted() {
    every_store(|store| async move {
        assert_eq!(store.read_note("token:a", NOW).await.unwrap(), None);
        store.set_note("token:a", b"1:first\0".to_vec(), UnixTime(10_600), NOW).await.unwrap();
        for _ in 0..2 {
            assert_eq!(store.read_note("token:a", UnixTime(10_599)).await.unwrap(), Some(b"1:first\0".to_vec()));
        }
        store.set_note("token:a", b"second".to_vec(), UnixTime(10_700), NOW).await.unwrap();
        assert_eq!(store.read_note("token:a", UnixTime(10_699)).await.unwrap(), Some(b"second".to_vec()));
        assert_eq!(store.read_note("token:a", UnixTime(10_700)).await.unwrap(), None, "over");
        assert_eq!(store.read_note("token:b", NOW).await.unwrap(), None);
        assert!(!store.put_note("token:a", b"third".to_vec(), UnixTime(10_700), NOW).await.unwrap());
        assert_eq!(store.take_note("token:a", NOW).await.unwrap(), Some(b"second".to_vec()));
        assert_eq!(store.read_note("token:a", NOW).await.unwrap(), None);
    })
    .await;
}

/// A store for many machines counts by its own clock, and each name apart; the others leave it to us.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_once_for_all_who_share_the_store() {
    every_store(|store| async move {
        let window = Rate { requests: 40, period: Duration::from_secs(600), burst: None };
        if store.count_request("rate:a", &window).await.unwrap().is_none() {
            return;
        }
        let bucket = Rate { requests: 1, period: Duration::from_secs(600), burst: Some(40) };
        for (name, rate, before) in [("rate:a", window, 1), ("rate:b", bucket, 0)] {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let store = Arc::clone(&store);
                tasks.spawn(async move { store.count_request(name, &rate).await.unwrap().unwrap() });
            }
            let seen = tasks.join_all().await;
            let welcome: Vec<u32> = seen.iter().filter(|one| one.refused.is_none()).map(|one| one.remaining).collect();
            let left: BTreeSet<u32> = (0..40 - before).collect();
            assert_eq!(welcome.iter().copied().collect::<BTreeSet<_>>(), left, "each place is given once");
            assert_eq!(welcome.len(), left.len());
            let waits = seen.iter().filter_map(|one| one.refused);
            assert!(waits.clone().count() > 0);
            assert!(waits.clone().all(|wait| (500..=600).contains(&wait.as_secs())), "{:?}", waits.collect::<Vec<_>>());
        }
        let short = Rate { requests: 2, period: Duration::from_millis(400), burst: None };
        let mut admitted = 0;
        while admitted < 6 {
            let standing = store.count_request("rate:c", &short).await.unwrap().unwrap();
            match standing.refused {
                None => admitted += 1,
                Some(wait) => {
                    tokio::time::sleep(wait).await;
                    let again = store.count_request("rate:c", &short).await.unwrap().unwrap();
                    assert_eq!(again.refused, None, "who comes back when told is welcome");
                    admitted += 1;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn our_own_writes_are_not_changes_elsewhere() {
    every_store(|store| async move {
        store.insert(&key(1), record(1, "ada")).await.unwrap();
        store.delete(&key(1)).await.unwrap();
        assert!(!store.changed_elsewhere().await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn sqlite_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let killed = sqlite(&path);
    killed.insert(&key(1), record(1, "ada")).await.unwrap();
    let fence = killed.lease("a", "one", SPAN, NOW).await.unwrap().unwrap();
    // Never closed, as after kill -9: the file is read as it lies there, journal included.
    std::mem::forget(killed);
    let copy = folder.path().join("copy.db");
    for suffix in ["", "-wal"] {
        let (from, to) = (format!("{}{suffix}", path.display()), format!("{}{suffix}", copy.display()));
        std::fs::copy(from, to).unwrap();
    }
    for path in [path, copy] {
        let reopened = sqlite(&path);
        assert_eq!(reopened.load(&key(1), NOW).await.unwrap(), Some(record(1, "ada")));
        assert!(reopened.lease("a", "two", SPAN, UnixTime(10_010)).await.unwrap().unwrap() > fence);
    }
}

#[tokio::test]
async fn two_processes_see_each_others_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let (one, two) = (sqlite(&path), sqlite(&path));
    one.insert(&key(1), record(1, "ada")).await.unwrap();
    assert!(two.changed_elsewhere().await.unwrap());
    assert!(!two.changed_elsewhere().await.unwrap());
    assert!(!one.changed_elsewhere().await.unwrap());
    assert_eq!(two.save(&key(1), record(2, "ada"), 1).await.unwrap(), Saved::Yes);
    assert_eq!(one.save(&key(1), record(2, "ada"), 1).await.unwrap(), Saved::Conflict);
    assert!(one.lease("a", "one", SPAN, NOW).await.unwrap().is_some());
    assert_eq!(two.lease("a", "two", SPAN, NOW).await.unwrap(), None);
    two.delete(&key(1)).await.unwrap();
    assert!(one.changed_elsewhere().await.unwrap());
    assert_eq!(one.load(&key(1), NOW).await.unwrap(), None);
}

#[tokio::test]
async fn sqlite_makes_its_file_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/sessions.db");
    let store = sqlite(&path);
    store.insert(&key(1), record(1, "ada")).await.unwrap();
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    std::fs::remove_file(&path).unwrap();
    assert!(store.ping().await.unwrap_err().reason.contains("removed"));
    assert!(store.insert(&key(2), record(1, "ada")).await.unwrap_err().reason.contains("removed"), "no login");
    let flow = store.put_note("flow", vec![1], UnixTime(10_100), NOW).await;
    assert!(flow.unwrap_err().reason.contains("removed"), "and none begun");
    assert_eq!(store.load(&key(1), NOW).await.unwrap(), Some(record(1, "ada")), "who is logged in goes on");
}

#[test]
fn sqlite_says_what_is_wrong_with_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let reason = |path: &Path| SqliteStore::open(path).unwrap_err().to_string();
    let newer = folder.path().join("newer.db");
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(reason(&newer).contains("newer.db") && reason(&newer).contains("newer version"), "{}", reason(&newer));
    let noise = folder.path().join("noise.db");
    std::fs::write(&noise, "x".repeat(5_000)).unwrap();
    assert!(reason(&noise).contains("not a database"), "{}", reason(&noise));
    assert!(reason(folder.path()).starts_with("session store sqlite: "));
    assert!(reason(&noise.join("below/a/file.db")).contains("file.db"));
}

#[tokio::test]
async fn a_locked_file_is_an_error_in_time_and_reads_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let store = sqlite(&path);
    store.insert(&key(1), record(1, "ada")).await.unwrap();
    let locker = rusqlite::Connection::open(&path).unwrap();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    assert!(store.insert(&key(2), record(1, "ada")).await.is_err());
    assert!(begun.elapsed() < Duration::from_millis(2_500));
    assert!(store.load(&key(1), NOW).await.unwrap().is_some());
    locker.execute_batch("ROLLBACK").unwrap();
    store.insert(&key(2), record(1, "ada")).await.unwrap();
}
