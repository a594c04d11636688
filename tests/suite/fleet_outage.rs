//! Stores that die under the load of many sessions: one Redis, a master behind sentinels, a master of a
//! cluster. `SCALE=full` for a thousand sessions and ten seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pingora_bff::session::Sessions;

use crate::harness::faults::{Fault, Way};
use crate::harness::fleet::{
    Fleet, Member, enrol, enrol_many, log_in_many, look, lost, percentile, registry, replicas,
};
use crate::harness::{AUDIENCES, Cluster, Edge, Redis, Sentinels, Setup, Upstream, http_client, scale};

const WAIT: Duration = Duration::from_millis(100);

async fn house(store: &str, more: &str) -> ([Edge; 3], Upstream, Vec<String>) {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).store(store).session(more);
    let edges = replicas(&setup).await;
    let urls = edges.iter().map(|edge| edge.url("/api/own/x")).collect();
    (edges, upstream, urls)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_costs_no_session_of_a_thousand() {
    let mut redis = Redis::start("");
    let (edges, upstream, urls) = house(&redis.url(), "grace_seconds: 4").await;
    let members = enrol_many(&redis.url(), &edges[0].provider.issuer, scale(60, 1_000)).await;
    assert_eq!(lost(&members, &edges.each_ref()).await, 0, "all are close at hand");
    let fleet = Fleet::start(&members, &urls, 48, Duration::from_millis(1), false);
    eventually!("all are under way", fleet.watch.served() > 100);
    redis.kill9();
    let killed = Instant::now();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(fleet.watch.unavailable(), 0, "within the grace");
    upstream.forget();
    tokio::time::sleep(Duration::from_secs(scale(6, 10) as u64).saturating_sub(killed.elapsed())).await;
    assert!(fleet.watch.unavailable() > 0, "the grace has an end");
    redis.start_again();
    let back = Instant::now();
    let refused = |watch: &crate::harness::fleet::Watch| watch.unavailable();
    let mut last = back;
    while back.elapsed() < Duration::from_secs(1) {
        let before = refused(&fleet.watch);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if refused(&fleet.watch) > before {
            last = Instant::now();
        }
    }
    fleet.watch.heal();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let watch = fleet.stop().await;
    watch.nobody_elses(&format!(
        "{} sessions, the last 503 {:?} after Redis was back",
        members.len(),
        last.saturating_duration_since(back)
    ));
    assert_eq!((watch.odd().len(), watch.late()), (0, 0), "{:?}", watch.odd());
    assert_eq!(lost(&members, &edges.each_ref()).await, 0, "no session is lost");
}

/// Logins without a pause, in several tasks, until told to stop: those that were acknowledged, and the longest gap.
struct Logins {
    stop: Arc<AtomicBool>,
    kept: Arc<Mutex<(Vec<Member>, Instant, Duration)>>,
    tasks: tokio::task::JoinSet<()>,
}

