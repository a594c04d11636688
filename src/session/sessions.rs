//! The face of this room: finding, making, changing and ending sessions.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use prometheus::IntCounter;

use super::change_feed::ChangeFeed;
use super::cookie_token::CookieToken;
use super::key::SessionKey;
use super::key_ring::SecretError;
use super::limits::Waiting;
use super::live::LiveConnections;
use super::model::{NewSession, Session, Tokens};
use super::near::{MOST, NearCache};
use super::ready::Ready;
use super::seal::{SealError, Sealer};
use super::slide::{Slid, Slide};
use super::store::{
    AT_ONCE, Counted, Listener, MemoryStore, Record, RedisStore, Saved, Selector, SessionStore, SqliteStore, StoreError,
};
use crate::config::{SessionConfig, StoreConfig};
use crate::crypto::NoRandom;
use crate::resilience::{Clock, Rate, Standing, UnixTime};
use crate::telemetry::Metrics;

/// How often a look-up reads again when the session changes under its hands.
const READS: usize = 4;

/// Why the sessions cannot be had at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server's secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// What became of a change.
#[derive(Debug, Clone)]
pub enum Updated {
    /// Written: the new version.
    Saved(Arc<Session>),
    /// Somebody else wrote first: theirs, as read again.
    Conflict(Arc<Session>),
    /// The session was ended meanwhile.
    Gone,
}

/// All sessions. Shared as `Arc<Sessions>`; its futures need a tokio runtime.
#[derive(Debug)]
pub struct Sessions {
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) sealer: Sealer,
    pub(super) near: Arc<NearCache>,
    pub(super) live: Arc<LiveConnections>,
    pub(super) change_feed: Arc<ChangeFeed>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    near_hits: IntCounter,
    pub(super) lifetime: Duration,
    max_lifetime: Duration,
    pub(super) grace: Duration,
    pub(super) max_per_user: usize,
    pub(super) waiting: Waiting,
}

impl Sessions {
    /// Sessions in `store`, sealed by `sealer`.
    #[must_use]
    pub fn new(
        store: Arc<dyn SessionStore>,
        sealer: Sealer,
        config: &SessionConfig,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let store: Arc<dyn SessionStore> = Arc::new(Counted::new(store, metrics.store_errors.clone()));
        let near = Arc::new(NearCache::new(MOST));
        let live = Arc::new(LiveConnections::new(Arc::clone(&metrics)));
        let change_feed = Arc::new(ChangeFeed::new(Arc::clone(&near), Arc::clone(&live), Arc::clone(&clock)));
        store.listen(Arc::clone(&change_feed) as Arc<dyn Listener>);
        Self {
            store,
            sealer,
            near,
            live,
            change_feed,
            clock,
            near_hits: metrics.session_lookups.with_label_values(&["near", "hit"]),
            metrics,
            lifetime: config.lifetime,
            max_lifetime: config.max_lifetime,
            grace: config.grace,
            max_per_user: config.max_per_user,
            waiting: Waiting::new(config.max_flows),
        }
    }

    /// Sessions in the configured store, with the configured secrets. Blocks; meant for the start.
    pub fn open(config: &SessionConfig, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        // The store first: it makes the folder in which the secret is kept.
        let store: Arc<dyn SessionStore> = match &config.store {
            StoreConfig::Memory => Arc::new(MemoryStore::new()),
            StoreConfig::Sqlite(path) => Arc::new(SqliteStore::open(path)?),
            StoreConfig::Redis(redis) => Arc::new(RedisStore::open(redis, &metrics)?),
        };
        Ok(Self::new(store, Sealer::open(config)?, config, clock, metrics))
    }

    /// Keeps no more than so many bytes of sessions close at hand; others are read from the store. Meant for the start.
    pub fn keep_near(&self, bytes: u64) {
        self.near.bound(bytes.min(MOST));
    }

    /// The live session of this cookie; using it moves its end.
    pub async fn find(&self, token: &CookieToken) -> Result<Option<Arc<Session>>, StoreError> {
        if let Some(session) = self.find_near(token) {
            return Ok(Some(session));
        }
        // Boxed, so that the future every request carries stays small.
        let found = Box::pin(self.find_in_store(token)).await;
        self.count_lookup("near", "miss");
        let result = match &found {
            Ok(Some(_)) => "hit",
            Ok(None) => "miss",
            Err(_) => "error",
        };
        self.count_lookup("store", result);
        found.or_else(|error| self.find_in_grace(token).map(Some).ok_or(error))
    }

    /// The session as it was when the store was last heard, if that was not long ago.
    fn find_in_grace(&self, token: &CookieToken) -> Option<Arc<Session>> {
        let now = self.clock.now();
        if self.change_feed.trusts() || !self.change_feed.bears(now, self.grace) {
            return None;
        }
        let session = self.near.get(token).filter(|session| self.touch(session, now))?;
        self.count_lookup("near", "grace");
        Some(session)
    }

