//! The room as a whole: over a store that can be held up, broken and counted.

mod change_feed;
mod claims;
mod handled;
mod live;
mod near;
mod shared;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use self::handled::Handled;
use super::store::{MemoryStore, Selector, SessionStore, SqliteStore};
use super::*;
use crate::config::{Secret, SessionConfig, StoreConfig};
use crate::resilience::{Clock, ManualClock, UnixTime};
use crate::telemetry::Metrics;

fn config(store: StoreConfig) -> SessionConfig {
    SessionConfig {
        store,
        lifetime: Duration::from_secs(100),
        max_lifetime: Duration::from_secs(1_000),
        ..SessionConfig::default()
    }
}

struct House {
    sessions: Arc<Sessions>,
    store: Arc<Handled>,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
}

fn house() -> House {
    house_with(config(StoreConfig::Memory))
}

#[allow(clippy::needless_pass_by_value, reason = "a configuration of the house's own")]
fn house_with(config: SessionConfig) -> House {
    let (store, clock) = (Arc::new(Handled::new()), Arc::new(ManualClock::at(10_000)));
    let metrics = Arc::new(Metrics::new().unwrap());
    let sessions = Sessions::new(
        Arc::clone(&store) as Arc<dyn SessionStore>,
        Sealer::open(&config).unwrap(),
        &config,
        Arc::clone(&clock) as Arc<dyn Clock>,
        Arc::clone(&metrics),
    );
    House { sessions: Arc::new(sessions), store, clock, metrics }
}

fn other_tokens(session: &Session) -> Tokens {
    Tokens { refresh_token: Some(Secret::new("rotated")), ..session.tokens.clone() }
}

fn refresh_token(session: &Session) -> &str {
    session.tokens.refresh_token.as_ref().unwrap().expose()
}

/// Waits for what a background task does.
async fn eventually(condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to be");
}

#[tokio::test]
async fn a_login_is_found_near_and_far() {
    let house = house();
    let (token, made) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let near = house.sessions.find(&token).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&near, &made));
    assert_eq!(house.store.loads.load(Ordering::SeqCst), 0);
    house.sessions.near.clear();
    let far = house.sessions.find(&token).await.unwrap().unwrap();
    assert_eq!((far.identity.clone(), far.version, far.ends_at), (made.identity.clone(), 1, UnixTime(11_000)));
    assert_eq!(refresh_token(&far), "refresh-token");
    let lookups = |tier, result| house.metrics.session_lookups.with_label_values(&[tier, result]).get();
    assert_eq!((lookups("near", "hit"), lookups("near", "miss"), lookups("store", "hit")), (1, 1, 1));
}

#[tokio::test]
async fn half_a_cookie_is_no_login() {
    let house = house();
    let (token, _) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let (mine, other) = (token.expose(), CookieToken::generate().unwrap().expose());
    // The id of the one, the key of the other; the session is close at hand and in the store.
    let half: String = mine.chars().take(24).chain(other.chars().skip(24)).collect();
    let forged = CookieToken::parse(half.as_bytes()).unwrap();
    assert_eq!(forged.session_key(), token.session_key());
    assert!(house.sessions.find(&forged).await.unwrap().is_none());
    house.sessions.near.clear();
    assert!(house.sessions.find(&forged).await.unwrap().is_none());
    assert!(house.sessions.find(&token).await.unwrap().is_some(), "a forged cookie ends nothing");
}

#[tokio::test]
async fn use_slides_the_end_and_the_absolute_end_stands() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    for _ in 0..4 {
        house.clock.advance(Duration::from_secs(1));
        assert!(house.sessions.find(&token).await.unwrap().is_some());
    }
    assert_eq!(session.expires_at(), UnixTime(10_104));
    assert_eq!(house.store.touches.load(Ordering::SeqCst), 0, "not told before a twentieth of the lifetime");
    for _ in 0..10 {
        house.clock.advance(Duration::from_secs(99));
        assert!(house.sessions.find(&token).await.unwrap().is_some());
    }
    eventually(|| house.store.touches.load(Ordering::SeqCst) == 10).await;
    assert_eq!(session.expires_at(), UnixTime(11_000));
    house.clock.advance(Duration::from_secs(6));
    assert!(house.sessions.find(&token).await.unwrap().is_none());
}

