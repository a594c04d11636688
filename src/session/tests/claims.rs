//! What one of many is to do, and whoever comes meanwhile waits for.

use tokio::time::timeout;

use super::*;

const MOMENT: Duration = Duration::from_millis(500);

#[tokio::test(start_paused = true)]
async fn what_is_claimed_is_waited_for_until_it_is_marked_or_given_back() {
    let sessions = house().sessions;
    let first = sessions.claim("jti").await.unwrap().unwrap();
    assert!(sessions.claim("another").await.unwrap().is_some());
    assert!(!sessions.is_marked("jti").await.unwrap(), "not yet");
    let mut second = pin!(sessions.claim("jti"));
    assert!(timeout(MOMENT, &mut second).await.is_err(), "it waits");
    sessions.release_claim(first).await.unwrap();
    assert!(second.await.unwrap().is_some(), "what was given back may be had");
    let mut third = pin!(sessions.claim("jti"));
    assert!(timeout(MOMENT, &mut third).await.is_err(), "it waits");
    sessions.mark("jti", UnixTime(10_060)).await.unwrap();
    assert!(third.await.unwrap().is_none(), "it was done by another one");
    assert!(sessions.is_marked("jti").await.unwrap() && sessions.claim("jti").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn who_is_killed_has_a_claim_for_a_few_seconds() {
    let house = house();
    assert!(house.sessions.claim("jti").await.unwrap().is_some());
    assert!(house.sessions.claim("jti").await.is_err(), "nobody knows what became of it");
    house.clock.advance(Duration::from_secs(5));
    assert!(house.sessions.claim("jti").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_lapsed_is_not_given_back_for_whoever_has_it_by_now() {
    let House { sessions, clock, .. } = house();
    let mut late = Vec::new();
    for _ in 0..2 {
        late.push(sessions.claim("jti").await.unwrap().unwrap());
        clock.advance(Duration::from_secs(5));
    }
    assert!(sessions.claim("jti").await.unwrap().is_some());
    sessions.release_claim(late.remove(0)).await.unwrap();
    assert!(sessions.claim("jti").await.is_err(), "another one is at it");
    sessions.mark("jti", UnixTime(10_060)).await.unwrap();
    sessions.release_claim(late.remove(0)).await.unwrap();
    assert!(sessions.is_marked("jti").await.unwrap(), "what was done stays done");
}
