//! What the shared store promises beyond the contract of every store: news to all replicas, bounded
//! answers, outages that end by themselves, and nobody else's answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pingora_bff::config::{CertifiedPair, RedisTlsConfig};
use pingora_bff::resilience::UnixTime;
use pingora_bff::session::SessionKey;
use pingora_bff::session::store::{Listener, Record, RedisStore, Saved, SessionStore, StoreError};
use pingora_bff::telemetry::Metrics;

use crate::harness::{Cluster, Redis, Sentinels, free_port, redis_config, redis_store, scale};

const NOW: UnixTime = UnixTime(10_000);
/// 600 ms of the promise, and what a busy machine adds.
const BOUND: Duration = Duration::from_millis(700);

fn key(number: usize) -> SessionKey {
    let mut key = [0; 32];
    key[0] = u8::try_from(number % 251).unwrap();
    key[8..16].copy_from_slice(&number.to_be_bytes());
    SessionKey(key)
}

/// One that says whose it is.
fn record(version: u64, number: usize) -> Record {
    Record {
        version,
        issuer: "https://idp.example".to_owned(),
        subject: format!("user-{number}"),
        idp_session: Some(format!("sid-{number}")),
        created_at: NOW,
        expires_at: UnixTime(10_900),
        ends_at: UnixTime(11_000),
        sealed: number.to_be_bytes().to_vec(),
    }
}

#[derive(Debug, Default)]
struct Ear {
    heard: Mutex<Vec<SessionKey>>,
    deaf: AtomicUsize,
    hearing: AtomicUsize,
    emptied: AtomicUsize,
}

impl Ear {
    fn at(store: &RedisStore) -> Arc<Self> {
        let ear = Arc::new(Self::default());
        store.listen(Arc::clone(&ear) as Arc<dyn Listener>);
        ear
    }

    fn heard(&self, key: &SessionKey) -> bool {
        self.heard.lock().unwrap().contains(key)
    }

    /// How often it fell silent, and how often it came back.
    fn turns(&self) -> (usize, usize) {
        (self.deaf.load(Ordering::SeqCst), self.hearing.load(Ordering::SeqCst))
    }
}

impl Listener for Ear {
    fn changed(&self, key: &SessionKey) {
        self.heard.lock().unwrap().push(*key);
    }
    fn deaf(&self, ago: Duration) {
        assert!(ago < Duration::from_secs(5), "{ago:?}");
        self.deaf.fetch_add(1, Ordering::SeqCst);
    }
    fn emptied(&self) {
        self.emptied.fetch_add(1, Ordering::SeqCst);
    }
    fn hearing(&self) {
        self.hearing.fetch_add(1, Ordering::SeqCst);
    }
}

