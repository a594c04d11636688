//! Live connections and the ends of their sessions, told and untold.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::store::{Listener, SessionStore};
use super::super::{EndReason, NewSession};
use super::{house, other_tokens};

fn ear(house: &super::House) -> Arc<dyn Listener> {
    Arc::clone(house.store.listener.get().unwrap())
}

#[tokio::test]
async fn the_end_of_a_session_pulls_the_cords_of_all_its_connections_and_of_no_other() {
    let house = house();
    let (_, ada) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let (_, bob) = house.sessions.create(NewSession::sample("bob")).await.unwrap();
    let (first, mut pulled) = house.sessions.hold(Some(&ada));
    let (second, _cord) = house.sessions.hold(Some(&ada));
    let (other, mut intact) = house.sessions.hold(Some(&bob));
    let (nobody, _cord) = house.sessions.hold(None);
    assert_eq!(house.metrics.live_connections.get(), 4);
    house.sessions.end(&ada, "logout").await.unwrap();
    assert_eq!((first.end_reason(), second.end_reason()), (Some(EndReason::SessionOver), Some(EndReason::SessionOver)));
    assert_eq!(pulled.pulled.try_recv(), Ok(()));
    assert_eq!((other.end_reason(), nobody.end_reason()), (None, None));
    assert!(intact.pulled.try_recv().is_err());
    drop((first, second, other, nobody));
    assert_eq!(house.metrics.live_connections.get(), 0);
    assert_eq!(house.metrics.live_ended.with_label_values(&["session_over"]).get(), 2);
    assert!(house.sessions.live().take_doubts(house.sessions.clock.now()).is_empty(), "nothing is kept");
}

#[tokio::test]
async fn a_change_elsewhere_ends_only_what_it_ended() {
    let house = house();
    let (_, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let (held, _cord) = house.sessions.hold(Some(&session));
    house.sessions.update(&session, other_tokens(&session)).await.unwrap();
    ear(&house).changed(&session.key);
    house.sessions.live_round().await;
    assert_eq!(held.end_reason(), None, "renewed, not ended");
    house.store.inner.delete(&session.key).await.unwrap();
    house.sessions.live_round().await;
    assert_eq!(held.end_reason(), None, "nobody has said anything");
    ear(&house).changed(&session.key);
    house.sessions.live_round().await;
    assert_eq!(held.end_reason(), Some(EndReason::SessionOver));
}

#[tokio::test]
async fn a_session_that_ends_between_its_look_up_and_its_place_is_noticed() {
    let house = house();
    let (_, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    house.sessions.end(&session, "logout").await.unwrap();
    let (held, _cord) = house.sessions.hold(Some(&session));
    house.sessions.live_round().await;
    assert_eq!(held.end_reason(), Some(EndReason::SessionOver));
}

#[tokio::test]
async fn time_ends_a_session_that_nobody_else_uses() {
    let house = house();
    let (_, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let (held, _cord) = house.sessions.hold(Some(&session));
    house.clock.advance(Duration::from_secs(99));
    house.sessions.live_round().await;
    assert_eq!(held.end_reason(), None);
    // Used on another replica.
    house.store.inner.touch(&session.key, house.sessions.clock.now().plus(Duration::from_secs(100))).await.unwrap();
    house.clock.advance(Duration::from_secs(50));
    house.sessions.live_round().await;
    assert_eq!(held.end_reason(), None, "the store knows a later end");
    house.clock.advance(Duration::from_secs(51));
    house.sessions.live_round().await;
    assert_eq!(held.end_reason(), Some(EndReason::SessionOver));
}

#[tokio::test]
async fn an_outage_ends_nothing_before_the_grace_is_over() {
    let house = house();
    let (_, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let (held, _cord) = house.sessions.hold(Some(&session));
    house.store.down.store(true, Ordering::SeqCst);
    ear(&house).deaf(Duration::ZERO);
    house.clock.advance(Duration::from_secs(29));
    house.sessions.live_round().await;
    assert_eq!(held.end_reason(), None);
    house.clock.advance(Duration::from_secs(1));
    house.sessions.live_round().await;
    assert_eq!(held.end_reason(), Some(EndReason::SessionOver), "a logout elsewhere is seen no later");
}

#[tokio::test]
async fn what_was_not_told_during_an_outage_is_asked_for_afterwards() {
    let house = house();
    let (_, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let (held, _cord) = house.sessions.hold(Some(&session));
    ear(&house).deaf(Duration::ZERO);
    house.store.inner.delete(&session.key).await.unwrap();
    ear(&house).hearing();
    house.sessions.live_round().await;
    assert_eq!(held.end_reason(), Some(EndReason::SessionOver));
}

#[tokio::test]
async fn the_end_of_the_process_waits_for_what_has_an_end() {
    let house = house();
    let (_, session) = house.sessions.create(NewSession::sample("ada")).await.unwrap();
    let (stream, _cord) = house.sessions.hold(Some(&session));
    let (download, mut intact) = house.sessions.hold(Some(&session));
    let (late, _cord) = house.sessions.hold(None);
    stream.never_ends();
    house.sessions.live().close();
    assert_eq!(stream.end_reason(), Some(EndReason::GoingAway));
    assert!(download.end_reason().is_none() && intact.pulled.try_recv().is_err());
    assert_eq!(late.end_reason(), None, "it has not begun to answer");
    late.never_ends();
    assert_eq!(late.end_reason(), Some(EndReason::GoingAway));
}