#[tokio::test]
async fn an_unused_session_is_over_before_anybody_sweeps() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.clock.advance(Duration::from_secs(100));
    assert!(house.sessions.find(&token).await.unwrap().is_none());
    assert!(house.sessions.reread(&session).await.unwrap().is_none());
    house.clock.advance(Duration::from_secs(10));
    house.sessions.sweep_round().await;
    assert_eq!(house.metrics.sessions_destroyed.with_label_values(&["expired"]).get(), 1);
    assert_eq!(house.metrics.sessions_active.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_takes_long_keeps_no_logout_from_being_heard_of() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.store.sweep_gate.forget_permits(1_000);
    let sessions = Arc::clone(&house.sessions);
    tokio::spawn(async move { sessions.keep_house().await });
    tokio::time::sleep(Sessions::WATCH * 2).await;
    house.store.inner.delete(&session.key).await.unwrap();
    house.store.changed.store(true, Ordering::SeqCst);
    tokio::time::sleep(Sessions::WATCH * 2).await;
    assert!(house.sessions.find(&token).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_store_did_not_take_is_told_again_though_nobody_comes() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.clock.advance(Duration::from_secs(90));
    house.store.down.store(true, Ordering::SeqCst);
    assert!(house.sessions.find(&token).await.unwrap().is_some(), "it is close at hand");
    eventually(|| house.store.touches.load(Ordering::SeqCst) == 1).await;
    house.store.down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let elsewhere = house.store.inner.load(&session.key, UnixTime(10_100)).await.unwrap();
    assert_eq!(
        elsewhere.map(|record| record.expires_at),
        Some(UnixTime(10_190)),
        "another replica would have ended it"
    );
}

#[tokio::test]
async fn what_the_store_was_not_told_yet_still_counts() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.clock.advance(Duration::from_secs(4));
    house.sessions.find(&token).await.unwrap().unwrap();
    house.clock.advance(Duration::from_secs(98));
    house.sessions.sweep_round().await;
    assert!(house.sessions.reread(&session).await.unwrap().is_some());
    let updated = house.sessions.update(&session, other_tokens(&session)).await.unwrap();
    assert!(matches!(updated, Updated::Saved(_)));
    assert!(house.sessions.find(&token).await.unwrap().is_some());
}

#[tokio::test]
async fn a_logout_finds_what_the_store_was_not_told_yet() {
    let house = house();
    let (token, _) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.clock.advance(Duration::from_secs(4));
    house.sessions.find(&token).await.unwrap().unwrap();
    house.clock.advance(Duration::from_secs(98));
    let person = Selector::Subject { issuer: "https://idp.example".to_owned(), subject: "ada".to_owned() };
    assert_eq!(house.sessions.end_all(&person, "logout_everywhere").await.unwrap(), 1);
    assert!(house.sessions.find(&token).await.unwrap().is_none());
}

#[tokio::test]
async fn of_two_writers_one_wins_and_the_other_reads() {
    let house = house();
    let (token, first) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let Updated::Saved(second) = house.sessions.update(&first, other_tokens(&first)).await.unwrap() else { panic!() };
    assert_eq!(second.version, 2);
    assert!(Arc::ptr_eq(&house.sessions.find(&token).await.unwrap().unwrap(), &second));
    let Updated::Conflict(theirs) = house.sessions.update(&first, first.tokens.clone()).await.unwrap() else {
        panic!()
    };
    assert_eq!((theirs.version, refresh_token(&theirs)), (2, "rotated"));
    house.sessions.near.clear();
    assert_eq!(refresh_token(&house.sessions.find(&token).await.unwrap().unwrap()), "rotated");
}

