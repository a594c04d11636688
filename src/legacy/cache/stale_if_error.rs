//! A stored answer in the place of an error, where the engine no longer gives one: it forgets what is
//! stored as soon as a request has waited in vain for another, or may not go on to the service.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use pingora::http::RequestHeader;

use super::admission::StoragePolicy;
use super::cache_status::{Outcome, US, insufficient, time_left, write};
use super::entry::Entry;
use super::recall::{Recall, age};
use super::validation;
use crate::reply::Reply;

/// What went wrong with asking the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It answered, though badly: only `stale-if-error` covers that (RFC 5861 §4).
    Answered,
    /// It could not be asked, or gave no answer (RFC 9111 §4.2.4, "disconnected").
    Disconnected,
}

impl StoragePolicy {
    /// Whether an answer of this age may be used instead of an error.
    pub(super) fn cover(&self, age: Duration, failure: Failure) -> bool {
        let window = match failure {
            Failure::Answered => self.stale_if_error,
            Failure::Disconnected => self.stale_if_disconnected.max(self.stale_if_error),
        };
        let past = age.saturating_sub(self.lifetime);
        !self.never_stale && window > 0 && past <= Duration::from_secs(window.into())
    }
}

impl Recall {
    /// Whether something is stored that may be sent instead of this failure.
    #[must_use]
    pub fn covers(&self, failure: Failure) -> bool {
        self.covering(failure).is_some()
    }

    /// Takes what is stored for this request instead of the failure, and counts it. `asked`: the service was.
    #[must_use]
    pub fn stand_in(&self, request: &RequestHeader, failure: Failure, asked: bool) -> Option<Reply> {
        let (entry, age) = self.covering(failure)?;
        let (status, mut headers) = (entry.header.status, entry.header.headers.clone());
        headers.remove(CONTENT_LENGTH);
        let (how, why) = if asked { ("fwd=", insufficient(entry.policy.lifetime, age)) } else { ("hit", "") };
        write(&mut headers, Outcome::Stale, age, &[US, how, why, &time_left(&entry.policy, age)]);
        let held = validation::not_modified(&request.method, &request.headers, status, &headers);
        self.cache.count(Outcome::Stale);
        Some(Reply {
            status: if held { StatusCode::NOT_MODIFIED } else { status },
            headers: headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            body: if held { Bytes::new() } else { entry.body.clone() },
        })
    }

    fn covering(&self, failure: Failure) -> Option<(std::sync::Arc<Entry>, Duration)> {
        if self.bypassed.is_some_and(|why| !why.may_have_stored()) || self.directives.no_cache {
            return None;
        }
        let entry = self.cache.shelf.find(&self.lookup)?;
        let age = age(entry.epoch)?;
        entry.policy.cover(age, failure).then_some((entry, age))
    }
}
