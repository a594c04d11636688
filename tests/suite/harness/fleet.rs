//! Three replicas, many sessions, and a watch over every answer they give: whose it was, what it said,
//! how long it took.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use pingora_bff::config::{RedisConfig, Secret, SessionConfig, StoreConfig};
use pingora_bff::resilience::{Clock, FleetClock};
use pingora_bff::session::{AccessToken, Identity, NewSession, Ready, Sessions, Tokens};
use pingora_bff::telemetry::Metrics;
use tokio::task::JoinSet;

use super::config::{SESSION_SECRET, Setup};
use super::edge::Edge;
use super::provider::AUDIENCES;
use super::{Browser, builder, redis_config};

/// Three replicas of one setup.
pub(crate) async fn replicas(setup: &Setup) -> [Edge; 3] {
    let first = setup.clone().start().await;
    let second = setup.clone().start_beside(&first).await;
    let third = setup.clone().start_beside(&first).await;
    let edges = [first, second, third];
    welcome(setup, &edges.each_ref()).await;
    edges
}

/// The provider sends users back to each of them.
pub(crate) async fn welcome(setup: &Setup, edges: &[&Edge]) {
    let mut metadata = setup.client_metadata().clone();
    metadata["redirect_uris"] = edges.iter().map(|edge| edge.url("/auth/callback")).collect();
    edges[0].provider.register(&edges[0].client_id, &edges[0].origin, &metadata).await;
}

/// One session, from outside.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) user: String,
    /// What services are sent for it; of a real login it is not known.
    pub(crate) bearer: Option<String>,
    pub(crate) cookie: String,
}

/// What edges write to: sessions are put there as a login would, without one.
pub(crate) fn registry(store: &str, replica_wait: Duration) -> Sessions {
    let config = RedisConfig { key_prefix: "bff:".to_owned(), replica_wait, ..redis_config(store) };
    let config = session_config(StoreConfig::Redis(Box::new(config)));
    let clock: Arc<dyn Clock> = Arc::new(FleetClock::default());
    Sessions::open(&config, clock, Arc::new(Metrics::new().unwrap())).unwrap()
}

/// What edges of the suite are told about sessions in that store.
pub(crate) fn session_config(store: StoreConfig) -> SessionConfig {
    SessionConfig {
        store,
        secrets: vec![Secret::new(SESSION_SECRET)],
        grace: Duration::ZERO,
        max_flows: 0,
        ..SessionConfig::default()
    }
}

/// One more session of `user`, whose token is `token-of-{number}` and never ends.
pub(crate) async fn enrol(registry: &Sessions, issuer: &str, user: &str, number: usize) -> Option<Member> {
    let bearer = format!("token-of-{number}");
    let now = pingora_bff::resilience::SystemClock.now();
    let identity = Identity {
        issuer: issuer.to_owned(),
        subject: user.to_owned(),
        provider: "testidp".to_owned(),
        claims: BTreeMap::new(),
    };
    let login = AccessToken {
        secret: Secret::new(&bearer),
        audience: vec![AUDIENCES[0].to_owned()],
        scopes: Vec::new(),
        issued_at: now,
        expires_at: None,
        ready: Ready::default(),
    };
    let tokens = Tokens {
        id_token: Secret::new("of nobody"),
        refresh_token: None,
        login,
        services: BTreeMap::new(),
        granted_audiences: Vec::new(),
    };
    let new = NewSession { identity, idp_session: None, authenticated_at: now, tokens };
    let (token, _) = registry.create(new).await.ok()?;
    Some(Member { user: user.to_owned(), bearer: Some(bearer), cookie: format!("bff_session={}", token.expose()) })
}

/// So many sessions, each of a user of its own.
pub(crate) async fn enrol_many(store: &str, issuer: &str, count: usize) -> Vec<Member> {
    let registry = &registry(store, Duration::ZERO);
    let one = |number| async move {
        // A busy machine may leave a question without its answer.
        for _ in 0..5 {
            if let Some(member) = enrol(registry, issuer, &format!("user{number}"), number).await {
                return member;
            }
        }
        panic!("no session for user{number}");
    };
    futures::stream::iter((0..count).map(one)).buffered(32).collect().await
}