impl Logins {
    fn start(registry: &Arc<Sessions>, issuer: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let kept = Arc::new(Mutex::new((Vec::new(), Instant::now(), Duration::ZERO)));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..4 {
            let (stop, kept, issuer) = (Arc::clone(&stop), Arc::clone(&kept), issuer.to_owned());
            let registry = Arc::clone(registry);
            tasks.spawn(async move {
                let mut number = task * 1_000_000;
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    if let Some(member) = enrol(&registry, &issuer, &format!("new{number}"), number).await {
                        let mut kept = kept.lock().unwrap();
                        kept.2 = kept.2.max(kept.1.elapsed());
                        kept.1 = Instant::now();
                        kept.0.push(member);
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Self { stop, kept, tasks }
    }

    fn count(&self) -> usize {
        self.kept.lock().unwrap().0.len()
    }

    async fn stop(self) -> (Vec<Member>, Duration) {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.join_all().await;
        let kept = self.kept.lock().unwrap();
        (kept.0.clone(), kept.2)
    }
}

/// A master dies under load, with logins going on.
async fn a_master_dies(store: &str, what: &str, kill: impl Fn(), gap_at_most: Duration) {
    let (edges, upstream, urls) = house(store, "grace_seconds: 30").await;
    let issuer = &edges[0].provider.issuer;
    let members = enrol_many(store, issuer, scale(60, 1_000)).await;
    assert_eq!(lost(&members, &edges.each_ref()).await, 0, "all are close at hand");
    let fleet = Fleet::start(&members, &urls, 24, Duration::from_millis(5), false);
    let logins = Logins::start(&Arc::new(registry(store, WAIT)), issuer);
    eventually!("all are under way", fleet.watch.served() > 100 && logins.count() > 50);
    kill();
    let (killed, before) = (Instant::now(), logins.count());
    while logins.count() < before + 200 {
        assert!(killed.elapsed() < Duration::from_secs(30), "no new master");
        tokio::time::sleep(Duration::from_millis(50)).await;
        upstream.forget();
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    fleet.watch.heal();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let watch = fleet.stop().await;
    let (new, gap) = logins.stop().await;
    watch.nobody_elses(&format!("{what}: {} old sessions, {} logins, longest gap {gap:?}", members.len(), new.len()));
    assert_eq!((watch.odd().len(), watch.late()), (0, 0), "{:?}", watch.odd());
    assert!(gap < gap_at_most, "{gap:?}");
    assert_eq!(lost(&members, &edges.each_ref()).await, 0, "no session is lost");
    assert_eq!(lost(&new, &[&edges[0]]).await, 0, "what was acknowledged is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_master_behind_sentinels_costs_no_session() {
    let sentinels = Sentinels::start();
    a_master_dies(&sentinels.url(), "sentinels", || sentinels.servers[0].kill9(), Duration::from_secs(8)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_master_of_a_cluster_costs_no_session() {
    let cluster = Cluster::start(true);
    // Two thirds of the logins go on all the time.
    a_master_dies(&cluster.url(), "cluster", || cluster.masters[0].kill9(), Duration::from_secs(8)).await;
}

fn is_master(redis: &Redis) -> bool {
    redis.ask::<String>(redis::cmd("INFO").arg("replication")).contains("role:master")
}

/// Logs out one after the other for so long; those whose logout was acknowledged.
async fn log_out_for(members: &[Member], edges: &[Edge; 3], span: Duration) -> Vec<Member> {
    let client = http_client();
    let mut pace = tokio::time::interval(span / u32::try_from(members.len()).unwrap());
    let mut out = Vec::new();
    for (number, member) in members.iter().enumerate() {
        pace.tick().await;
        let answer = client.post(edges[number % 3].url("/auth/logout")).header("cookie", &member.cookie).send().await;
        let status = answer.unwrap().status();
        assert!(status.is_redirection() || status == 503, "{status}");
        if status.is_redirection() {
            out.push(member.clone());
        }
    }
    out
}

/// The old master is well, says so, and takes writes until the sentinels tell it, ten seconds later.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_somebody_asks_for_takes_nothing_back() {
    let (sentinels, upstream) = (Sentinels::start(), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).access_ttl(4);
    let edges = replicas(&setup.store(&sentinels.url()).session("grace_seconds: 30")).await;
    let urls: Vec<String> = edges.iter().map(|edge| edge.url("/api/own/x")).collect();
    let used = log_in_many(&edges, scale(24, 200)).await;
    let over = enrol_many(&sentinels.url(), &edges[0].provider.issuer, scale(60, 600)).await;
    assert_eq!(lost(&over, &edges.each_ref()).await, 0, "all are close at hand");
    let fleet = Fleet::start(&used, &urls, 12, Duration::from_millis(20), true);
    let logins = Logins::start(&Arc::new(registry(&sentinels.url(), WAIT)), &edges[0].provider.issuer);
    eventually!("all are under way", fleet.watch.served() > 100 && logins.count() > 50);
    let renewed = edges[0].grants("refresh_token").await;
    sentinels.fail_over();
    let asked = Instant::now();
    let out = log_out_for(&over, &edges, Duration::from_secs(6)).await;
    eventually!("the old master is told", !is_master(&sentinels.servers[0]), within 30);
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("the old master was told after {:?}", asked.elapsed());
    let watch = fleet.stop().await;
    let (new, gap) = logins.stop().await;
    watch.nobody_elses(&format!("{} logins, longest gap {gap:?}, {} of {} out", new.len(), out.len(), over.len()));
    assert!(watch.odd().is_empty(), "{:?}", watch.odd());
    assert!(gap < Duration::from_secs(4), "{gap:?}");
    assert!(edges[0].grants("refresh_token").await > renewed + used.len() as u64, "tokens were renewed meanwhile");
    assert_eq!(edges[0].grants("refused").await, 0, "no refresh token is used twice");
    assert_eq!(lost(&used, &edges.each_ref()).await, 0, "no session is lost");
    assert_eq!(lost(&new, &[&edges[0]]).await, 0, "what was acknowledged is there");
    for member in &out {
        for url in &urls {
            assert_eq!(
                look(&http_client(), url, &member.cookie).await.unwrap().status,
                401,
                "whoever is out stays out"
            );
        }
    }
}

/// It may be the master by now, and only they know.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_replica_a_master_counts_if_half_of_the_sentinels_say_so() {
    let sentinels = Sentinels::start();
    let registry = registry(&sentinels.url(), WAIT);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut number = 0;
    let mut login = || {
        number += 1;
        enrol(&registry, "https://idp.example", "ada", number)
    };
    assert!(login().await.is_some());
    let silent = &sentinels.sentinels[1..];
    silent.iter().for_each(Redis::freeze);
    assert!(login().await.is_some(), "a replica has it");
    sentinels.servers[1].kill9();
    for _ in 0..3 {
        let begun = Instant::now();
        assert!(login().await.is_none(), "one of three is not enough");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    silent.iter().for_each(Redis::thaw);
    eventually!("they say so", login().await.is_some());
    silent.iter().for_each(Redis::freeze);
    assert!(login().await.is_some(), "it has no replica to lose any more");
    silent.iter().for_each(Redis::thaw);
}

/// A master, and the way on which its replica follows it.
async fn followed() -> (Redis, Way, Redis) {
    let master = Redis::start("");
    let way = Way::to(master.port).await;
    let replica = Redis::start(&format!("replicaof 127.0.0.1 {}", way.port));
    let follows = || replica.ask::<String>(redis::cmd("INFO").arg("replication")).contains("link_status:up");
    eventually!("the replica follows", follows());
    (master, way, replica)
}

/// Without it a login is acknowledged before any replica has it: this is what is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_at_a_replica() {
    let (master, way, replica) = followed().await;
    let here = || replica.ask::<Vec<String>>(redis::cmd("KEYS").arg("*:session")).len();
    let (waiting, careless) =
        (registry(&master.url(), Duration::from_secs(2)), registry(&master.url(), Duration::ZERO));
    // The replicas are known from the first beat on.
    tokio::time::sleep(Duration::from_millis(600)).await;
    way.set(Fault::Late(Duration::from_millis(150)));
    for number in 0..5 {
        let begun = Instant::now();
        enrol(&waiting, "https://idp.example", "ada", number).await.unwrap();
        assert_eq!(here(), number + 1, "it is there before the login is done");
        assert!(begun.elapsed() > Duration::from_millis(100));
    }
    enrol(&careless, "https://idp.example", "ada", 9).await.unwrap();
    assert_eq!(here(), 5, "nobody waited");
    eventually!("it comes", here() == 6);
    // Many at once wait together.
    let begun = Instant::now();
    let many = (0..50).map(|number| enrol(&waiting, "https://idp.example", "bob", number));
    assert!(futures::future::join_all(many).await.into_iter().all(|member| member.is_some()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(here(), 56);
    // One that hangs holds nobody up for longer than the bound, and nobody out.
    way.set(Fault::BlackHole);
    let impatient = registry(&master.url(), WAIT);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut times = Vec::new();
    for number in 0..5 {
        let begun = Instant::now();
        enrol(&impatient, "https://idp.example", "eve", number).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort();
    assert!(percentile(&times, 50) >= WAIT && percentile(&times, 50) < WAIT * 4, "{times:?}");
}

/// What a connection that is kept for WAIT meets between two logins: `timeout` of Redis, or a firewall that forgets.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_was_closed_costs_no_login() {
    let (master, _way, _replica) = followed().await;
    let registry = registry(&master.url(), Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(600)).await;
    for number in 0..3 {
        enrol(&registry, "https://idp.example", "ada", number).await.unwrap();
        let clients: String = master.ask(redis::cmd("CLIENT").arg("LIST"));
        // WAIT and ROLE, and no subscription.
        let kept = clients.lines().find(|line| line.contains(" cmd=role ") && line.contains(" sub=0 ")).unwrap();
        let id = kept.split(' ').find_map(|pair| pair.strip_prefix("id=")).unwrap();
        master.ask::<()>(redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id));
    }
}

/// Longer than any other answer of Redis may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_costs_no_login_however_long_it_is_waited_for() {
    let (master, way, _replica) = followed().await;
    way.set(Fault::BlackHole);
    let registry = registry(&master.url(), Duration::from_secs(1));
    tokio::time::sleep(Duration::from_millis(600)).await;
    let begun = Instant::now();
    assert!(enrol(&registry, "https://idp.example", "ada", 0).await.is_some());
    assert!(begun.elapsed() >= Duration::from_secs(1), "it was waited for");
}

/// An attempt to connect has a second, whatever is asked in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_far_away_is_reached() {
    let redis = Redis::start("");
    let way = Way::to(redis.port).await;
    way.set(Fault::Late(Duration::from_millis(200)));
    let registry = registry(&format!("redis://127.0.0.1:{}", way.port), WAIT);
    eventually!("somebody logs in", enrol(&registry, "https://idp.example", "ada", 1).await.is_some());
}
