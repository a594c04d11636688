//! Something of the provider's that we keep: fetched when first needed, renewed in the background
//! when old, and kept when a renewal fails, so that a provider that is down costs as little as it can.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::error::IdpError;
use crate::resilience::{Clock, SingleFlight, UnixTime};

/// A held value older than this is fetched again in the background.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// With nothing in hand a failed fetch is tried again after this.
const RETRY_EMPTY: Duration = Duration::from_secs(2);
/// With an old value in hand there is no hurry.
const RETRY_HELD: Duration = Duration::from_secs(30);

type Source<T> = Box<dyn Fn() -> BoxFuture<'static, Result<T, IdpError>> + Send + Sync>;
type Fetched<T> = Result<Arc<T>, IdpError>;

/// The last good value of one source. Clones share it.
pub(super) struct Kept<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    idp: String,
    what: &'static str,
    source: Source<T>,
    lack: fn(&T) -> Option<IdpError>,
    clock: Arc<dyn Clock>,
    flight: SingleFlight<(), Fetched<T>>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Option<Arc<T>>,
    fetched_at: Option<UnixTime>,
    failed: Option<(UnixTime, IdpError)>,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("what", &self.inner.what).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Kept<T> {
    /// `first` is what is used until the first fetch succeeds; `idp` and `what` name it in the log. `lack`: what is
    /// missing in a value, which then takes no whole one's place and is asked for again soon.
    pub(super) fn new(
        idp: &str,
        what: &'static str,
        clock: Arc<dyn Clock>,
        first: Option<T>,
        lack: fn(&T) -> Option<IdpError>,
        source: impl Fn() -> BoxFuture<'static, Result<T, IdpError>> + Send + Sync + 'static,
    ) -> Self {
        let state = Mutex::new(State { value: first.map(Arc::new), fetched_at: None, failed: None });
        let idp = idp.to_owned();
        let inner = Inner { idp, what, source: Box::new(source), lack, clock, flight: SingleFlight::default(), state };
        Self { inner: Arc::new(inner) }
    }

    /// The value in hand, without asking anybody.
    pub(super) fn peek(&self) -> Option<Arc<T>> {
        self.inner.state.lock().value.clone()
    }

    /// The value in hand (renewed behind the caller's back when old), else a fetched one.
    pub(super) async fn get(&self) -> Fetched<T> {
        let now = self.inner.clock.now();
        let (held, wanted, due) = {
            let state = self.inner.state.lock();
            if state.value.is_none()
                && let Some(failure) = state.recent_failure(now, RETRY_EMPTY)
            {
                return Err(failure);
            }
            let lacking = state.value.as_deref().is_some_and(|value| (self.inner.lack)(value).is_some());
            let wanted = lacking && state.is_due(now, RETRY_EMPTY, RETRY_EMPTY);
            (state.value.clone(), wanted, state.is_due(now, MAX_AGE, RETRY_HELD))
        };
        let Some(value) = held else { return self.fetch().await };
        if wanted {
            return self.fetch().await.or(Ok(value));
        }
        if due {
            let kept = self.clone();
            tokio::spawn(async move { kept.fetch().await });
        }
        Ok(value)
    }

    /// Asks now, together with whoever else is asking.
    pub(super) async fn fetch(&self) -> Fetched<T> {
        let inner = Arc::clone(&self.inner);
        let fetched = self.inner.flight.run((), || async move { inner.ask().await }).await;
        fetched.unwrap_or(Err(IdpError::Interrupted))
    }

    /// Why the latest fetch failed; `None` when it succeeded or there was none.
    pub(super) fn failure(&self) -> Option<IdpError> {
        self.inner.state.lock().failed.as_ref().map(|(_, error)| error.clone())
    }
}

impl<T> Inner<T> {
    async fn ask(&self) -> Fetched<T> {
        let outcome = (self.source)().await;
        let now = self.clock.now();
        let mut state = self.state.lock();
        let replaces = |value: T| match (self.lack)(&value) {
            Some(missing) if state.value.as_deref().is_some_and(|held| (self.lack)(held).is_none()) => Err(missing),
            _ => Ok(value),
        };
        match outcome.and_then(replaces) {
            Ok(value) => {
                let value = Arc::new(value);
                state.value = Some(Arc::clone(&value));
                state.fetched_at = Some(now);
                state.failed = None;
                Ok(value)
            }
            Err(error) => {
                let held = state.value.is_some();
                tracing::warn!(idp = self.idp, what = self.what, %error, kept_last_good = held, "provider could not be asked");
                state.failed = Some((now, error.clone()));
                Err(error)
            }
        }
    }
}

impl<T> State<T> {
    /// Whether it is that old, and no fetch failed so lately.
    fn is_due(&self, now: UnixTime, age: Duration, retry: Duration) -> bool {
        let fresh = self.fetched_at.is_some_and(|at| at <= now && at.until(now) < age);
        !fresh && self.recent_failure(now, retry).is_none()
    }

    /// A clock that was set back must not silence us until it has caught up.
    fn recent_failure(&self, now: UnixTime, span: Duration) -> Option<IdpError> {
        let (at, error) = self.failed.as_ref()?;
        (*at <= now && at.until(now) < span).then(|| error.clone())
    }
}
