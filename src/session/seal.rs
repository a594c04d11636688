//! Sealing: what is at rest opens only with the server's secret and the browser's cookie together,
//! and only in the place it was sealed for.
//!
//! Envelope: one byte of format, four of ring key, twelve of nonce, then AES-256-GCM ciphertext and
//! tag. The key is HKDF-SHA256 (RFC 5869) over the ring secret and the caller's half.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::cookie_token::CookieToken;
use super::key::SessionKey;
use super::key_ring::{self, RingKey, SecretError};
use super::model::Session;
use super::payload::{self, Payload};
use super::store::Record;
use crate::config::{SessionConfig, StoreConfig};
use crate::crypto::{NoRandom, draw};

/// Of the envelope and of what is derived; grows when either changes.
const FORMAT: u8 = 1;
const SESSION: &[u8] = b"pingora-bff session";
const NOTE: &[u8] = b"pingora-bff note";
const SHARED: &[u8] = b"pingora-bff shared token";
const CSRF: &[u8] = b"pingora-bff csrf";

/// What is stored was not sealed for this place by this ring: damaged, swapped, rolled back, or of
/// a secret that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed record does not open")]
pub struct Unsealable;

/// Sealing itself failed; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No nonce.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// Too large, or not to be spelled as JSON.
    #[error("the session cannot be encoded")]
    Encoding,
}

/// The key ring at work. The first key seals, every key opens.
pub struct Sealer {
    first: RingKey,
    older: Vec<RingKey>,
    csrf: Vec<hmac::Key>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} keys)", self.csrf.len())
    }
}

impl Sealer {
    /// The ring that `session.secret` writes; where it is empty, a secret kept beside the SQLite
    /// file, or one for the life of this process.
    pub fn open(config: &SessionConfig) -> Result<Self, SecretError> {
        let mut ring = key_ring::parse_ring(&config.secrets)?.into_iter();
        let first = match (ring.next(), &config.store) {
            (Some(first), _) => first,
            (None, StoreConfig::Memory) => key_ring::random_key()?,
            (None, StoreConfig::Redis(_)) => return Err(SecretError::Missing),
            (None, StoreConfig::Sqlite(path)) => {
                let mut beside = path.as_os_str().to_owned();
                beside.push(".key");
                key_ring::key_in_file(beside.as_ref())?
            }
        };
        let older: Vec<RingKey> = ring.collect();
        let csrf = std::iter::once(&first).chain(&older).map(csrf_key).collect();
        Ok(Self { first, older, csrf })
    }

    /// The record of `session`, to be stored under its key.
    pub fn seal(&self, session: &Session) -> Result<Record, SealError> {
        let mut record = Record {
            version: session.version,
            issuer: session.identity.issuer.clone(),
            subject: session.identity.subject.clone(),
            idp_session: session.idp_session.clone(),
            created_at: session.created_at,
            expires_at: session.expires_at(),
            ends_at: session.ends_at,
            sealed: Vec::new(),
        };
        let plain = payload::write(&session.identity, session.authenticated_at, &session.tokens)
            .map_err(|_| SealError::Encoding)?;
        let place = place_of(&session.key, &record);
        record.sealed = self.seal_bytes(SESSION, session.token.sealing_key(), &place, &plain)?;
        Ok(record)
    }

    /// The payload of the record found under `key`.
    pub(super) fn open_record(
        &self,
        token: &CookieToken,
        key: &SessionKey,
        record: &Record,
    ) -> Result<Payload, Unsealable> {
        let plain = self.open_bytes(SESSION, token.sealing_key(), &place_of(key, record), &record.sealed)?;
        payload::read(&plain).map_err(|_| Unsealable)
    }

    /// Seals a note to the secret `half` that names it.
    pub fn seal_note(&self, half: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.seal_bytes(NOTE, half.as_bytes(), &[], plain)
    }

    /// Opens what [`Self::seal_note`] sealed.
    pub fn open_note(&self, half: &str, sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        self.open_bytes(NOTE, half.as_bytes(), &[], sealed).map(|plain| plain.to_vec())
    }

    /// Seals what belongs to no browser, to its place; the server's secret alone opens it.
    pub(super) fn seal_shared(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.seal_bytes(SHARED, &[], place.as_bytes(), plain)
    }

    /// Opens what [`Self::seal_shared`] sealed for that place.
    pub(super) fn open_shared(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        self.open_bytes(SHARED, &[], place.as_bytes(), sealed)
    }

    /// A CSRF token for the session, base64url of 32 bytes: anybody may see it, only we can make it.
    #[must_use]
    pub fn csrf_token(&self, key: &SessionKey) -> String {
        self.csrf.first().map_or_else(String::new, |first| URL_SAFE_NO_PAD.encode(hmac::sign(first, &key.0)))
    }

