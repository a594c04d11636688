//! Cache keys for `tests/fuzz`: two requests have one key only if they are alike in every part.
#![allow(clippy::missing_panics_doc, reason = "a panic is a finding")]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use http::HeaderMap;

use super::directive::{delta_seconds, split};
use super::key::{Caller, Known, Lookup, Resource};

fn key(parts: &[String; 5]) -> Vec<u8> {
    let [service, target, issuer, subject, origin] = parts;
    let lookup = Arc::new(Lookup {
        resource: Resource::new(service, target),
        caller: Caller::of_session(issuer, subject),
        origin: origin.as_str().into(),
        request: HeaderMap::new(),
        asked: Instant::now(),
        fault: super::flight::FaultCell::default(),
        alone: AtomicBool::default(),
    });
    lookup.key(&Known::default()).primary_key().to_vec()
}

/// Ten parts between zero bytes: two requests.
pub fn keys(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
    let one: [String; 5] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let other: [String; 5] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    assert_eq!(one == other, key(&one) == key(&other), "{one:?} {other:?}");
    for part in one.iter().chain(&other) {
        let _ = split(part).iter().filter_map(|(_, value)| delta_seconds(value.as_deref()?)).count();
    }
}