    /// [`Self::find`] without asking the store: `None` says nothing about the session.
    #[must_use]
    pub fn find_near(&self, token: &CookieToken) -> Option<Arc<Session>> {
        if !self.change_feed.trusts() {
            return None;
        }
        let session = self.near.get(token)?;
        if self.touch(&session, self.clock.now()) {
            self.near_hits.inc();
            return Some(session);
        }
        // Over as far as this process knows; another one may have moved the end.
        self.near.remove(&session.key);
        None
    }

    async fn find_in_store(&self, token: &CookieToken) -> Result<Option<Arc<Session>>, StoreError> {
        let now = self.now()?;
        let found = self.read(token, &token.session_key(), now, None).await?;
        Ok(found.filter(|session| self.touch(session, now)))
    }

    /// The session as the store has it now, whatever is close at hand.
    pub async fn reread(&self, session: &Session) -> Result<Option<Arc<Session>>, StoreError> {
        let now = self.now()?;
        let found = self.read(&session.token, &session.key, self.as_told(now), Some(&session.slide)).await?;
        Ok(found.filter(|session| now < session.expires_at()))
    }

    /// Reads until nobody changed the session between the store's answer and the near cache.
    async fn read(
        &self,
        token: &CookieToken,
        key: &SessionKey,
        now: UnixTime,
        slide: Option<&Arc<Slide>>,
    ) -> Result<Option<Arc<Session>>, StoreError> {
        let mut last = None;
        for _ in 0..READS {
            let ticket = self.near.ticket(key);
            let Some(record) = self.store.load(key, now).await? else {
                self.near.remove(key);
                return Ok(None);
            };
            let Some(session) = self.open_record(token, key, record, slide) else { return Ok(None) };
            let session = Arc::new(session);
            if let Ok(here) = self.near.put(ticket, Arc::clone(&session)) {
                // What is here may be of an older read of the same version, never of another cookie.
                return Ok((here.token == *token).then_some(here));
            }
            last = Some(session);
        }
        Ok(last)
    }

    fn open_record(
        &self,
        token: &CookieToken,
        key: &SessionKey,
        record: Record,
        slide: Option<&Arc<Slide>>,
    ) -> Option<Session> {
        let Ok(payload) = self.sealer.open_record(token, key, &record) else {
            // A planted cookie, a changed secret, or a store that was tampered with: no session, and
            // nothing is deleted, for the right cookie may still come.
            tracing::warn!(session = %key.short(), "a stored session does not open with this cookie and secret");
            return None;
        };
        let slide = slide.map_or_else(|| Arc::new(Slide::stored(record.expires_at)), Arc::clone);
        slide.learn(record.expires_at);
        Some(Session {
            key: *key,
            version: record.version,
            identity: payload.identity,
            idp_session: record.idp_session,
            created_at: record.created_at,
            authenticated_at: payload.authenticated_at,
            ends_at: record.ends_at,
            tokens: payload.tokens,
            token: token.clone(),
            slide,
            arn: Ready::default(),
        })
    }

    /// A session for a login that has just happened, with the cookie that opens it.
    pub async fn create(&self, new: NewSession) -> Result<(CookieToken, Arc<Session>), StoreError> {
        let token = CookieToken::generate().map_err(no_random)?;
        let now = self.now()?;
        let session = Session::begin(token.clone(), new, now, now.plus(self.lifetime), now.plus(self.max_lifetime));
        let record = self.sealer.seal(&session).map_err(unsealed)?;
        let ticket = self.near.ticket(&session.key);
        if let Err(error) = self.store.insert(&session.key, record).await {
            // It may be there all the same, in the place of another login of this person, and no browser gets its cookie.
            let (store, key) = (Arc::clone(&self.store), session.key);
            tokio::spawn(async move { store.delete(&key).await });
            return Err(error);
        }
        let session = Arc::new(session);
        self.near.replace(ticket, &session);
        self.metrics.sessions_created.inc();
        self.metrics.sessions_active.inc();
        Ok((token, session))
    }

    /// Writes other tokens into the session, if it still is the version given. Completes even when
    /// the caller is cancelled.
    pub async fn update(&self, session: &Session, change: Tokens) -> Result<Updated, StoreError> {
        let next = Arc::new(session.next(change));
        let record = self.sealer.seal(&next).map_err(unsealed)?;
        let (near, live, store) = (Arc::clone(&self.near), Arc::clone(&self.live), Arc::clone(&self.store));
        let (written, expected) = (Arc::clone(&next), session.version);
        let saved = complete(async move {
            let ticket = near.ticket(&written.key);
            let saved = store.save(&written.key, record, expected).await?;
            match saved {
                Saved::Yes => near.replace(ticket, &written),
                Saved::Conflict => near.remove(&written.key),
                Saved::Gone => {
                    near.remove(&written.key);
                    live.end(&written.key);
                }
            }
            Ok(saved)
        });
        match saved.await? {
            Saved::Yes => Ok(Updated::Saved(next)),
            Saved::Gone => Ok(Updated::Gone),
            Saved::Conflict => Ok(self.reread(session).await?.map_or(Updated::Gone, Updated::Conflict)),
        }
    }