/// Two replicas at one `url`: what one changes, the other hears, and soon.
async fn news_travels(url: &str) {
    let (config, metrics) = (redis_config(url), Metrics::new().unwrap());
    let [one, two] = [(); 2].map(|()| RedisStore::open(&config, &metrics).unwrap());
    let (here, there) = (Ear::at(&one), Ear::at(&two));
    let mut slowest = Duration::ZERO;
    for number in 0..50 {
        one.insert(&key(number), record(1, number)).await.unwrap();
        assert_eq!(one.save(&key(number), record(2, number), 1).await.unwrap(), Saved::Yes);
        let begun = Instant::now();
        eventually!("the save is heard", there.heard(&key(number)));
        slowest = slowest.max(begun.elapsed());
        there.heard.lock().unwrap().clear();
        assert!(one.delete(&key(number)).await.unwrap().is_some());
        let begun = Instant::now();
        eventually!("the logout is heard", there.heard(&key(number)));
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(here.heard.lock().unwrap().is_empty(), "what we did ourselves is not news");
}

#[tokio::test]
async fn news_travels_to_every_replica() {
    let redis = Redis::start("");
    news_travels(&redis.url()).await;
    news_travels(&Cluster::start(false).url()).await;
}

#[tokio::test]
async fn a_full_one_says_so_and_takes_what_is_renewed() {
    let redis = Redis::start("maxmemory-policy noeviction");
    let store = redis_store(&redis.url());
    store.insert(&key(1), record(1, 1)).await.unwrap();
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1));
    let (end, span) = (UnixTime(10_100), Duration::from_secs(3));
    assert!(store.insert(&key(2), record(1, 2)).await.unwrap_err().full);
    assert!(store.put_note("flow:a", vec![1], end, NOW).await.unwrap_err().full, "logins");
    assert!(store.lease("refresh:a", "me", span, NOW).await.unwrap().is_some());
    assert!(store.lease("refresh:a", "me", span, NOW).await.unwrap().is_some(), "held on to");
    assert_eq!(store.lease("refresh:a", "you", span, NOW).await.unwrap(), None);
    assert_eq!(store.save(&key(1), record(2, 1), 1).await.unwrap(), Saved::Yes);
    assert!(store.touch(&key(1), UnixTime(10_950)).await.unwrap());
    assert_eq!(store.load(&key(1), NOW).await.unwrap().unwrap().expires_at, UnixTime(10_950));
    store.set_note("forborne:a", vec![1], end, NOW).await.unwrap();
    assert_eq!(store.read_note("forborne:a", NOW).await.unwrap(), Some(vec![1]));
    assert!(store.delete(&key(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn who_empties_it_is_heard() {
    let (redis, cluster) = (Redis::start(""), Cluster::start(false));
    for (url, server) in [(redis.url(), &redis), (cluster.url(), &cluster.masters[1])] {
        let store = redis_store(&url);
        let ear = Ear::at(&store);
        let emptied = |times: usize| ear.emptied.load(Ordering::SeqCst) == times;
        server.ask::<()>(&redis::cmd("FLUSHALL"));
        eventually!("it is heard", emptied(1));
        server.ask::<()>(redis::cmd("FLUSHDB").arg("ASYNC"));
        eventually!("it is heard", emptied(2));
        for kind in ["normal", "pubsub"] {
            server.ask::<i64>(redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind));
        }
        eventually!("it is back", ear.turns().1 == 2);
        server.ask::<()>(&redis::cmd("FLUSHALL"));
        eventually!("it is heard on a new connection", emptied(3));
        store.insert(&key(1), record(1, 1)).await.unwrap();
        store.delete(&key(1)).await.unwrap();
        assert!(emptied(3), "single keys are no news of that kind");
    }
}

#[tokio::test]
async fn a_killed_server_is_an_error_and_comes_back_within_a_second() {
    // Else Redis may lose the last second, and that is not what is asked here.
    let mut redis = Redis::start("appendfsync always");
    let store = redis_store(&redis.url());
    let ear = Ear::at(&store);
    assert_eq!(ear.turns(), (0, 1));
    store.insert(&key(1), record(1, 1)).await.unwrap();
    redis.kill9();
    let begun = Instant::now();
    assert!(store.load(&key(1), NOW).await.is_err(), "never \"not there\"");
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    eventually!("the silence is noticed", ear.turns() == (1, 1));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let begun = Instant::now();
    assert!(store.load(&key(1), NOW).await.is_err());
    assert!(begun.elapsed() < Duration::from_millis(100), "known to be down: {:?}", begun.elapsed());
    assert!(store.ping().await.is_err());
    redis.start_again();
    let back = Instant::now();
    eventually!("it is found again", store.ping().await.is_ok());
    assert_eq!(store.load(&key(1), NOW).await.unwrap(), Some(record(1, 1)));
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    eventually!("news is heard again", ear.turns() == (1, 2));
}

/// How long it takes until the lease is there.
async fn granted(lease: impl Future<Output = Result<Option<u64>, StoreError>>) -> Duration {
    let asked = Instant::now();
    assert!(lease.await.unwrap().is_some());
    asked.elapsed()
}

/// Another replica may have a new refresh token that nobody could store, and come back later.
#[tokio::test]
async fn after_an_outage_strangers_wait_for_a_lease_and_its_holder_does_not() {
    let (mut redis, span) = (Redis::start(""), Duration::from_secs(3));
    let store = redis_store(&redis.url());
    assert!(granted(store.lease("held", "holder", span, NOW)).await < BOUND, "nothing was lost");
    redis.kill9();
    eventually!("it is lost", store.ping().await.is_err());
    let late = redis_store(&redis.url());
    redis.start_again();
    eventually!("it is back", store.ping().await.is_ok() && late.ping().await.is_ok());
    let holder = granted(store.renew_lease("held", "holder", span, NOW));
    let strangers =
        [granted(store.lease("mine", "stranger", span, NOW)), granted(late.lease("its", "late", span, NOW))];
    let (holder, strangers) = tokio::join!(holder, futures::future::join_all(strangers));
    assert!(holder < BOUND, "{holder:?}");
    assert!(strangers.iter().all(|waited| *waited > Duration::from_secs(1)), "{strangers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_answers_in_time_and_is_left_behind() {
    let redis = Redis::start("");
    let store = Arc::new(redis_store(&redis.url()));
    let ear = Ear::at(&store);
    store.insert(&key(1), record(1, 1)).await.unwrap();
    redis.freeze();
    let frozen = Instant::now();
    for _ in 0..3 {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let begun = Instant::now();
                assert!(store.load(&key(1), NOW).await.is_err());
                begun.elapsed()
            });
        }
        let slowest = tasks.join_all().await.into_iter().max().unwrap();
        assert!(slowest < BOUND, "{slowest:?}");
    }
    eventually!("the silence is noticed", ear.turns().0 == 1);
    assert!(frozen.elapsed() < Duration::from_millis(1_500), "{:?}", frozen.elapsed());
    redis.thaw();
    let thawed = Instant::now();
    eventually!("it is found again", store.load(&key(1), NOW).await.is_ok());
    assert!(thawed.elapsed() < Duration::from_secs(1), "{:?}", thawed.elapsed());
}