#[tokio::test]
async fn ended_is_ended() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    assert!(house.sessions.end(&session, "logout").await.unwrap());
    assert!(house.sessions.find(&token).await.unwrap().is_none());
    assert!(!house.sessions.end(&session, "logout").await.unwrap());
    assert!(matches!(house.sessions.update(&session, other_tokens(&session)).await.unwrap(), Updated::Gone));
    assert!(house.sessions.find(&token).await.unwrap().is_none());
    assert_eq!(house.metrics.sessions_destroyed.with_label_values(&["logout"]).get(), 1);
}

#[tokio::test]
async fn everywhere_means_one_persons_sessions() {
    let house = house();
    let mut adas = Vec::new();
    for _ in 0..3 {
        adas.push(house.sessions.create(NewSession::sample("ada")).await.unwrap().0);
    }
    let (bob, _) = house.sessions.create(NewSession::sample("bob")).await.unwrap();
    let ada = Selector::Subject { issuer: "https://idp.example".to_owned(), subject: "ada".to_owned() };
    assert_eq!(house.sessions.end_all(&ada, "logout").await.unwrap(), 3);
    for token in &adas {
        assert!(house.sessions.find(token).await.unwrap().is_none());
    }
    assert!(house.sessions.find(&bob).await.unwrap().is_some());
    assert_eq!(house.metrics.sessions_active.get(), 1);
}

#[tokio::test]
async fn a_lookup_under_way_does_not_bring_an_ended_session_back() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.sessions.near.clear();
    house.store.load_gate.forget_permits(1_000);
    let sessions = Arc::clone(&house.sessions);
    let asked = token.clone();
    let lookup = tokio::spawn(async move { sessions.find(&asked).await });
    eventually(|| house.store.loads.load(Ordering::SeqCst) == 1).await;
    house.sessions.end(&session, "logout").await.unwrap();
    house.store.load_gate.add_permits(1_000);
    assert!(lookup.await.unwrap().unwrap().is_none());
    assert!(house.sessions.near.get(&token).is_none());
}

#[tokio::test]
async fn an_update_under_way_does_not_bring_an_ended_session_back() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.store.save_gate.forget_permits(1_000);
    let (sessions, old) = (Arc::clone(&house.sessions), Arc::clone(&session));
    let update = tokio::spawn(async move { sessions.update(&old, other_tokens(&old)).await });
    eventually(|| house.store.saves.load(Ordering::SeqCst) == 1).await;
    house.sessions.end(&session, "logout").await.unwrap();
    house.store.save_gate.add_permits(1_000);
    update.await.unwrap().unwrap();
    assert!(house.sessions.near.get(&token).is_none());
    assert!(house.sessions.find(&token).await.unwrap().is_none());
}

#[tokio::test]
async fn a_logout_outlives_its_browser() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    {
        let mut ending = pin!(house.sessions.end(&session, "logout"));
        let begun = poll_fn(|context| Poll::Ready(ending.as_mut().poll(context).is_pending()));
        assert!(begun.await, "the browser hangs up while the store is being asked");
    }
    eventually(|| house.sessions.near.get(&token).is_none()).await;
    assert!(house.sessions.find(&token).await.unwrap().is_none());
}

#[tokio::test]
async fn a_store_that_is_down_is_not_a_logout() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.store.down.store(true, Ordering::SeqCst);
    assert!(house.sessions.find(&token).await.unwrap().is_some(), "close at hand");
    assert!(house.sessions.update(&session, other_tokens(&session)).await.is_err());
    assert!(house.sessions.ping().await.is_err());
    house.sessions.near.clear();
    assert!(house.sessions.find(&token).await.is_err());
    house.store.down.store(false, Ordering::SeqCst);
    assert!(house.sessions.find(&token).await.unwrap().is_some());
    assert_eq!(house.metrics.session_lookups.with_label_values(&["store", "error"]).get(), 1);
}

