//! Tokens of the fleet, and the bound on one person's sessions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn token(end: Option<i64>) -> AccessToken {
    AccessToken {
        secret: Secret::new("the-fleets-token"),
        audience: vec!["https://crud.example".to_owned()],
        scopes: vec!["crud.read".to_owned()],
        issued_at: UnixTime(10_000),
        expires_at: end.map(UnixTime),
        ready: Ready::default(),
    }
}

fn sessions(store: &Arc<dyn SessionStore>, ring: &[u8], clock: &Arc<ManualClock>) -> Sessions {
    let written = |byte: &u8| Secret::new(STANDARD.encode([*byte; 32]));
    let config = SessionConfig { secrets: ring.iter().map(written).collect(), ..config(StoreConfig::Memory) };
    let metrics = Arc::new(Metrics::new().unwrap());
    Sessions::new(
        Arc::clone(store),
        Sealer::open(&config).unwrap(),
        &config,
        Arc::clone(clock) as Arc<dyn Clock>,
        metrics,
    )
}

#[tokio::test]
async fn a_shared_token_is_found_by_all_who_have_its_secret() {
    let store: Arc<dyn SessionStore> = Arc::new(crate::session::store::MemoryStore::new());
    let clock = Arc::new(ManualClock::at(10_000));
    let (old, both, new) =
        (sessions(&store, &[1], &clock), sessions(&store, &[2, 1], &clock), sessions(&store, &[2], &clock));
    assert!(old.shared_token("crud").await.unwrap().is_none());
    old.share_token("crud", &token(Some(10_100))).await.unwrap();
    let found = both.shared_token("crud").await.unwrap().unwrap();
    assert_eq!((found.secret.expose(), found.expires_at), ("the-fleets-token", Some(UnixTime(10_100))));
    assert_eq!((found.audience, found.scopes), (token(None).audience, token(None).scopes));
    assert!(new.shared_token("crud").await.unwrap().is_none(), "not there, and no error");
    assert!(both.shared_token("other").await.unwrap().is_none());
    // The new secret's token takes the place; who knows the old one only fetches its own.
    both.share_token("crud", &token(None)).await.unwrap();
    assert!(new.shared_token("crud").await.unwrap().is_some());
    assert!(old.shared_token("crud").await.unwrap().is_none());
    clock.advance(Duration::from_secs(3_600));
    assert!(new.shared_token("crud").await.unwrap().is_none(), "not for ever, though nobody told its end");
}

/// No refresh token is spent for it: nobody is waited for who may come back.
#[tokio::test]
async fn the_right_to_fetch_is_had_at_once_after_an_outage() {
    let handled = Arc::new(super::handled::Handled::new());
    handled.lease_gate.forget_permits(1_000);
    let store: Arc<dyn SessionStore> = Arc::clone(&handled) as _;
    let sessions = sessions(&store, &[1], &Arc::new(ManualClock::at(10_000)));
    let span = Duration::from_secs(3);
    let moment = Duration::from_millis(100);
    assert!(tokio::time::timeout(moment, sessions.lease("a-session", span)).await.is_err(), "strangers wait");
    let lease = tokio::time::timeout(moment, sessions.shared_lease("crud", span)).await.expect("at once");
    assert!(lease.unwrap().is_some());
    assert!(sessions.shared_lease("crud", span).await.unwrap().is_none(), "one of them has it");
}

#[tokio::test]
async fn one_replica_has_the_right_to_fetch() {
    let store: Arc<dyn SessionStore> = Arc::new(crate::session::store::MemoryStore::new());
    let clock = Arc::new(ManualClock::at(10_000));
    let (one, other) = (sessions(&store, &[1], &clock), sessions(&store, &[1], &clock));
    let span = Duration::from_secs(3);
    let lease = one.shared_lease("crud", span).await.unwrap().unwrap();
    assert!(other.shared_lease("crud", span).await.unwrap().is_none());
    assert!(other.shared_lease("analytics", span).await.unwrap().is_some());
    lease.give_back().await;
    assert!(other.shared_lease("crud", span).await.unwrap().is_some());
}

#[tokio::test]
async fn the_oldest_give_way_whoever_counts() {
    let house = house_with(SessionConfig { max_per_user: 3, ..config(StoreConfig::Memory) });
    let mut made = Vec::new();
    let (bobs, _) = house.sessions.create(NewSession::sample("bob")).await.unwrap();
    // All within one second.
    for _ in 0..5 {
        made.push(house.sessions.create(NewSession::sample("ada")).await.unwrap());
    }
    let session = house.sessions.find(&made[0].0).await.unwrap().unwrap();
    house.sessions.update(&session, other_tokens(&session)).await.unwrap();
    assert_eq!(house.sessions.end_oldest(&made[1].1).await.unwrap(), 2, "three have come after both");
    let mut live = Vec::new();
    for (cookie, _) in &made {
        live.push(house.sessions.find(cookie).await.unwrap().is_some());
    }
    assert_eq!(live, [false, false, true, true, true], "a renewal makes nobody younger");
    assert!(house.sessions.find(&bobs).await.unwrap().is_some());
    assert_eq!(house.sessions.end_oldest(&made[4].1).await.unwrap(), 0);
    assert_eq!(house.metrics.sessions_destroyed.with_label_values(&["superseded"]).get(), 2);
}

/// The store keeps what is over for a while, in case that somebody has used it and not told yet.
#[tokio::test]
async fn who_is_over_takes_nobodys_place() {
    let house = house_with(SessionConfig { max_per_user: 2, ..config(StoreConfig::Memory) });
    let (used, _) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let (left, _) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.clock.advance(Duration::from_secs(50));
    house.sessions.find(&used).await.unwrap().unwrap();
    house.clock.advance(Duration::from_secs(52));
    eventually(|| house.store.touches.load(Ordering::SeqCst) == 1).await;
    let (cookie, newest) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    assert_eq!(house.sessions.end_oldest(&newest).await.unwrap(), 0);
    let mut live = Vec::new();
    for cookie in [&used, &left, &cookie] {
        live.push(house.sessions.find(cookie).await.unwrap().is_some());
    }
    assert_eq!(live, [true, false, true]);
}

/// No browser gets its cookie.
#[tokio::test]
async fn a_login_that_the_store_does_not_confirm_takes_nobodys_place() {
    let house = house_with(SessionConfig { max_per_user: 2, ..config(StoreConfig::Memory) });
    let (used, _) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.store.lost.store(true, Ordering::SeqCst);
    house.sessions.create(NewSession::sample("ada")).await.unwrap_err();
    house.store.lost.store(false, Ordering::SeqCst);
    // What is done about it is done beside the answer.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let (_, newest) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    assert_eq!(house.sessions.end_oldest(&newest).await.unwrap(), 0);
    assert!(house.sessions.find(&used).await.unwrap().is_some());
    assert_eq!(house.store.count(UnixTime(10_000)).await.unwrap(), 2);
}

#[tokio::test]
async fn logins_at_once_do_not_end_each_other() {
    let house = house_with(SessionConfig { max_per_user: 1, ..config(StoreConfig::Memory) });
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(house.sessions.create(NewSession::sample("ada")).await.unwrap());
    }
    // Each counts after all are there.
    for (_, session) in &made {
        house.sessions.end_oldest(session).await.unwrap();
    }
    let mut live = Vec::new();
    for (cookie, _) in &made {
        live.push(house.sessions.find(cookie).await.unwrap().is_some());
    }
    assert_eq!(live, [false, false, true]);
}