    /// Whether `given` is a CSRF token of this session, by any key of the ring, in constant time.
    #[must_use]
    pub fn csrf_matches(&self, key: &SessionKey, given: &[u8]) -> bool {
        let mut tag = [0; 32];
        match URL_SAFE_NO_PAD.decode_slice(given, &mut tag) {
            Ok(32) => self.csrf.iter().any(|ring_key| hmac::verify(ring_key, &key.0, &tag).is_ok()),
            _ => false,
        }
    }

    fn seal_bytes(&self, purpose: &[u8], half: &[u8], place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = draw::<12>()?;
        let key = derive(&self.first, purpose, half).ok_or(SealError::Encoding)?;
        let mut envelope = Vec::with_capacity(33 + plain.len());
        envelope.push(FORMAT);
        envelope.extend_from_slice(&self.first.id);
        envelope.extend_from_slice(&nonce);
        let mut body = Vec::with_capacity(16 + plain.len());
        body.extend_from_slice(plain);
        // In place: the plain bytes are overwritten by the cipher's.
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut body)
            .map_err(|_| SealError::Encoding)?;
        envelope.append(&mut body);
        Ok(envelope)
    }

    fn open_bytes(
        &self,
        purpose: &[u8],
        half: &[u8],
        place: &[u8],
        envelope: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let (format, rest) = envelope.split_first().ok_or(Unsealable)?;
        let (id, rest) = rest.split_first_chunk::<4>().ok_or(Unsealable)?;
        let (nonce, body) = rest.split_first_chunk::<12>().ok_or(Unsealable)?;
        if *format != FORMAT {
            return Err(Unsealable);
        }
        // Four bytes of id may be shared by two keys: each that fits is tried.
        for ring_key in std::iter::once(&self.first).chain(&self.older).filter(|ring_key| ring_key.id == *id) {
            let key = derive(ring_key, purpose, half).ok_or(Unsealable)?;
            let mut plain = Zeroizing::new(body.to_vec());
            if let Ok(opened) = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place), &mut plain) {
                let length = opened.len();
                plain.truncate(length);
                return Ok(plain);
            }
        }
        Err(Unsealable)
    }
}

/// `None` cannot happen for lengths that are constants; the library does not know.
fn derive(ring_key: &RingKey, purpose: &[u8], half: &[u8]) -> Option<LessSafeKey> {
    let mut material = Zeroizing::new(ring_key.secret.to_vec());
    material.extend_from_slice(half);
    let prk = Salt::new(HKDF_SHA256, b"pingora-bff").extract(&material);
    let okm = prk.expand(&[purpose, &[FORMAT]], &AES_256_GCM).ok().map(UnboundKey::from);
    okm.map(LessSafeKey::new)
}

fn csrf_key(ring_key: &RingKey) -> hmac::Key {
    let labelled: Vec<u8> = CSRF.iter().copied().chain([FORMAT]).collect();
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, ring_key.secret.as_ref()), &labelled);
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

