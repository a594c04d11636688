//! Under what an answer is kept. One function makes keys, and it cannot be called without a [`Caller`].

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::header::{ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE};
use http::{HeaderMap, HeaderName};
use pingora::cache::CacheKey;
use pingora::cache::key::HashBinary;

use super::flight::FaultCell;
use crate::crypto::sha256;

/// Who asks, as far as the cache tells callers apart: two callers with one value see each other's answers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Caller(Arc<[u8]>);

impl Caller {
    /// A person, in whichever of their sessions.
    #[must_use]
    pub fn of_session(issuer: &str, subject: &str) -> Self {
        Self(frame(&[issuer.as_bytes(), subject.as_bytes()]).into())
    }

    /// One token, one partition, since a narrower token must not get what a wider one was given; kept as a digest.
    #[must_use]
    pub fn by_token(token: &[u8]) -> Self {
        Self(frame(&[&sha256(token)]).into())
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller(…)")
    }
}

/// Whose answer it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Audience {
    Everybody,
    Only(Caller),
}

/// One resource of one service: what an unsafe method invalidates, for every caller and variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Resource(Arc<[u8]>);

impl Resource {
    pub(super) fn new(service: &str, target: &str) -> Self {
        Self(frame(&[service.as_bytes(), target.as_bytes()]).into())
    }

    pub(super) fn weight(&self) -> usize {
        self.0.len()
    }
}

/// Everything a look-up needs; travels inside the engine's key.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) resource: Resource,
    pub(super) caller: Caller,
    /// Scheme and authority the client used: services build links from them.
    pub(super) origin: Box<str>,
    pub(super) request: HeaderMap,
    /// When the question was asked: an answer to it from before an invalidation is not stored.
    pub(super) asked: Instant,
    /// How the service has failed it.
    pub(super) fault: FaultCell,
    /// What others fetch is of no use to it, nor what it fetches to them: nobody waits.
    pub(super) alone: AtomicBool,
}

impl Lookup {
    /// The engine's key. Requests with one key wait for each other, so it is as wide as an answer can
    /// be used by all of them: `known` is what was learnt of the resource so far.
    pub(super) fn key(self: &Arc<Self>, known: &Known) -> CacheKey {
        let caller: &[u8] = if known.shared { b"" } else { &self.caller.0 };
        let audience: &[u8] = if known.shared { b"everybody" } else { b"caller" };
        let selection = selection(&self.request, &known.vary);
        let text = frame(&[&self.resource.0, self.origin.as_bytes(), audience, caller, &selection]);
        let name = name(&text);
        let mut key = CacheKey::new(text, "");
        key.set_primary_bin_override(name);
        key.extensions.insert(Arc::clone(self));
        key
    }
}

/// What the engine's lock and predictor tell keys apart by. It would take BLAKE2 for that, whose one block costs a hit a
/// twentieth of its instructions; this, too, nobody outside can make come out alike. Two that do all the same wait for each
/// other, and each finds its own answer or asks: what is stored is found by the whole key.
fn name(key: &[u8]) -> HashBinary {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    u128::from(SECRET.hash_one(key)).to_be_bytes()
}

/// What the store knows of a resource.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    /// Its last answer was for everybody.
    pub(super) shared: bool,
    /// The `Vary` of its last answer.
    pub(super) vary: Vec<HeaderName>,
}

/// A digest of the request fields that select an answer. A digest, because they may be secrets.
pub(super) fn selection(request: &HeaderMap, vary: &[HeaderName]) -> Vec<u8> {
    if vary.is_empty() {
        return Vec::new();
    }
    let mut text = Vec::new();
    for name in vary {
        text.extend(frame(&[name.as_str().as_bytes(), &normalised(request, name)]));
    }
    sha256(&text).to_vec()
}

/// Language tags, codings and charsets: their case says nothing (RFC 9110 §12.5.2–12.5.4).
const CASELESS: [HeaderName; 3] = [ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE];

/// RFC 9111 §4.1: white space that cannot matter is taken out, case where it cannot matter either, and
/// lines of one field are joined. A field that is absent differs from an empty one.
fn normalised(request: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let lines: Vec<_> = request.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return b"absent".to_vec();
    }
    let mut text = b"=".to_vec();
    for part in lines.join(&b',').split(|byte| *byte == b',') {
        text.extend_from_slice(part.trim_ascii());
        text.push(b',');
    }
    if CASELESS.contains(name) {
        text.make_ascii_lowercase();
    }
    text
}

/// Length-prefixed parts: no two lists of parts make one text.
fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use pingora::cache::key::CacheHashKey as _;
    use proptest::prelude::*;

    use super::*;

    fn key(parts: [&str; 5]) -> CacheKey {
        let [service, target, issuer, subject, origin] = parts;
        let lookup = Arc::new(Lookup {
            resource: Resource::new(service, target),
            caller: Caller::of_session(issuer, subject),
            origin: origin.into(),
            request: HeaderMap::new(),
            asked: Instant::now(),
            fault: FaultCell::default(),
            alone: AtomicBool::default(),
        });
        lookup.key(&Known::default())
    }

    proptest! {
        #[test]
        fn different_parts_make_different_keys(
            one in proptest::array::uniform5("[ab/:]{0,3}"), other in proptest::array::uniform5("[ab/:]{0,3}"),
        ) {
            let [a, b, c, d, e] = &one;
            let [v, w, x, y, z] = &other;
            let (this, that) = (key([a, b, c, d, e]), key([v, w, x, y, z]));
            prop_assert_eq!(one == other, this.primary_key() == that.primary_key());
            prop_assert_eq!(one == other, this.combined_bin() == that.combined_bin());
        }
    }

    #[test]
    fn selecting_fields_are_compared_as_lists() {
        let digest_of = |name: &'static str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(name, line.parse().unwrap());
            }
            selection(&headers, &[name.parse().unwrap()])
        };
        let digest = |lines: &[&str]| digest_of("accept-language", lines);
        assert_eq!(digest(&["en, de"]), digest(&["en,de"]));
        assert_eq!(digest(&["en, de"]), digest(&["en", " de"]));
        assert_ne!(digest(&["en, de"]), digest(&["de, en"]));
        assert_ne!(digest(&[]), digest(&[""]));
        assert_eq!(digest(&["EN"]), digest(&["en"]));
        assert_ne!(digest_of("x-any", &["EN"]), digest_of("x-any", &["en"]));
    }

    #[test]
    fn nobody_sees_in_a_log_who_asked() {
        assert_eq!(format!("{:?}", Caller::of_session("i", "ada")), "Caller(…)");
    }
}
