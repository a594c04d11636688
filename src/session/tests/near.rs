//! The bounds of what is close at hand.

use std::sync::Arc;

use super::super::near::NearCache;
use super::super::{CookieToken, NewSession, Session};
use crate::resilience::UnixTime;

#[test]
fn the_near_cache_is_bounded_and_so_is_its_index() {
    let near = NearCache::new(64);
    let mut tokens = Vec::new();
    for _ in 0..1_000 {
        let token = CookieToken::generate().unwrap();
        let new = NewSession::sample("ada");
        let session = Session::begin(token.clone(), new, UnixTime(0), UnixTime(10), UnixTime(20));
        near.put(near.ticket(&session.key), Arc::new(session)).unwrap();
        tokens.push(token);
    }
    let held = tokens.iter().filter(|token| near.get(token).is_some()).count();
    assert!(held <= 64 && held > 0, "{held}");
    assert_eq!(near.indexed(), held);
    for token in &tokens {
        near.remove(&token.session_key());
    }
    assert!(tokens.iter().all(|token| near.get(token).is_none()));
}
