//! Logins under way, and leases: what the store keeps for a short while beside the sessions.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::cookie_token::NoRandom;
use super::flow::FLOW_LIFETIME;
use super::key::SessionKey;
use super::lease::Lease;
use super::model::Session;
use super::sessions::{Sessions, no_random, unsealed};
use super::store::StoreError;
use crate::resilience::{SystemClock, UnixTime};

impl Sessions {
    /// Keeps a login flow under its `state`, sealed to it: who reads the store learns no PKCE verifier.
    pub async fn put_flow(&self, state: &str, flow: &[u8], lifetime: Duration) -> Result<(), StoreError> {
        let sealed = self.sealer.seal_note(state, flow).map_err(unsealed)?;
        let now = self.now()?;
        if self.store.put_note(&note_name(state), sealed, now.plus(lifetime), now).await? {
            Ok(())
        } else {
            Err(StoreError::new("flows", "this state is in use"))
        }
    }

    /// Takes a login flow out: exactly one caller gets it.
    pub async fn take_flow(&self, state: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(sealed) = self.store.take_note(&note_name(state), self.now()?).await? else { return Ok(None) };
        let opened = self.sealer.open_note(state, &sealed);
        if opened.is_err() {
            tracing::warn!("a stored login flow does not open with this secret");
        }
        Ok(opened.ok())
    }

    /// Whether `id` counts as told ([`Self::tell`]).
    pub async fn was_told(&self, id: &str) -> Result<bool, StoreError> {
        self.told_since(id, SystemTime::UNIX_EPOCH).await
    }

    /// The same, told at `since` or later by the clock of who told it.
    pub async fn told_since(&self, id: &str, since: SystemTime) -> Result<bool, StoreError> {
        let note = self.store.read_note(&told_name(id), self.now()?).await?;
        let when = note.map(|note| str::from_utf8(&note).ok().and_then(|when| when.parse().ok()).unwrap_or(u128::MAX));
        Ok(when.is_some_and(|when| when >= millis(since)))
    }

    /// From now on `id` counts as told, until `until`.
    pub async fn tell(&self, id: &str, until: UnixTime) -> Result<(), StoreError> {
        let when = millis(SystemClock::moment()).to_string().into_bytes();
        self.store.set_note(&told_name(id), when, until, self.now()?).await
    }

    /// Ends a session whose browser has got another one.
    pub async fn replace(&self, old: &Session) -> Result<bool, StoreError> {
        let until = self.now()?.plus(FLOW_LIFETIME);
        if let Err(error) = self.tell(&replaced_id(&old.key), until).await {
            tracing::warn!(%error, "it cannot be noted that a session was replaced");
        }
        self.end(old, "replaced").await
    }

    /// Whether [`Self::replace`] ended it, lately.
    pub async fn was_replaced(&self, session: &Session) -> Result<bool, StoreError> {
        self.was_told(&replaced_id(&session.key)).await
    }

    /// Asks every replica to leave `name` alone for `span`, and up to a second more: time is counted in seconds here.
    pub async fn forbear(&self, name: &str, span: Duration) -> Result<(), StoreError> {
        let now = self.now()?;
        // Of `now` and `span` each is cut to a whole second.
        let until = now.plus(span.saturating_add(Duration::from_millis(1_999)));
        self.store.set_note(&forborne_name(name), until.to_string().into_bytes(), until, now).await
    }

    /// For how long `name` is to be left alone, if somebody asked for that.
    pub async fn forborne(&self, name: &str) -> Result<Option<Duration>, StoreError> {
        let now = self.now()?;
        let note = self.store.read_note(&forborne_name(name), now).await?;
        let until = note.and_then(|note| str::from_utf8(&note).ok()?.parse().ok()).map(UnixTime);
        Ok(until.map(|until| now.until(until)).filter(|left| !left.is_zero()))
    }

    /// Takes the lease `name` for `span`; `None` while somebody has it.
    pub async fn lease(&self, name: &str, span: Duration) -> Result<Option<Lease>, StoreError> {
        let holder = random_text()?;
        let fence = self.store.lease(name, &holder, span, self.now()?).await?;
        let (name, store, clock) = (name.to_owned(), Arc::clone(&self.store), Arc::clone(&self.clock));
        Ok(fence.map(|fence| Lease { fence, name, holder, span, clock, store }))
    }
}

fn millis(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()
}

fn replaced_id(key: &SessionKey) -> String {
    format!("replaced {}", key.hex())
}

/// Of 96 random bits.
fn random_text() -> Result<String, StoreError> {
    let mut random = [0; 12];
    rand::fill(&mut random).map_err(|_| no_random(NoRandom))?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

fn forborne_name(name: &str) -> String {
    format!("forborne:{name}")
}

/// Others choose `id`: hashed, it has one length and no separators.
fn told_name(id: &str) -> String {
    format!("told:{}", URL_SAFE_NO_PAD.encode(digest(&SHA256, id.as_bytes())))
}

/// `state` travels through the browser's address bar; the store keeps only its hash.
fn note_name(state: &str) -> String {
    format!("flow:{}", URL_SAFE_NO_PAD.encode(digest(&SHA256, state.as_bytes())))
}