/// What a record is bound to: everything that stands beside it and does not move. Each text with
/// its length, so that no two records have the same bytes.
fn place_of(key: &SessionKey, record: &Record) -> Vec<u8> {
    let mut place = Vec::with_capacity(256);
    place.extend_from_slice(&key.0);
    place.extend_from_slice(&record.version.to_be_bytes());
    place.extend_from_slice(&record.created_at.0.to_be_bytes());
    place.extend_from_slice(&record.ends_at.0.to_be_bytes());
    for text in [Some(&record.issuer), Some(&record.subject), record.idp_session.as_ref()] {
        place.push(u8::from(text.is_some()));
        let text = text.map_or("", String::as_str);
        place.extend_from_slice(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        place.extend_from_slice(text.as_bytes());
    }
    place
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::config::Secret;
    use crate::resilience::UnixTime;
    use crate::session::NewSession;

    fn ring(secrets: &[u8]) -> Sealer {
        let config = SessionConfig {
            store: StoreConfig::Memory,
            secrets: secrets.iter().map(|byte| Secret::new(STANDARD.encode([*byte; 32]))).collect(),
            ..SessionConfig::default()
        };
        Sealer::open(&config).unwrap()
    }

    fn session() -> Session {
        let token = CookieToken::generate().unwrap();
        Session::begin(token, NewSession::sample("ada"), UnixTime(1_000), UnixTime(1_060), UnixTime(1_600))
    }

    fn opens(sealer: &Sealer, session: &Session, record: &Record) -> bool {
        sealer.open_record(&session.token, &session.key, record).is_ok()
    }

    #[test]
    fn what_is_sealed_opens_whole() {
        let (sealer, session) = (ring(&[1]), session());
        let record = sealer.seal(&session).unwrap();
        let payload = sealer.open_record(&session.token, &session.key, &record).unwrap();
        assert_eq!(payload.identity, session.identity);
        assert_eq!(payload.authenticated_at, session.authenticated_at);
        // `Debug` hides secrets: compare them as they are written.
        let spelled = |tokens| payload::write(&session.identity, UnixTime(0), tokens).unwrap();
        assert_eq!(spelled(&payload.tokens), spelled(&session.tokens));
        for secret in ["login-token", "refresh-token", "analytics-token", "id-token"] {
            assert!(!record.sealed.windows(secret.len()).any(|window| window == secret.as_bytes()));
            assert!(!format!("{session:?}{sealer:?}{payload:?}").contains(secret));
        }
        assert_ne!(sealer.seal(&session).unwrap().sealed, record.sealed, "every sealing has its own nonce");
    }

    #[test]
    fn a_record_opens_only_where_it_belongs() {
        let (sealer, mine, other) = (ring(&[1]), session(), session());
        let record = sealer.seal(&mine).unwrap();
        assert!(opens(&sealer, &mine, &record));
        // The sliding end moves without sealing again.
        assert!(opens(&sealer, &mine, &Record { expires_at: UnixTime(1_090), ..record.clone() }));
        assert!(!opens(&sealer, &other, &record), "another session's place and cookie");
        assert!(sealer.open_record(&other.token, &mine.key, &record).is_err(), "another cookie key");
        assert!(sealer.open_record(&mine.token, &other.key, &record).is_err(), "swapped in the store");
        let moved = [
            Record { version: 2, ..record.clone() },
            Record { issuer: "https://idp.examplf".to_owned(), ..record.clone() },
            Record { subject: "eve".to_owned(), ..record.clone() },
            Record { idp_session: None, ..record.clone() },
            Record { idp_session: Some(String::new()), ..record.clone() },
            Record { created_at: UnixTime(1_001), ..record.clone() },
            Record { ends_at: UnixTime(9_999), ..record.clone() },
            Record { issuer: "https://idp.examplea".to_owned(), subject: "da".to_owned(), ..record.clone() },
        ];
        assert!(moved.iter().all(|record| !opens(&sealer, &mine, record)));
        let next = sealer.seal(&mine.next(mine.tokens.clone())).unwrap();
        assert!(opens(&sealer, &mine, &next), "the same cookie opens the next version");
        assert!(!opens(&sealer, &mine, &Record { sealed: record.sealed.clone(), ..next }), "rolled back");
    }

    #[test]
    fn damaged_bytes_do_not_open() {
        let (ring, session) = (ring(&[1]), session());
        let record = ring.seal(&session).unwrap();
        for length in 0..record.sealed.len() {
            let sealed = record.sealed[..length].to_vec();
            assert!(!opens(&ring, &session, &Record { sealed, ..record.clone() }), "{length}");
        }
        for index in 0..record.sealed.len() {
            let mut sealed = record.sealed.clone();
            sealed[index] ^= 1;
            assert!(!opens(&ring, &session, &Record { sealed, ..record.clone() }), "{index}");
        }
    }

    #[test]
    fn the_ring_turns() {
        let session = session();
        let old = ring(&[1]).seal(&session).unwrap();
        assert!(opens(&ring(&[2, 1]), &session, &old));
        assert!(!opens(&ring(&[2]), &session, &old));
        let new = ring(&[2, 1]).seal(&session).unwrap();
        assert!(opens(&ring(&[2]), &session, &new) && !opens(&ring(&[1]), &session, &new));
        let csrf = ring(&[1]).csrf_token(&session.key);
        assert!(ring(&[2, 1]).csrf_matches(&session.key, csrf.as_bytes()));
        assert!(!ring(&[2]).csrf_matches(&session.key, csrf.as_bytes()));
    }

    #[test]
    fn notes_open_with_their_state_alone() {
        let sealer = ring(&[1]);
        let note = sealer.seal_note("state", b"verifier").unwrap();
        assert_eq!(sealer.open_note("state", &note).unwrap(), b"verifier");
        assert_eq!(sealer.open_note("other", &note), Err(Unsealable));
        assert_eq!(ring(&[2]).open_note("state", &note), Err(Unsealable));
    }

    #[test]
    fn what_is_shared_opens_in_its_place_by_any_key_of_the_ring() {
        let shared = ring(&[1]).seal_shared("here", b"token").unwrap();
        assert_eq!(*ring(&[2, 1]).open_shared("here", &shared).unwrap(), b"token");
        assert!(ring(&[2]).open_shared("here", &shared).is_err());
        assert!(ring(&[1]).open_shared("there", &shared).is_err());
        assert!(ring(&[1]).open_note("", &shared).is_err(), "not for another purpose");
    }

    #[test]
    fn csrf_tokens_belong_to_one_session() {
        let (sealer, mine, other) = (ring(&[1]), session(), session());
        let token = sealer.csrf_token(&mine.key);
        assert_eq!(token.len(), 43);
        assert!(sealer.csrf_matches(&mine.key, token.as_bytes()));
        assert!(!sealer.csrf_matches(&other.key, token.as_bytes()));
        for wrong in ["", &token.chars().skip(1).collect::<String>(), &format!("{token}A"), &token.to_lowercase()] {
            assert!(!sealer.csrf_matches(&mine.key, wrong.as_bytes()), "{wrong}");
        }
    }
}