#[tokio::test]
async fn a_start_without_redis_waits_for_it_in_the_background() {
    let mut redis = Redis::start("");
    redis.kill9();
    let store = redis_store(&redis.url());
    assert!(store.ping().await.is_err());
    redis.start_again();
    let back = Instant::now();
    eventually!("it is found", store.ping().await.is_ok());
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
}

#[test]
fn a_server_that_throws_sessions_away_is_refused() {
    let reason = |lines: &str| {
        let redis = Redis::start(lines);
        RedisStore::open(&redis_config(&redis.url()), &Metrics::new().unwrap()).map_err(|error| error.to_string())
    };
    let refused = reason("maxmemory-policy allkeys-lru").unwrap_err();
    assert!(refused.contains("allkeys-lru") && refused.contains("noeviction"), "{refused}");
    let refused = reason("maxmemory-policy volatile-ttl").unwrap_err();
    assert!(refused.contains("volatile-ttl"), "every key has an end: {refused}");
    // Nobody may ask CONFIG here; INFO tells as well.
    let refused = reason("maxmemory-policy allkeys-lfu\nrename-command CONFIG \"\"").unwrap_err();
    assert!(refused.contains("allkeys-lfu"), "{refused}");
}

#[test]
fn what_is_no_cluster_is_refused_and_its_key_named() {
    let open = |lines: &str| {
        let redis = Redis::start(lines);
        let url = redis.url().replace("redis://", "redis+cluster://");
        RedisStore::open(&redis_config(&url), &Metrics::new().unwrap()).map_err(|error| error.to_string())
    };
    let refused = open("").unwrap_err();
    assert!(refused.contains("`redis://` in `session.store`"), "{refused}");
    // A node that nobody has given any slots yet is waited for.
    open("cluster-enabled yes").unwrap();
}

