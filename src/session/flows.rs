//! Logins under way, and leases: what the store keeps for a short while beside the sessions.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::flow::FLOW_LIFETIME;
use super::key::SessionKey;
use super::lease::Lease;
use super::model::Session;
use super::moment::Moment;
use super::sessions::{Sessions, no_random, unsealed};
use super::store::StoreError;
use crate::crypto::{draw, hashed};
use crate::resilience::UnixTime;

/// How long something stays claimed of which nothing more is heard.
const CLAIM: Duration = Duration::from_secs(5);
/// How often one who has it is waited for, and how long between.
const CLAIM_LOOKS: usize = 40;
const CLAIM_LOOK: Duration = Duration::from_millis(50);

/// What [`Sessions::claim`] gave. It may lapse, and be another one's by the time it is given back.
#[derive(Debug)]
pub struct Claim {
    name: String,
    value: Vec<u8>,
}

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

    /// Takes `id` for this caller, who marks it ([`Self::mark`]) or gives it back ([`Self::release_claim`]); `None` where it
    /// was marked before. Waits for another who has it; one who was killed has it for a few seconds.
    pub async fn claim(&self, id: &str) -> Result<Option<Claim>, StoreError> {
        // A store that is asked again after a lost answer knows its own note by its value: no two may be equal.
        let (name, value) = (mark_name(id), format!("claimed {}", random_text()?).into_bytes());
        for _look in 0..CLAIM_LOOKS {
            let now = self.now()?;
            if self.store.put_note(&name, value.clone(), now.plus(CLAIM), now).await? {
                return Ok(Some(Claim { name, value }));
            }
            if self.is_marked(id).await? {
                return Ok(None);
            }
            tokio::time::sleep(CLAIM_LOOK).await;
        }
        Err(StoreError::new("notes", "another one is at it"))
    }

    /// Gives back what was claimed, unless it has lapsed: then it is another one's claim that is there, or their mark.
    pub async fn release_claim(&self, claim: Claim) -> Result<(), StoreError> {
        let now = self.now()?;
        if self.store.read_note(&claim.name, now).await?.is_some_and(|there| there == claim.value) {
            self.store.take_note(&claim.name, now).await?;
        }
        Ok(())
    }

    /// Whether `id` is marked ([`Self::mark`]).
    pub async fn is_marked(&self, id: &str) -> Result<bool, StoreError> {
        let note = self.store.read_note(&mark_name(id), self.now()?).await?;
        Ok(note.and_then(|note| Moment::read(&note)).is_some())
    }

    /// Whether `id` was marked after `moment`.
    pub async fn marked_since(&self, id: &str, moment: Moment) -> Result<bool, StoreError> {
        let note = self.store.read_note(&mark_name(id), self.now()?).await?;
        Ok(note.and_then(|note| Moment::read(&note)).is_some_and(|marked| marked.is_after(moment)))
    }

    /// Marks `id` until `until`.
    pub async fn mark(&self, id: &str, until: UnixTime) -> Result<(), StoreError> {
        self.store.set_note(&mark_name(id), self.moment().to_string().into_bytes(), until, self.now()?).await
    }

    /// Now, to be compared with what others mark.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    /// Ends a session whose browser has got another one.
    pub async fn replace(&self, old: &SessionKey) -> Result<bool, StoreError> {
        let until = self.now()?.plus(FLOW_LIFETIME);
        if let Err(error) = self.mark(&replaced_id(old), until).await {
            tracing::warn!(%error, "it cannot be noted that a session was replaced");
        }
        self.end_key(old, "replaced").await
    }

    /// Whether [`Self::replace`] ended it, lately.
    pub async fn was_replaced(&self, session: &Session) -> Result<bool, StoreError> {
        self.is_marked(&replaced_id(&session.key)).await
    }

    /// Asks every replica to leave `name` alone for `span`, and up to a second more: time is counted in seconds here.
    pub async fn back_off(&self, name: &str, span: Duration) -> Result<(), StoreError> {
        let now = self.now()?;
        // Of `now` and `span` each is cut to a whole second.
        let until = now.plus(span.saturating_add(Duration::from_millis(1_999)));
        self.store.set_note(&back_off_name(name), until.to_string().into_bytes(), until, now).await
    }

    /// For how long `name` is to be left alone, if somebody asked for that.
    pub async fn backing_off(&self, name: &str) -> Result<Option<Duration>, StoreError> {
        let now = self.now()?;
        let note = self.store.read_note(&back_off_name(name), now).await?;
        let until = note.and_then(|note| str::from_utf8(&note).ok()?.parse().ok()).map(UnixTime);
        Ok(until.map(|until| now.until(until)).filter(|left| !left.is_zero()))
    }

    /// Takes the lease `name` for `span`; `None` while somebody has it.
    pub async fn lease(&self, name: &str, span: Duration) -> Result<Option<Lease>, StoreError> {
        let holder = random_text()?;
        let fence = self.store.lease(name, &holder, span, self.now()?).await?;
        Ok(fence.map(|fence| self.held(fence, name, holder, span)))
    }

    /// The same, also right after an outage of the store, when somebody may have it who is not back yet: for what does no
    /// harm when two do it.
    pub(super) async fn lease_at_once(&self, name: &str, span: Duration) -> Result<Option<Lease>, StoreError> {
        let holder = random_text()?;
        let fence = self.store.renew_lease(name, &holder, span, self.now()?).await?;
        Ok(fence.map(|fence| self.held(fence, name, holder, span)))
    }

    fn held(&self, fence: u64, name: &str, holder: String, span: Duration) -> Lease {
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        Lease { fence, name: name.to_owned(), holder, span, clock, store }
    }
}

fn replaced_id(key: &SessionKey) -> String {
    format!("replaced {}", key.hex())
}

/// Of 96 random bits.
fn random_text() -> Result<String, StoreError> {
    draw::<12>().map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).map_err(no_random)
}

fn back_off_name(name: &str) -> String {
    format!("forborne:{name}")
}

/// Others choose `id`: hashed, it has one length and no separators.
fn mark_name(id: &str) -> String {
    format!("told:{}", hashed(id))
}

/// `state` travels through the browser's address bar; the store keeps only its hash.
fn note_name(state: &str) -> String {
    format!("flow:{}", hashed(state))
}
