//! What can be wrong between the edges and their Redis: nothing comes back, or late, or cut, or garbled;
//! or everything is gone. `SCALE=full` for the whole spans.

use std::time::{Duration, Instant};

use crate::harness::faults::{Fault, Way};
use crate::harness::fleet::{Fleet, Member, enrol_many, look, lost, percentile, replicas};
use crate::harness::{AUDIENCES, Behaviour, Browser, Edge, Redis, Setup, Upstream, http_client, scale};

const PUBLIC: &str =
    "{ id: public, path: \"/public/*\", target_service: own_service, auth: none, token_policy: { mode: none } }";
const EVENTS: &str = "{ id: events, path: \"/events/*\", target_service: own_service, auth: session, streaming: true }";
/// 600 ms of the promise, and what a busy machine adds.
const BOUND: Duration = Duration::from_millis(1_200);

struct House {
    redis: Redis,
    way: Way,
    edges: [Edge; 3],
    members: Vec<Member>,
    urls: Vec<String>,
    upstream: Upstream,
}

async fn house(grace: usize) -> House {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let way = Way::to(redis.port).await;
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).route(PUBLIC).route(EVENTS);
    let setup = setup.store(&format!("redis://127.0.0.1:{}", way.port)).session(&format!("grace_seconds: {grace}"));
    let edges = replicas(&setup).await;
    let members = enrol_many(&redis.url(), &edges[0].provider.issuer, scale(60, 500)).await;
    let urls = edges.iter().map(|edge| edge.url("/api/own/x")).collect();
    House { redis, way, edges, members, urls, upstream }
}

impl House {
    fn load(&self) -> Fleet {
        Fleet::start(&self.members, &self.urls, 16, Duration::from_millis(10), true)
    }