    /// Ends a session, here and in the store; `false` when it was over already. `reason` is a
    /// metric label: one of few words.
    pub async fn end(&self, session: &Session, reason: &'static str) -> Result<bool, StoreError> {
        self.end_key(&session.key, reason).await
    }

    /// The same, for its tokens as they are at the last: they may have been renewed since `session` was read. `None` when it
    /// was over already, and when it does not open.
    pub async fn end_for_tokens(&self, session: &Session, reason: &'static str) -> Result<Option<Tokens>, StoreError> {
        let record = self.delete(&session.key, reason).await?;
        let opened = record.and_then(|record| self.sealer.open_record(&session.token, &session.key, &record).ok());
        Ok(opened.map(|payload| payload.tokens))
    }

    /// Ends the session of that key.
    pub async fn end_key(&self, key: &SessionKey, reason: &'static str) -> Result<bool, StoreError> {
        Ok(self.delete(key, reason).await?.is_some())
    }

    /// Completes even when the caller is cancelled.
    async fn delete(&self, key: &SessionKey, reason: &'static str) -> Result<Option<Record>, StoreError> {
        let (near, live, store, key) = (Arc::clone(&self.near), Arc::clone(&self.live), Arc::clone(&self.store), *key);
        let ended = complete(async move {
            let ended = store.delete(&key).await;
            // Also when the store failed: then it decides, as soon as it answers again.
            near.remove(&key);
            if ended.is_ok() {
                live.end(&key);
            } else {
                live.doubt(&key);
            }
            ended
        });
        let ended = ended.await?;
        if ended.is_some() {
            self.metrics.sessions_destroyed.with_label_values(&[reason]).inc();
            // Not below none: another process may have begun it since the last sweep counted.
            if self.metrics.sessions_active.get() > 0 {
                self.metrics.sessions_active.dec();
            }
        }
        Ok(ended)
    }

    /// Ends all sessions that `selector` means; how many that were.
    pub async fn end_all(&self, selector: &Selector, reason: &'static str) -> Result<usize, StoreError> {
        self.end_keys(self.keys_of(selector).await?, reason).await
    }

    pub(super) async fn keys_of(&self, selector: &Selector) -> Result<Vec<SessionKey>, StoreError> {
        // A session that is used at this moment may be over as far as the store knows.
        self.store.find(selector, self.as_told(self.now()?)).await
    }

    pub(super) async fn end_keys(&self, keys: Vec<SessionKey>, reason: &'static str) -> Result<usize, StoreError> {
        // Whoever asks has little patience: a thousand sessions are not ended one after the other.
        let ending = stream::iter(keys).map(|key| async move { self.end_key(&key, reason).await });
        let ended: Vec<_> = ending.buffer_unordered(AT_ONCE).collect().await;
        ended.into_iter().try_fold(0, |sum, one| Ok(sum + usize::from(one?)))
    }

    /// Counts one request of `name` for all replicas; `None` where the store is not theirs in common.
    pub async fn count_request(&self, name: &str, rate: &Rate) -> Result<Option<Standing>, StoreError> {
        self.store.count_request(name, rate).await
    }

    /// The token that `csrf.mode: token` asks for; the same for the life of the session.
    #[must_use]
    pub fn csrf_token(&self, session: &Session) -> String {
        self.sealer.csrf_token(&session.key)
    }

    /// Whether `given` is that token, in constant time.
    #[must_use]
    pub fn csrf_matches(&self, session: &Session, given: &[u8]) -> bool {
        self.sealer.csrf_matches(&session.key, given)
    }

    /// Uses the session: `false` when it is over. The store learns of it now and then, in the background.
    fn touch(&self, session: &Arc<Session>, now: UnixTime) -> bool {
        match session.slide.touch(now, self.lifetime, session.ends_at) {
            Slid::Over => false,
            Slid::Here => true,
            Slid::Tell(end) => {
                self.tell_store(session.key, end);
                true
            }
        }
    }

    fn count_lookup(&self, tier: &str, result: &str) {
        self.metrics.session_lookups.with_label_values(&[tier, result]).inc();
    }
}

/// Runs `work` to its end even if the caller's future is dropped: a browser that hangs up must not
/// leave a session half ended.
async fn complete<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::spawn(work).await.map_err(|error| StoreError::new("runtime", error))?
}

pub(super) fn no_random(error: NoRandom) -> StoreError {
    StoreError::new("sealing", error)
}

pub(super) fn unsealed(error: SealError) -> StoreError {
    StoreError::new("sealing", error)
}
