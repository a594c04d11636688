//! Which server has which key, and whether news of changes arrives from all of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};
use redis::{PushInfo, PushKind, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::super::Listener;
use super::dial::{Dial, Greeted, NoConnection, PATIENCE};
use super::key::slot;
use super::link::{Link, Surroundings};
use super::sentinel::{self, Sentinels};
use crate::config::{RedisAddress, RedisServers};
use crate::session::SessionKey;

/// All servers that keep our keys.
pub(super) struct Nodes {
    pub(super) dial: Dial,
    pub(super) servers: RedisServers,
    pub(super) sentinels: Option<Sentinels>,
    map: RwLock<Arc<Map>>,
    ear: Mutex<Ear>,
    /// Why no node of a cluster tells who has what.
    pub(super) unmapped: Mutex<Option<NoConnection>>,
    /// Somebody found the map to be wrong.
    pub(super) lost: Notify,
    /// Counts the maps; tells those who wait for the next.
    pub(super) maps: watch::Sender<u64>,
    /// What we say ourselves is not news.
    origin: String,
    questions: AtomicU64,
    runtime: Handle,
}

/// Who has what.
#[derive(Default)]
pub(super) struct Map {
    /// The last slot of each range, ascending, and who has it.
    ranges: Vec<(u16, Arc<Kept>)>,
    pub(super) kept: Vec<Arc<Kept>>,
    /// Every slot is somebody's.
    whole: bool,
}

/// A link with the task that keeps it; the task ends with it.
pub(super) struct Kept {
    pub(super) address: Option<RedisAddress>,
    pub(super) link: Arc<Link>,
    task: AbortHandle,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Ear {
    listener: Option<Arc<dyn Listener>>,
    hearing: bool,
    /// What time it was by the last two words, and when they were said: nobody may have listened yet.
    times: [Option<(Duration, Duration, Instant)>; 2],
}

impl Nodes {
    /// Starts to connect, on `runtime`.
    pub(super) fn start(dial: Dial, servers: RedisServers, origin: String, runtime: Handle) -> Arc<Self> {
        let sentinels = match &servers {
            RedisServers::Sentinel { sentinels, master } => Some(Sentinels::new(sentinels, master)),
            RedisServers::One(_) | RedisServers::Cluster(_) => None,
        };
        let nodes = Arc::new(Self {
            dial,
            servers,
            sentinels,
            map: RwLock::default(),
            unmapped: Mutex::default(),
            ear: Mutex::default(),
            lost: Notify::new(),
            maps: watch::channel(0).0,
            origin,
            questions: AtomicU64::new(0),
            runtime,
        });
        match &nodes.servers {
            RedisServers::Cluster(_) => {
                nodes.runtime.spawn(super::cluster::survey(Arc::downgrade(&nodes)));
            }
            RedisServers::One(address) => nodes.keep_one(address.to_string()),
            RedisServers::Sentinel { master, .. } => nodes.keep_one(master.clone()),
        }
        for number in 0..nodes.sentinels.as_ref().map_or(0, Sentinels::count) {
            nodes.runtime.spawn(sentinel::heed(Arc::downgrade(&nodes), number));
        }
        nodes
    }

    fn keep_one(self: &Arc<Self>, name: String) {
        let kept = self.keep(name, None);
        self.adopt(vec![(u16::MAX, kept)], true);
    }

    /// A new link, to `address` or to whoever the sentinels name.
    pub(super) fn keep(self: &Arc<Self>, name: String, address: Option<RedisAddress>) -> Arc<Kept> {
        let link = Link::new(name);
        let around = Arc::new(Around { nodes: Arc::downgrade(self), address: address.clone() });
        let another_had_it = *self.maps.borrow() > 0;
        let task = self.runtime.spawn(Arc::clone(&link).keep(around, another_had_it)).abort_handle();
        Arc::new(Kept { address, link, task })
    }

    /// From now on `ranges` say who has what.
    pub(super) fn adopt(&self, ranges: Vec<(u16, Arc<Kept>)>, whole: bool) {
        let mut kept: Vec<Arc<Kept>> = Vec::new();
        for (_, one) in &ranges {
            if !kept.iter().any(|there| Arc::ptr_eq(there, one)) {
                kept.push(Arc::clone(one));
            }
        }
        *self.map.write() = Arc::new(Map { ranges, kept, whole });
        self.maps.send_modify(|count| *count += 1);
        self.reckon();
    }

    pub(super) fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.read())
    }

    /// Who has `key`.
    pub(super) fn link_of(&self, key: &str) -> Option<Arc<Link>> {
        let (map, slot) = (self.map(), slot(key));
        let at = map.ranges.partition_point(|(last, _)| *last < slot);
        map.ranges.get(at).map(|(_, kept)| Arc::clone(&kept.link))
    }

    /// Waits, a moment at the most, until whoever has `key` has been back for a moment.
    pub(super) async fn settle(&self, key: &str) {
        if let Some(link) = self.link_of(key) {
            // One that was lost a moment ago is waited for by the question, too, which would then find it just back.
            let _ = link.connection(Instant::now() + PATIENCE).await;
            tokio::time::sleep(link.unsettled()).await;
        }
    }

    /// The link to a server that another one named as `host:port`.
    pub(super) fn link_at(&self, address: &str) -> Option<Arc<Link>> {
        let map = self.map();
        let kept = map.kept.iter().find(|kept| kept.address.as_ref().is_some_and(|at| at.to_string() == address));
        kept.map(|kept| Arc::clone(&kept.link))
    }

    /// Leaves a master that is none any more by what the sentinels said last.
    pub(super) fn follow(&self) {
        let Some(sentinels) = &self.sentinels else { return };
        for kept in &self.map().kept {
            if let Some(current) = kept.link.up()
                && let Some(address) = sentinels.another_than(&current.address)
            {
                kept.link.fail(current.number, &format!("the sentinels made {address} the master"));
            }
        }
    }

    /// Whether whoever is at `address` keeps what it has: an error where the sentinels have another master, or may
    /// have, or do not say.
    pub(super) async fn confirm(&self, address: &RedisAddress) -> Result<(), String> {
        let Some(sentinels) = &self.sentinels else { return Ok(()) };
        let told = sentinels.confirm(&self.dial, address).await;
        self.follow();
        told
    }

    /// Whether every server is connected.
    pub(super) fn all_up(&self) -> bool {
        let map = self.map();
        map.whole && map.kept.iter().all(|kept| kept.link.is_up())
    }

    /// A number no other question has.
    pub(super) fn next_question(&self) -> u64 {
        self.questions.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// What to publish about the session of that key.
    pub(super) fn message(&self, key: &str) -> String {
        format!("{} {key}", self.origin)
    }

    /// From now on `listener` is told; the first one given.
    pub(super) fn listen(&self, listener: Arc<dyn Listener>) {
        let mut ear = self.ear();
        if ear.listener.is_none() {
            ear.hearing = self.all_up();
            if ear.hearing {
                listener.hearing();
            } else {
                listener.deaf(Duration::ZERO);
            }
            for (time, within, told) in ear.times.into_iter().flatten() {
                listener.time(time.saturating_add(told.elapsed()), within);
            }
            ear.listener = Some(listener);
        }
    }

    fn ear(&self) -> MutexGuard<'_, Ear> {
        self.ear.lock()
    }

    /// Whether whoever listens will know what time it is.
    pub(super) fn knows_time(&self) -> bool {
        self.ear().times.iter().all(Option::is_some)
    }

    /// Tells the listener whether news arrives. Called at every turn of a link: none is missed.
    fn reckon(&self) {
        let mut ear = self.ear();
        let hearing = self.all_up();
        if std::mem::replace(&mut ear.hearing, hearing) == hearing {
            return;
        }
        let Some(listener) = &ear.listener else { return };
        if hearing {
            listener.hearing();
        } else {
            let map = self.map();
            let down = map.kept.iter().filter(|kept| !kept.link.is_up());
            listener.deaf(down.map(|kept| kept.link.proved()).max().unwrap_or_default());
        }
    }

    /// Of several servers, each with a clock of its own, the first that is there counts.
    fn told_time(&self, address: Option<&RedisAddress>, now: Duration, within: Duration) {
        let first = self.map().kept.iter().find(|kept| kept.link.is_up()).and_then(|kept| kept.address.clone());
        if first.as_ref() != address {
            return;
        }
        let mut ear = self.ear();
        let [_, last] = ear.times;
        ear.times = [last, Some((now, within, Instant::now()))];
        if let Some(listener) = &ear.listener {
            listener.time(now, within);
        }
    }

    fn emptied(&self) {
        tracing::warn!("somebody emptied the session store: whoever was logged in logs in again");
        if let Some(listener) = &self.ear().listener {
            listener.emptied();
        }
    }

    fn hear(&self, push: &PushInfo) {
        let message = match (&push.kind, push.data.last()) {
            (PushKind::Message, Some(Value::BulkString(message))) => message,
            // Of all keys at once: somebody emptied it.
            (PushKind::Invalidate, Some(Value::Nil)) => return self.emptied(),
            _ => return,
        };
        let mut words = message.splitn(2, |byte| *byte == b' ');
        let (Some(origin), Some(key)) = (words.next(), words.next().and_then(SessionKey::of_hex)) else { return };
        if origin != self.origin.as_bytes()
            && let Some(listener) = &self.ear().listener
        {
            listener.changed(&key);
        }
    }
}