#[tokio::test]
async fn flows_are_single_use_and_sealed() {
    let house = house();
    house.sessions.put_flow("state-1", b"verifier", Duration::from_secs(600)).await.unwrap();
    assert!(house.sessions.put_flow("state-1", b"x", Duration::from_secs(600)).await.is_err());
    assert_eq!(house.sessions.take_flow("state-2").await.unwrap(), None);
    assert_eq!(house.sessions.take_flow("state-1").await.unwrap().as_deref(), Some(&b"verifier"[..]));
    assert_eq!(house.sessions.take_flow("state-1").await.unwrap(), None);
    house.sessions.put_flow("state-3", b"verifier", Duration::from_secs(600)).await.unwrap();
    house.clock.advance(Duration::from_secs(600));
    assert_eq!(house.sessions.take_flow("state-3").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_lease_outlasts_a_store_that_is_away_for_a_moment() {
    let (house, span) = (house(), Duration::from_secs(3));
    let lease = house.sessions.lease("refresh", span).await.unwrap().unwrap();
    house.store.down.store(true, Ordering::SeqCst);
    let work = async {
        tokio::time::sleep(Duration::from_millis(1_050)).await;
        house.clock.advance(Duration::from_secs(1));
        house.store.down.store(false, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(150)).await;
        house.clock.advance(Duration::from_secs(2));
        assert!(house.sessions.lease("refresh", span).await.unwrap().is_none(), "nobody waited a second to try again");
    };
    lease.hold(work).await;
}

/// As after an outage, when strangers wait for whoever had one.
#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_before_strangers_get_one() {
    let (house, span) = (house(), Duration::from_secs(3));
    let lease = house.sessions.lease("refresh", span).await.unwrap().unwrap();
    house.store.lease_gate.forget_permits(1_000);
    let work = async {
        house.clock.advance(Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(1_050)).await;
        house.clock.advance(Duration::from_secs(2));
        // Also for a renewal that waits as a stranger.
        house.store.lease_gate.add_permits(2);
        assert!(house.sessions.lease("refresh", span).await.unwrap().is_none(), "its holder still works");
    };
    lease.hold(work).await;
}

#[tokio::test]
async fn a_lease_is_one_holders() {
    let house = house();
    let lease = house.sessions.lease("refresh", Duration::from_secs(10)).await.unwrap().unwrap();
    assert!(house.sessions.lease("refresh", Duration::from_secs(10)).await.unwrap().is_none());
    let fence = lease.fence;
    lease.give_back().await;
    let again = house.sessions.lease("refresh", Duration::from_secs(10)).await.unwrap().unwrap();
    assert!(again.fence > fence);
}

/// Whoever held it may have been killed; its end is as far away as the clock was put back.
#[tokio::test]
async fn a_lease_of_before_the_clock_was_put_back_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(&folder.path().join("sessions.db")).unwrap();
    let stores: [Box<dyn SessionStore>; 2] = [Box::new(MemoryStore::new()), Box::new(sqlite)];
    for store in stores {
        let lease =
            async |holder, now| store.lease("refresh", holder, Duration::from_secs(3), UnixTime(now)).await.unwrap();
        assert!(lease("killed", 10_000).await.is_some());
        assert!(lease("next", 9_999).await.is_none(), "put right by a second, it is still held");
        assert!(lease("next", 9_400).await.is_some());
    }
}

#[tokio::test]
async fn two_processes_on_one_file_share_logins_and_logouts() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(StoreConfig::Sqlite(folder.path().join("data/sessions.db")));
    let open = || {
        let clock = Arc::new(ManualClock::at(10_000));
        Sessions::open(&config, clock, Arc::new(Metrics::new().unwrap())).unwrap()
    };
    let (one, two) = (open(), open());
    let (token, session) = one.create(NewSession::sample("ada")).await.unwrap();
    let there = two.find(&token).await.unwrap().unwrap();
    assert_eq!(two.csrf_token(&there), one.csrf_token(&session));
    one.end(&session, "logout").await.unwrap();
    assert!(two.find(&token).await.unwrap().is_some(), "close at hand until the next round");
    two.watch_round().await;
    assert!(two.find(&token).await.unwrap().is_none());
    assert!(SqliteStore::open(&folder.path().join("data")).is_err());
}
