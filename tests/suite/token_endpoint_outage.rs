//! A provider whose token endpoint fails for a while, in each way: nobody whose token works notices, nobody asks it
//! in vain all the time, and all have a new token soon after. A minute with `SCALE=full`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::fleet::{Member, percentile};
use crate::harness::mint::{Mint, Mood, Try};
use crate::harness::rush::{Queue, Service};
use crate::harness::{Edge, Redis, Setup, builder, scale};

/// What the promise says, and what a busy machine adds.
const EACH: Duration = Duration::from_millis(4_900);
const AFTER: Duration = Duration::from_millis(11_500);
/// Who has no token may wait for another replica's try first and for a try of its own then.
const MOST: Duration = Duration::from_secs(40);

/// Every second user's token is over soon, every other's outlasts the failure and is due in the midst of it.
fn lives_long(user: &str) -> bool {
    user.ends_with(['0', '2', '4', '6', '8'])
}

fn lifetime(user: &str) -> u64 {
    if lives_long(user) { scale(15, 63) as u64 } else { 6 }
}

/// What a user saw: times of the answers, by status.
type Seen = Arc<Mutex<BTreeMap<(bool, u16), Vec<Duration>>>>;

async fn ask_on(client: reqwest::Client, urls: Vec<String>, member: Member, seen: Seen, over: Arc<AtomicBool>) {
    for turn in 0.. {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let begun = Instant::now();
        let answer = client.get(&urls[turn % urls.len()]).header("cookie", &member.cookie).send().await.unwrap();
        assert!(!answer.headers().contains_key("set-cookie"), "{}", answer.status());
        let (status, kind) = (answer.status().as_u16(), lives_long(&member.user));
        let text = answer.text().await.unwrap();
        assert!(status != 200 || text.starts_with(&format!("auth:account:testidp:{}|", member.user)), "{text}");
        seen.lock().unwrap().entry((kind, status)).or_default().push(begun.elapsed());
        let pause = scale(300, 1_000) as u64;
        tokio::time::sleep(Duration::from_millis(pause + fastrand::u64(0..pause))).await;
    }
}

/// The least time between a failed try and the next one of the same session.
fn least_pause(tries: &[Try]) -> Duration {
    let (mut seen, mut pause) = (BTreeMap::<&str, Instant>::new(), Duration::MAX);
    for one in tries {
        if let Some(before) = seen.insert(&one.user, one.at) {
            pause = pause.min(one.at - before);
        }
    }
    pause
}

struct House {
    mint: Mint,
    _service: Service,
    _redis: Option<Redis>,
    edges: Vec<Edge>,
    members: Vec<Member>,
}

/// One edge with a store of its own, or two that share one.
async fn house(shared: bool) -> (House, Instant) {
    let (mint, service) = (Mint::start(lifetime), Service::start());
    let pass = "{ id: pass, path: \"/pass/*\", target_service: any_service, preserve_path: true, auth: session, \
                token_policy: { mode: session_passthrough } }";
    let setup = Setup::new().service_alone("any", &service.url(), None, "timeout: 5").route(pass);
    let redis = shared.then(|| Redis::start(""));
    let setup = redis.iter().fold(setup.provider_at(&mint.issuer), |setup, redis| setup.store(&redis.url()));
    let mut edges = vec![setup.clone().start().await];
    if shared {
        edges.push(setup.start_beside(&edges[0]).await);
    }
    let (next, over, name) = (AtomicUsize::new(0), AtomicBool::new(false), |number| format!("user{number}"));
    let (edge, client_id) = (edges[0].address(), edges[0].client_id.clone());
    let begun = Instant::now();
    let queue = Queue { edge, client_id: &client_id, threads: 4, name, next: &next };
    let (members, failed) = tokio::task::block_in_place(|| queue.run(scale(20, 100), &over));
    assert!(failed.is_empty(), "{failed:?}");
    (House { mint, _service: service, _redis: redis, edges, members }, begun)
}

async fn endures(mood: Mood, shared: bool) {
    let (house, begun) = house(shared).await;
    house.mint.be(mood);
    let tried_early = house.mint.tries().len();
    let (seen, over) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let urls: Vec<String> = house.edges.iter().map(|edge| edge.url("/pass/x")).collect();
    let (mut users, client) = (tokio::task::JoinSet::new(), builder().timeout(MOST).build().unwrap());
    for member in &house.members {
        users.spawn(ask_on(client.clone(), urls.clone(), member.clone(), Arc::clone(&seen), Arc::clone(&over)));
    }
    let healed = begun + Duration::from_secs(scale(14, 62) as u64);
    tokio::time::sleep_until(healed.into()).await;
    let during = std::mem::take(&mut *seen.lock().unwrap());
    let healed = Instant::now();
    house.mint.be(Mood::Well);
    let served = || house.mint.tries().iter().filter(|one| one.served).count();
    while served() < house.members.len() && healed.elapsed() < AFTER + Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    over.store(true, Ordering::SeqCst);
    users.join_all().await;
    let tries = house.mint.tries();
    let mut after: Vec<Duration> = tries.iter().filter(|one| one.served).map(|one| one.at - healed).collect();
    after.sort();
    let of = |long: bool, status: u16| during.get(&(long, status)).cloned().unwrap_or_default();
    let (mut live, lapsed) = (of(true, 200), of(false, 502).len());
    live.sort();
    println!(
        "{mood:?}, {} replicas, {} sessions: with a live token {} answers, p50 {:?}, p99 {:?}, slowest {:?}; without {lapsed} \
         x 502; {} tries in vain, never two of one session within {:?}; after it all had a new token in {:?}, \
         the first {:?}, half {:?}",
        house.edges.len(),
        house.members.len(),
        live.len(),
        percentile(&live, 50),
        percentile(&live, 99),
        percentile(&live, 100),
        tries.len() - after.len(),
        least_pause(&tries),
        percentile(&after, 100),
        percentile(&after, 0),
        percentile(&after, 50),
    );
    assert_eq!(tried_early, 0, "the failure began in time");
    assert!(during.keys().all(|(long, status)| *status == 200 || !long && *status == 502), "{:?}", during.keys());
    // Who waits for one that hangs is not answered so soon.
    assert!(lapsed > 0 || mood == Mood::Hang, "it was noticed");
    assert!(tries.len() > house.members.len(), "and asked in vain");
    assert!(least_pause(&tries) >= EACH, "{:?}", least_pause(&tries));
    assert_eq!(after.len(), house.members.len(), "one refresh each");
    assert!(percentile(&after, 100) <= AFTER, "{after:?}");
    assert!(percentile(&after, 100) > percentile(&after, 0) + Duration::from_millis(200), "spread: {after:?}");
    for member in &house.members {
        let answer = client.get(&urls[0]).header("cookie", &member.cookie).send().await.unwrap();
        assert_eq!(answer.status(), 200, "nobody lost a session");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faltering_provider_hurts_nobody_whose_token_works_and_is_left_alone() {
    let ways = [(Mood::Status(500), true), (Mood::Status(503), false), (Mood::Hang, true), (Mood::Reset, false)];
    let mut all = tokio::task::JoinSet::new();
    for (mood, shared) in ways {
        all.spawn(endures(mood, shared));
    }
    all.join_all().await;
}