/// So many users, logged in at the provider, a few at a time.
pub(crate) async fn log_in_many(edges: &[Edge], count: usize) -> Vec<Member> {
    let mut members = Vec::new();
    for first in (0..count).step_by(8) {
        let log_in = (first..count.min(first + 8)).map(|number| async move {
            let (edge, user) = (&edges[number % edges.len()], format!("user{number}"));
            let browser = Browser::logged_in(edge, &user).await;
            Member { user, bearer: None, cookie: browser.cookie_header(&edge.origin) }
        });
        members.extend(futures::future::join_all(log_in).await);
    }
    members
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    /// Whom the service was told to be asking, as it says.
    pub(crate) user: String,
    /// What it was sent as a token.
    pub(crate) bearer: String,
    pub(crate) retry_after: bool,
    pub(crate) set_cookie: bool,
}

/// Asks an echo service through an edge; the error of a request that was not answered.
pub(crate) async fn look(client: &reqwest::Client, url: &str, cookie: &str) -> Result<Seen, String> {
    let answer = client.get(url).header("cookie", cookie).send().await.map_err(|error| format!("{error:?}"))?;
    let has = |name: &str| answer.headers().contains_key(name);
    let (status, retry_after, set_cookie) = (answer.status().as_u16(), has("retry-after"), has("set-cookie"));
    let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
    let body: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let of = |wanted: &str| {
        let pairs = body["headers"].as_array().cloned().unwrap_or_default();
        let pair = pairs.iter().find(|pair| pair[0].as_str().is_some_and(|name| name.eq_ignore_ascii_case(wanted)));
        pair.and_then(|pair| pair[1].as_str()).unwrap_or_default().to_owned()
    };
    let bearer = of("authorization").trim_start_matches("Bearer ").to_owned();
    // A service for caches says nothing but the user.
    let user =
        if body.is_null() { text.split(" #").next().unwrap_or_default().to_owned() } else { of("x-original-user") };
    Ok(Seen { status, user, bearer, retry_after, set_cookie })
}

impl Member {
    /// Whether a served answer is this member's own.
    pub(crate) fn owns(&self, seen: &Seen) -> bool {
        let named = seen.user.strip_suffix(&self.user).is_some_and(|rest| rest.ends_with(':'));
        named && self.bearer.as_ref().is_none_or(|bearer| seen.bearer.is_empty() || seen.bearer == *bearer)
    }
}

/// What a load has seen so far.
#[derive(Default)]
pub(crate) struct Watch {
    stop: AtomicBool,
    /// Faults are over: whatever is not served from now on is late.
    healed: AtomicBool,
    pub(crate) served: AtomicUsize,
    pub(crate) unavailable: AtomicUsize,
    /// Not 200 although all is well.
    late: AtomicUsize,
    /// Answers that were somebody else's.
    wrong: Mutex<Vec<String>>,
    /// Other statuses, answers with a cookie, 503 without `Retry-After`, requests without an answer.
    odd: Mutex<BTreeMap<String, usize>>,
    took: Mutex<Vec<Duration>>,
}

/// Checks beyond the owner; what is wrong.
pub(crate) type Check = fn(&Member, &str, &Seen) -> Option<String>;

/// A load on many sessions.
pub(crate) struct Fleet {
    pub(crate) watch: Arc<Watch>,
    workers: JoinSet<()>,
}

impl Fleet {
    /// So many workers share the members; each asks one after the other, `pause` between them. A member's
    /// requests go to `urls[number % urls.len()]` first, and from there on in turn where `roaming`.
    pub(crate) fn start(members: &[Member], urls: &[String], workers: usize, pause: Duration, roaming: bool) -> Self {
        Self::checking(members, urls, workers, pause, roaming, |_, _, _| None)
    }

