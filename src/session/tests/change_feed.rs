//! What a process trusts while it hears, does not hear, and cannot ask its store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::store::{Listener, SessionStore};
use super::super::{CookieToken, NewSession, Sealer, Sessions};
use super::handled::Handled;
use super::{config, house};
use crate::config::StoreConfig;
use crate::resilience::{Clock, FleetClock};
use crate::telemetry::Metrics;

fn ear(house: &super::House) -> Arc<dyn Listener> {
    Arc::clone(house.store.listener.get().unwrap())
}

#[tokio::test]
async fn a_change_that_is_told_is_read_again() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.store.inner.delete(&session.key).await.unwrap();
    assert!(house.sessions.find(&token).await.unwrap().is_some(), "not told yet");
    ear(&house).changed(&session.key);
    assert!(house.sessions.find(&token).await.unwrap().is_none());
}

#[tokio::test]
async fn who_hears_nothing_asks() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    ear(&house).deaf(Duration::ZERO);
    assert!(house.sessions.find(&token).await.unwrap().is_some());
    assert_eq!(house.store.loads.load(Ordering::SeqCst), 1, "what is close at hand is not trusted");
    house.store.inner.delete(&session.key).await.unwrap();
    assert!(house.sessions.find(&token).await.unwrap().is_none(), "a logout elsewhere counts at once");
}

#[tokio::test]
async fn who_can_neither_hear_nor_ask_goes_on_for_the_grace_and_no_longer() {
    let house = house();
    let (token, _) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let (stranger, _) = house.sessions.create(NewSession::sample("bob")).await.unwrap();
    house.sessions.near.remove(&stranger.session_key());
    house.store.down.store(true, Ordering::SeqCst);
    ear(&house).deaf(Duration::from_millis(200));
    // 30 s, of which the first may have passed before the silence was noticed.
    house.clock.advance(Duration::from_secs(28));
    assert!(house.sessions.find(&token).await.unwrap().is_some());
    assert!(house.sessions.find(&stranger).await.is_err(), "an error, never \"no session\"");
    house.clock.advance(Duration::from_secs(1));
    assert!(house.sessions.find(&token).await.is_err());
    house.store.down.store(false, Ordering::SeqCst);
    ear(&house).hearing();
    assert!(house.sessions.find(&token).await.unwrap().is_some(), "nobody lost a session");
    assert!(house.sessions.find(&stranger).await.unwrap().is_some());
}

#[tokio::test]
async fn what_was_kept_while_deaf_is_not_trusted_afterwards() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    ear(&house).deaf(Duration::ZERO);
    assert!(house.sessions.find(&token).await.unwrap().is_some());
    house.store.inner.delete(&session.key).await.unwrap();
    ear(&house).hearing();
    assert!(house.sessions.find(&token).await.unwrap().is_none());
}

#[tokio::test]
async fn what_was_emptied_is_forgotten_without_a_look() {
    let house = house();
    let (token, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let (_held, mut cord) = house.sessions.hold(Some(&session));
    house.store.inner.delete(&session.key).await.unwrap();
    ear(&house).emptied();
    assert_eq!(house.sessions.near.indexed(), 0);
    house.sessions.live_round().await;
    assert_eq!(cord.pulled.try_recv(), Ok(()), "what lasts is asked for");
    assert!(house.sessions.find(&token).await.unwrap().is_none());
}

#[tokio::test]
async fn who_was_not_told_the_time_judges_nothing() {
    let (store, clock) = (Arc::new(Handled::new()), Arc::new(FleetClock::awaiting()));
    let config = config(StoreConfig::Memory);
    let sessions = Sessions::new(
        Arc::clone(&store) as Arc<dyn SessionStore>,
        Sealer::open(&config).unwrap(),
        &config,
        clock as Arc<dyn Clock>,
        Arc::new(Metrics::new().unwrap()),
    );
    let token = CookieToken::generate().unwrap();
    assert!(sessions.find(&token).await.is_err(), "an error, never \"no session\"");
    assert!(sessions.create(NewSession::sample("ada")).await.is_err());
    assert!(sessions.take_flow("state").await.is_err() && !sessions.knows_time());
    let ear = store.listener.get().unwrap();
    for _ in 0..2 {
        ear.time(Duration::from_secs(10_000), Duration::ZERO);
    }
    assert!(sessions.knows_time());
    assert!(sessions.find(&token).await.unwrap().is_none());
    let (token, _) = sessions.create(NewSession::sample("ada")).await.unwrap();
    assert!(sessions.find(&token).await.unwrap().is_some());
}
