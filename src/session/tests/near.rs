//! The bounds of what is close at hand.

use std::sync::Arc;

use super::super::near::NearCache;
use super::super::{CookieToken, NewSession, Session};
use crate::config::Secret;
use crate::resilience::UnixTime;

/// One that ends at `end` unless it is used.
fn put(near: &NearCache, new: NewSession, end: i64) -> CookieToken {
    let token = CookieToken::generate().unwrap();
    let session = Session::begin(token.clone(), new, UnixTime(0), UnixTime(end), UnixTime(1_000));
    near.put(near.ticket(&session.key), Arc::new(session)).unwrap();
    token
}

#[test]
fn the_near_cache_is_bounded_and_so_is_its_index() {
    let near = NearCache::new(64 * 4096);
    let tokens: Vec<CookieToken> = (0..1_000).map(|_| put(&near, NewSession::sample("ada"), 10)).collect();
    let held = tokens.iter().filter(|token| near.get(token).is_some()).count();
    assert!(held <= 64 && held > 0, "{held}");
    assert_eq!(near.indexed(), held);
    for token in &tokens {
        near.remove(&token.session_key());
    }
    assert!(tokens.iter().all(|token| near.get(token).is_none()));
}

#[test]
fn large_sessions_are_fewer() {
    let mut new = NewSession::sample("ada");
    new.tokens.id_token = Secret::new("x".repeat(60_000));
    let near = NearCache::new(64 * 4096);
    let held = (0..100).map(|_| put(&near, new.clone(), 10)).filter(|token| near.get(token).is_some()).count();
    assert!(near.indexed() <= 4, "{} of {held}", near.indexed());
}

#[test]
fn what_is_over_is_let_go_without_being_asked_for() {
    let near = NearCache::new(1 << 20);
    let [over, live] = [10, 11].map(|end| put(&near, NewSession::sample("ada"), end));
    near.sweep(UnixTime(10));
    assert!(near.get(&over).is_none() && near.get(&live).is_some());
    assert_eq!(near.indexed(), 1);
}