struct Around {
    nodes: Weak<Nodes>,
    /// `None`: ask the sentinels.
    address: Option<RedisAddress>,
}

impl Surroundings for Around {
    async fn dial(
        &self,
        heard: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<(RedisAddress, Greeted), NoConnection> {
        let Some(nodes) = self.nodes.upgrade() else {
            return Err(NoConnection::Unreachable("stopped".to_owned()));
        };
        match (&self.address, &nodes.servers) {
            (Some(address), _) | (None, RedisServers::One(address)) => {
                Ok((address.clone(), nodes.dial.server(address, false, heard).await?))
            }
            (None, RedisServers::Sentinel { .. }) => {
                let sentinels = nodes.sentinels.as_ref();
                let sentinels = sentinels.ok_or_else(|| NoConnection::Unreachable("no sentinels".to_owned()))?;
                let address = sentinels.master(&nodes.dial).await?;
                let greeted = nodes.dial.server(&address, true, heard).await?;
                Ok((address, greeted))
            }
            (None, RedisServers::Cluster(_)) => Err(NoConnection::Unreachable("no address".to_owned())),
        }
    }

    fn time(&self, now: Duration, within: Duration) {
        if let Some(nodes) = self.nodes.upgrade() {
            nodes.told_time(self.address.as_ref(), now, within);
        }
    }

    fn heard(&self, push: PushInfo) {
        if let Some(nodes) = self.nodes.upgrade() {
            nodes.hear(&push);
        }
    }

    fn turned(&self) {
        if let Some(nodes) = self.nodes.upgrade() {
            nodes.reckon();
            if self.address.is_some() {
                nodes.lost.notify_one();
            }
        }
    }
}