    pub(crate) fn checking(
        members: &[Member],
        urls: &[String],
        workers: usize,
        pause: Duration,
        roaming: bool,
        check: Check,
    ) -> Self {
        let watch = Arc::new(Watch::default());
        let mut set = JoinSet::new();
        for worker in 0..workers {
            let mine = members.iter().cloned().enumerate().skip(worker).step_by(workers).collect::<Vec<_>>();
            let (watch, urls) = (Arc::clone(&watch), urls.to_vec());
            // Every third speaks HTTP/2.
            let client = if worker % 3 == 2 { builder().http2_prior_knowledge() } else { builder() };
            let client = client.build().unwrap();
            set.spawn(async move {
                for round in 0.. {
                    for (number, member) in &mine {
                        if watch.stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let turn = if roaming { number + round } else { *number };
                        watch.ask(&client, member, &urls[turn % urls.len()], check).await;
                        tokio::time::sleep(pause).await;
                    }
                    if mine.is_empty() {
                        return;
                    }
                }
            });
        }
        Self { watch, workers: set }
    }

    pub(crate) async fn stop(self) -> Arc<Watch> {
        self.watch.stop.store(true, Ordering::Relaxed);
        self.workers.join_all().await;
        self.watch
    }
}

impl Watch {
    pub(crate) async fn ask(&self, client: &reqwest::Client, member: &Member, url: &str, check: Check) {
        let (healed, begun) = (self.healed.load(Ordering::SeqCst), Instant::now());
        let seen = look(client, url, &member.cookie).await;
        self.took.lock().unwrap().push(begun.elapsed());
        let odd = |what: String| *self.odd.lock().unwrap().entry(what).or_default() += 1;
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => {
                self.late.fetch_add(usize::from(healed), Ordering::SeqCst);
                return odd(format!("no answer: {}", error.rsplit("source: ").next().unwrap_or_default()));
            }
        };
        if seen.set_cookie {
            odd(format!("{} with a cookie", seen.status));
        }
        match seen.status {
            200 if member.owns(&seen) => {
                self.served.fetch_add(1, Ordering::SeqCst);
                if let Some(fault) = check(member, url, &seen) {
                    self.wrong.lock().unwrap().push(fault);
                }
            }
            200 => self.wrong.lock().unwrap().push(format!("{seen:?} for {}", member.user)),
            503 if seen.retry_after => drop(self.unavailable.fetch_add(1, Ordering::SeqCst)),
            503 => odd("503 without Retry-After".to_owned()),
            status => odd(status.to_string()),
        }
        self.late.fetch_add(usize::from(healed && seen.status != 200), Ordering::SeqCst);
    }

    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    pub(crate) fn unavailable(&self) -> usize {
        self.unavailable.load(Ordering::SeqCst)
    }

    pub(crate) fn late(&self) -> usize {
        self.late.load(Ordering::SeqCst)
    }

    /// Statuses beyond 200 and 503, and other oddities.
    pub(crate) fn odd(&self) -> BTreeMap<String, usize> {
        self.odd.lock().unwrap().clone()
    }

    /// The times so far, in order; the next ones begin anew.
    pub(crate) fn times(&self) -> Vec<Duration> {
        let mut times = std::mem::take(&mut *self.took.lock().unwrap());
        times.sort();
        times
    }

    /// Nobody got anybody else's; and a line for whoever looks at numbers.
    pub(crate) fn nobody_elses(&self, what: &str) {
        let (served, unavailable, late, odd) = (self.served(), self.unavailable(), self.late(), self.odd());
        println!("{what}: served {served}, 503 {unavailable}, late {late}, odd {odd:?}");
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{what}: {} wrong: {:#?}", wrong.len(), wrong.first());
    }
}

/// One of a hundred sorted times.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// How often a member is not served as itself by an edge: a session was lost. 503 says nothing about that.
pub(crate) async fn lost(members: &[Member], edges: &[&Edge]) -> usize {
    let client = builder().build().unwrap();
    let mut lost = 0;
    for part in members.chunks(32) {
        let asked = part.iter().flat_map(|member| edges.iter().map(move |edge| (member, edge.url("/api/own/x"))));
        let asked = asked.map(|(member, url)| {
            let client = client.clone();
            async move {
                for _ in 0..20 {
                    match look(&client, &url, &member.cookie).await {
                        Ok(seen) if seen.status != 503 => return seen.status == 200 && member.owns(&seen),
                        _ => tokio::time::sleep(Duration::from_millis(200)).await,
                    }
                }
                false
            }
        });
        lost += futures::future::join_all(asked).await.into_iter().filter(|found| !found).count();
    }
    lost
}