#[tokio::test]
async fn a_full_server_refuses_logins_and_keeps_sessions() {
    let redis = Redis::start("");
    let store = redis_store(&redis.url());
    store.insert(&key(1), record(1, 1)).await.unwrap();
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1"));
    assert!(store.insert(&key(2), record(1, 2)).await.is_err());
    assert_eq!(store.load(&key(1), NOW).await.unwrap(), Some(record(1, 1)));
    store.ping().await.unwrap();
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("0"));
    store.insert(&key(2), record(1, 2)).await.unwrap();
}

#[tokio::test]
async fn nothing_stays_for_ever() {
    let redis = Redis::start("");
    let store = redis_store(&redis.url());
    store.insert(&key(1), record(1, 1)).await.unwrap();
    store.save(&key(1), record(2, 1), 1).await.unwrap();
    store.touch(&key(1), UnixTime(10_950)).await.unwrap();
    store.put_note("flow:x", b"x".to_vec(), UnixTime(10_600), NOW).await.unwrap();
    store.lease("refresh:x", "me", Duration::from_secs(5), NOW).await.unwrap();
    let keys: Vec<String> = redis.ask(redis::cmd("KEYS").arg("*"));
    assert_eq!(keys.len(), 7, "{keys:?}");
    for name in &keys {
        let left: i64 = redis.ask(redis::cmd("PTTL").arg(name));
        assert!(left > 0, "{name} has no end: {left}");
    }
    // 950 s for the session, moved by the touch, and a little longer for what others may know.
    let session = keys.iter().find(|name| name.ends_with(":session")).unwrap();
    let left: i64 = redis.ask(redis::cmd("PTTL").arg(session));
    assert!((950_000..1_000_000).contains(&left), "{left}");
    store.delete(&key(1)).await.unwrap();
    let keys: Vec<String> = redis.ask(redis::cmd("KEYS").arg("*"));
    assert_eq!(keys.len(), 3, "an ended session is listed nowhere: {keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_questions_never_get_anothers_answer() {
    let redis = Redis::start("");
    let store = Arc::new(redis_store(&redis.url()));
    for number in 0..100 {
        store.insert(&key(number), record(1, number)).await.unwrap();
    }
    let answered = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..16_usize {
        let (store, answered) = (Arc::clone(&store), Arc::clone(&answered));
        tasks.spawn(async move {
            for round in 0..scale(1_000, 62_500) {
                let number = (worker * 37 + round * 11) % 100;
                let key = key(number);
                let load = store.load(&key, NOW);
                // Two of three hang up at some point of the way.
                let patience = Duration::from_micros(if round % 3 == 0 { 5_000_000 } else { fastrand::u64(0..400) });
                if let Ok(found) = tokio::time::timeout(patience, load).await {
                    assert_eq!(found.unwrap(), Some(record(1, number)));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    tasks.join_all().await;
    let answered = answered.load(Ordering::Relaxed);
    let all = 16 * scale(1_000, 62_500);
    println!("{all} questions, {answered} answered, none with another's answer");
    assert!((all * 5 / 16..all).contains(&answered), "some were cut, some were answered: {answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_all_the_time_lose_nothing() {
    let redis = Redis::start("");
    let store = Arc::new(redis_store(&redis.url()));
    for number in 0..20 {
        store.insert(&key(number), record(1, number)).await.unwrap();
    }
    let (mut asked, mut failed) = (0, 0);
    let until = Instant::now() + Duration::from_secs(6);
    let mut cut = Instant::now();
    while Instant::now() < until {
        if cut.elapsed() > Duration::from_millis(200) {
            redis.ask::<i64>(redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal"));
            redis.ask::<i64>(redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub"));
            cut = Instant::now();
        }
        let number = asked % 20;
        match store.load(&key(number), NOW).await {
            Ok(found) => assert_eq!(found, Some(record(1, number))),
            Err(_) => failed += 1,
        }
        asked += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(asked > 100 && failed * 100 <= asked, "{failed} of {asked}");
}

#[tokio::test]
async fn a_fail_over_of_the_sentinels_is_followed() {
    let sentinels = Sentinels::start();
    let store = redis_store(&sentinels.url());
    let ear = Ear::at(&store);
    store.insert(&key(1), record(1, 1)).await.unwrap();
    let copied = || sentinels.servers[1].ask::<Vec<String>>(redis::cmd("KEYS").arg("*:session")).len() == 1;
    eventually!("the replica has it", copied());
    sentinels.servers[0].kill9();
    let killed = Instant::now();
    let mut number = 2;
    loop {
        number += 1;
        if store.insert(&key(number), record(1, number)).await.is_ok() {
            break;
        }
        assert!(killed.elapsed() < Duration::from_secs(15), "no new master");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("write gap {:?}", killed.elapsed());
    assert_eq!(store.load(&key(1), NOW).await.unwrap(), Some(record(1, 1)));
    eventually!("news is heard again", ear.turns().1 == 2);
}

#[tokio::test]
async fn a_lost_master_of_a_cluster_costs_its_slots_only_and_is_replaced() {
    let cluster = Cluster::start(true);
    let store = redis_store(&cluster.url());
    let ear = Ear::at(&store);
    for number in 0..60 {
        store.insert(&key(number), record(1, number)).await.unwrap();
    }
    // Asynchronous replication: what was acknowledged a moment ago is there a moment later.
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.masters[0].kill9();
    let killed = Instant::now();
    let (mut found, mut failed) = (0, 0);
    for number in 0..60 {
        match store.load(&key(number), NOW).await {
            Ok(record_there) => {
                assert_eq!(record_there, Some(record(1, number)));
                found += 1;
            }
            Err(_) => failed += 1,
        }
    }
    assert!(found >= 30 && failed >= 10, "{found} found, {failed} failed");
    store.ping().await.unwrap();
    eventually!("the silence of one is noticed", ear.turns().0 >= 1);
    for number in 0..60 {
        loop {
            match store.load(&key(number), NOW).await {
                Ok(there) => {
                    assert_eq!(there, Some(record(1, number)));
                    break;
                }
                Err(error) => assert!(killed.elapsed() < Duration::from_secs(20), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    println!("all slots again after {:?}", killed.elapsed());
    let leases: Vec<String> = (0..30).map(|number| format!("lease {number}")).collect();
    let leases = leases.iter().map(|name| granted(store.lease(name, "stranger", Duration::from_secs(3), NOW)));
    let longest = futures::future::join_all(leases).await.into_iter().max().unwrap();
    assert!(longest > Duration::from_millis(700), "whoever had one at the dead master comes first: {longest:?}");
    eventually!("news is heard again", ear.turns().1 >= 2);
}

#[tokio::test]
async fn slots_that_move_are_followed() {
    let cluster = Cluster::start(false);
    let store = redis_store(&cluster.url());
    store.put_note("x:foo", b"1".to_vec(), UnixTime(10_600), NOW).await.unwrap();
    // The slot of "foo" goes from the third node to the first while nobody tells us.
    let [first, _, third] = cluster.masters.as_slice() else { panic!() };
    let id = |node: &Redis| node.ask::<String>(redis::cmd("CLUSTER").arg("MYID"));
    let set = |node: &Redis, word: &str, to: &str| {
        node.ask::<()>(redis::cmd("CLUSTER").arg("SETSLOT").arg(12182).arg(word).arg(to));
    };
    set(first, "IMPORTING", &id(third));
    set(third, "MIGRATING", &id(first));
    // Not there any more, not yet there: the third node answers ASK.
    store.put_note("y:foo", b"2".to_vec(), UnixTime(10_600), NOW).await.unwrap();
    let names: Vec<String> = third.ask(redis::cmd("CLUSTER").arg("GETKEYSINSLOT").arg(12182).arg(10));
    let mut migrate = redis::cmd("MIGRATE");
    migrate.arg("127.0.0.1").arg(first.port).arg("").arg(0).arg(1_000).arg("KEYS").arg(&names);
    third.ask::<String>(&migrate);
    for node in [first, third] {
        set(node, "NODE", &id(first));
    }
    assert_eq!(store.take_note("x:foo", NOW).await.unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(store.take_note("y:foo", NOW).await.unwrap().as_deref(), Some(&b"2"[..]));
}

#[tokio::test]
async fn tls_with_our_own_authority_and_a_client_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut authority = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
    std::fs::write(path("ca.pem"), issuer.pem()).unwrap();
    for name in ["server", "client"] {
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.signed_by(&pair, &issuer).unwrap();
        std::fs::write(path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(path(&format!("{name}.key")), pair.serialize_pem()).unwrap();
    }
    let port = free_port();
    let redis = Redis::start(&format!(
        "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients yes\n\
         requirepass \"\"",
        path("server.pem").display(),
        path("server.key").display(),
        path("ca.pem").display()
    ));
    let mut config = redis_config(&format!("redis://localhost:{port}"));
    let open = |config: &_| RedisStore::open(config, &Metrics::new().unwrap()).unwrap();
    config.tls = Some(RedisTlsConfig { ca: Some(path("ca.pem")), client: None });
    assert!(open(&config).ping().await.is_err(), "no certificate of ours");
    let pair = CertifiedPair { cert: path("client.pem"), key: path("client.key") };
    config.tls = Some(RedisTlsConfig { ca: Some(path("ca.pem")), client: Some(pair) });
    let store = open(&config);
    store.insert(&key(1), record(1, 1)).await.unwrap();
    assert_eq!(store.load(&key(1), NOW).await.unwrap(), Some(record(1, 1)));
    config.tls = Some(RedisTlsConfig { ca: None, client: config.tls.unwrap().client });
    assert!(open(&config).ping().await.is_err(), "nobody we know signed that server");
    drop(redis);
}

#[tokio::test]
async fn credentials_and_a_database_of_ones_own() {
    let redis = Redis::start("user bff on >secret ~t* &t* +@all\nuser default on nopass ~* &* +@all");
    let mut config = redis_config(&redis.url());
    config.username = Some("bff".to_owned());
    config.password = Some(pingora_bff::config::Secret::new("secret"));
    config.database = 3;
    let store = RedisStore::open(&config, &Metrics::new().unwrap()).unwrap();
    store.insert(&key(1), record(1, 1)).await.unwrap();
    assert_eq!(redis.ask::<Vec<String>>(redis::cmd("KEYS").arg("*")).len(), 0, "not in database 0");
    config.password = Some(pingora_bff::config::Secret::new("wrong"));
    let refused = RedisStore::open(&config, &Metrics::new().unwrap()).unwrap_err().to_string();
    assert!(refused.contains("assword") && !refused.contains("wrong\""), "{refused}");
}

/// Which makes room. Who goes on is listed by an end that has moved.
#[tokio::test]
async fn a_full_redis_is_swept_of_what_is_over() {
    let redis = Redis::start("maxmemory-policy noeviction");
    let store = redis_store(&redis.url());
    for number in 0..8 {
        store.insert(&key(number), record(1, number)).await.unwrap();
    }
    for number in 0..4 {
        assert!(store.touch(&key(number), UnixTime(10_950)).await.unwrap());
    }
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1));
    assert_eq!(store.sweep(UnixTime(10_910)).await.unwrap(), 4);
    assert_eq!(store.count(UnixTime(10_910)).await.unwrap(), 4);
}
