//! What a process trusts while it hears, does not hear, and cannot ask its store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::NewSession;
use super::super::store::{Listener, SessionStore};
use super::house;

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