    /// Routes that need no session, while it is as it is: sorted times.
    async fn public(&self, span: Duration) -> Vec<Duration> {
        let (client, begun, mut times) = (http_client(), Instant::now(), Vec::new());
        while begun.elapsed() < span {
            let one = Instant::now();
            assert_eq!(client.get(self.edges[0].url("/public/x")).send().await.unwrap().status(), 200);
            times.push(one.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.upstream.forget();
        times.sort();
        times
    }

    async fn nobody_is_lost(&self) {
        assert_eq!(lost(&self.members, &self.edges.each_ref()).await, 0, "no session is lost");
    }
}

async fn in_time(house: &House, fault: Fault, span: usize) {
    house.nobody_is_lost().await;
    let fleet = house.load();
    eventually!("all are under way", fleet.watch.served() > 50);
    let calm = house.public(Duration::from_secs(1)).await;
    fleet.watch.times();
    house.way.set(fault);
    let troubled = house.public(Duration::from_secs(span as u64)).await;
    let times = fleet.watch.times();
    house.way.set(Fault::None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    fleet.watch.heal();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let watch = fleet.stop().await;
    watch.nobody_elses(&format!(
        "{fault:?} {span} s: p50 {:?}, p99 {:?}, slowest {:?}; without a session p99 {:?}, before {:?}",
        percentile(&times, 50),
        percentile(&times, 99),
        percentile(&times, 100),
        percentile(&troubled, 99),
        percentile(&calm, 99),
    ));
    assert_eq!((watch.odd().len(), watch.late()), (0, 0), "{:?}", watch.odd());
    assert!(percentile(&times, 100) < BOUND, "{:?}", percentile(&times, 100));
    assert!(percentile(&troubled, 50) < percentile(&calm, 50) + BOUND / 8, "{troubled:?}");
    house.nobody_is_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_holds_nobody_up() {
    let house = house(1).await;
    in_time(&house, Fault::BlackHole, scale(3, 10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_is_waited_for_and_a_very_slow_one_is_not() {
    let house = house(1).await;
    house.nobody_is_lost().await;
    let fleet = house.load();
    eventually!("all are under way", fleet.watch.served() > 50);
    fleet.watch.times();
    house.way.set(Fault::Late(Duration::from_millis(50)));
    // Nobody is close at hand after a reconnect: all have to be asked for.
    house.way.cut();
    tokio::time::sleep(Duration::from_secs(1)).await;
    fleet.watch.times();
    tokio::time::sleep(Duration::from_secs(scale(2, 10) as u64)).await;
    let times = fleet.watch.times();
    let watch = fleet.stop().await;
    watch.nobody_elses(&format!("+50 ms: p99 {:?}, slowest {:?}", percentile(&times, 99), percentile(&times, 100)));
    assert_eq!((watch.odd().len(), watch.unavailable()), (0, 0), "{:?}", watch.odd());
    house.way.set(Fault::None);
    in_time(&house, Fault::Late(Duration::from_millis(500)), scale(3, 10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_all_the_time_are_hardly_noticed() {
    let house = house(30).await;
    house.nobody_is_lost().await;
    let fleet = house.load();
    eventually!("all are under way", fleet.watch.served() > 50);
    let until = Instant::now() + Duration::from_secs(scale(3, 30) as u64);
    while Instant::now() < until {
        house.way.cut();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let watch = fleet.stop().await;
    watch.nobody_elses("reset every 200 ms");
    let (well, all) = (watch.served(), watch.served() + watch.unavailable());
    assert!(watch.odd().is_empty() && well * 100 >= all * 99, "{well} of {all}, {:?}", watch.odd());
    house.nobody_is_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbled_answers_are_nobodys() {
    let house = house(5).await;
    house.nobody_is_lost().await;
    let fleet = house.load();
    eventually!("all are under way", fleet.watch.served() > 50);
    house.way.set(Fault::Garbled(100));
    let until = Instant::now() + Duration::from_secs(scale(4, 30) as u64);
    while Instant::now() < until {
        // So that sessions have to be asked for.
        house.way.cut();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let garbled = house.way.garbled();
    house.way.set(Fault::None);
    house.way.cut();
    tokio::time::sleep(Duration::from_secs(1)).await;
    fleet.watch.heal();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let watch = fleet.stop().await;
    watch.nobody_elses(&format!("{garbled} pieces garbled"));
    assert!(garbled > 0 && watch.late() == 0, "{garbled} garbled, {} late", watch.late());
    house.nobody_is_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_everything_is_gone_everybody_logs_in_once() {
    let house = house(30).await;
    let mut browsers = Vec::new();
    for number in 0..scale(3, 30) {
        browsers.push((number, Browser::logged_in(&house.edges[number % 3], &format!("user{number}")).await));
    }
    house.redis.ask::<()>(&redis::cmd("FLUSHALL"));
    let (client, url) = (http_client(), &house.urls);
    for (number, browser) in &browsers {
        // A replica that never saw the session says so; nobody is taken for somebody else.
        let cookie = browser.cookie_header(&house.edges[0].origin);
        let answer = look(&client, &url[(number + 1) % 3], &cookie).await.unwrap();
        assert_eq!(answer.status, 401);
        browser.login(&house.edges[(number + 1) % 3], &format!("user{number}"), "/").await;
        let member = Member {
            user: format!("user{number}"),
            bearer: None,
            cookie: browser.cookie_header(&house.edges[0].origin),
        };
        for url in url {
            let answer = look(&client, url, &member.cookie).await.unwrap();
            assert!(answer.status == 200 && member.owns(&answer), "one login is enough: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_is_noticed_without_a_look() {
    let house = house(30).await;
    let (client, events) = (http_client(), house.edges[1].url("/events/x"));
    house.nobody_is_lost().await;
    house.upstream.behave(Behaviour::Events { count: 600, every: Duration::from_millis(100) });
    let mut streams = Vec::new();
    for member in house.members.iter().take(5) {
        streams.push(client.get(&events).header("cookie", &member.cookie).send().await.unwrap());
    }
    assert!(streams.iter().all(|stream| stream.status() == 200));
    house.upstream.behave(Behaviour::Echo);
    house.redis.ask::<()>(&redis::cmd("FLUSHALL"));
    let begun = Instant::now();
    for stream in streams {
        let all = tokio::time::timeout(Duration::from_secs(5), stream.text()).await;
        assert!(all.is_ok(), "what lasts ends with its session");
    }
    println!("five streams ended {:?} after FLUSHALL", begun.elapsed());
    for url in &house.urls {
        for member in &house.members {
            assert_eq!(look(&client, url, &member.cookie).await.unwrap().status, 401, "{url}");
        }
    }
}
