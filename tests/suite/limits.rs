//! What one client may ask for: requests of a route, logins under way, sessions at once; here and over
//! three replicas.

use std::time::{Duration, Instant};

use reqwest::Response;

use crate::harness::{AUDIENCES, Browser, Edge, Redis, Setup, Upstream, http_client, problem};

const OWN: &str = AUDIENCES[0];

/// A route `/{id}/*` that anybody may ask, or those whom `auth` says, as often as `limit` says.
fn limited(id: &str, auth: &str, limit: &str) -> String {
    format!(
        "{{ id: {id}, path: \"/{id}/*\", target_service: own_service, preserve_path: true, auth: {auth}, \
         rate_limit: {{ {limit} }}, token_policy: {{ mode: none }} }}"
    )
}

fn header(answer: &Response, name: &str) -> String {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn replicas(setup: &Setup) -> [Edge; 3] {
    let first = setup.clone().start().await;
    let second = setup.clone().start_beside(&first).await;
    let third = setup.clone().start_beside(&first).await;
    [first, second, third]
}

/// The kernel takes no keep-alive of more than nine hours, nor of less than a second.
#[tokio::test]
async fn a_connection_may_be_idle_for_days_or_for_a_moment() {
    let upstream = Upstream::start().await;
    for (idle, body) in [("3d", "30d"), ("400ms", "1s")] {
        let setup = Setup::new().service("own", &upstream.url(), Some(OWN));
        let edge =
            setup.server(&format!("idle_timeout: {idle}")).server(&format!("body_timeout: {body}")).start().await;
        assert_eq!(http_client().get(edge.url("/health/live")).send().await.unwrap().status(), 200, "{idle}");
    }
}

#[tokio::test]
async fn too_many_requests_are_refused_and_told_when_to_come_back() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().store("memory:").service("own", &upstream.url(), Some(OWN));
    let setup = setup.route(&limited("few", "none", "requests: 3, period: 1h"));
    let setup = setup.route(&limited("steady", "none", "requests: 600, period: 1m, burst: 2"));
    let edge = setup.start().await;
    let client = http_client();
    for left in [2, 1, 0] {
        let answer = client.get(edge.url("/few/x")).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "ratelimit-policy")),
            (200, "\"default\";q=3;w=3600".into())
        );
        let standing = header(&answer, "ratelimit");
        assert!(standing.starts_with(&format!("\"default\";r={left};t=3")), "{standing}");
    }
    let refused = client.post(edge.url("/few/y")).body("some body").send().await.unwrap();
    assert_eq!(refused.status(), 429);
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((3_590..=3_600).contains(&wait), "{wait}");
    assert_eq!(header(&refused, "ratelimit"), format!("\"default\";r=0;t={wait}"));
    assert_eq!(problem(refused).await["code"], "rate_limited");
    assert_eq!(upstream.count(), 3, "the service saw none of it");
    assert_eq!(edge.metric("rate_limited_total{endpoint=\"few\"}").await, 1);
    // A bucket: two at once, the next a tenth of a second later.
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(client.get(edge.url("/steady/x")).send().await.unwrap().status().as_u16());
    }
    assert_eq!(seen[..2], [200, 200]);
    assert!(seen.contains(&429), "{seen:?}");
    eventually!("it fills", client.get(edge.url("/steady/x")).send().await.unwrap().status() == 200);
}

#[tokio::test]
async fn each_is_counted_as_the_route_says() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().store("memory:").server("trusted_proxies: [127.0.0.1]");
    let setup = setup.service("own", &upstream.url(), Some(OWN));
    let mut setup = setup.route(&limited("address", "none", "requests: 1, period: 1h, key: ip"));
    for key in ["session", "identity"] {
        setup = setup.route(&limited(key, "session", &format!("requests: 1, period: 1h, key: {key}")));
    }
    let edge = setup.start().await;
    let from = async |chain: &str| {
        let asked = http_client().get(edge.url("/address/x")).header("x-forwarded-for", chain);
        asked.send().await.unwrap().status().as_u16()
    };
    assert_eq!([from("203.0.113.1").await, from("203.0.113.1").await, from("203.0.113.2").await], [200, 429, 200]);
    assert_eq!(from("198.51.100.9, 203.0.113.1").await, 429, "what the client wrote itself makes no other client");
    assert_eq!([from("2001:db8::1").await, from("2001:db8::2").await, from("2001:db8:0:1::1").await], [200, 429, 200]);

    let (ada, again) = (Browser::logged_in(&edge, "ada").await, Browser::logged_in(&edge, "ada").await);
    let bob = Browser::logged_in(&edge, "bob").await;
    let ask = async |browser: &Browser, path: &str| browser.get(edge.url(path)).await.status().as_u16();
    assert_eq!([ask(&ada, "/session/x").await, ask(&ada, "/session/x").await], [200, 429]);
    assert_eq!(ask(&again, "/session/x").await, 200, "another session of the same person");
    assert_eq!([ask(&ada, "/identity/x").await, ask(&again, "/identity/x").await], [200, 429]);
    assert_eq!(ask(&bob, "/identity/x").await, 200, "somebody else");
    assert_eq!(http_client().get(edge.url("/identity/x")).send().await.unwrap().status(), 401, "nobody at all");
    assert_eq!(ask(&ada, "/api/own/x").await, 200, "a route without a limit");
}

/// How many of so many requests at each replica, all at once, were let through.
async fn flood(edges: &[Edge], each: usize, path: &str) -> usize {
    let client = http_client();
    let mut tasks = tokio::task::JoinSet::new();
    for url in edges.iter().flat_map(|edge| std::iter::repeat_n(edge.url(path), each)) {
        let client = client.clone();
        tasks.spawn(async move { client.get(url).send().await.unwrap().status().as_u16() });
    }
    let seen = tasks.join_all().await;
    assert!(seen.iter().all(|status| matches!(status, 200 | 429)), "{seen:?}");
    seen.iter().filter(|status| **status == 200).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_count_as_one() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url());
    let setup = setup.route(&limited("once", "none", "requests: 60, period: 10m"));
    let setup = setup.route(&limited("always", "none", "requests: 30, period: 3s"));
    let setup = setup.route(&limited("bucket", "none", "requests: 6, period: 1h, burst: 30"));
    let edges = replicas(&setup).await;
    assert_eq!(flood(&edges, 60, "/once/x").await, 60);
    assert_eq!(flood(&edges, 1, "/once/x").await, 0);
    assert_eq!(flood(&edges, 20, "/bucket/x").await, 30);

    // More than is allowed, for several windows.
    let begun = Instant::now();
    let mut load = tokio::task::JoinSet::new();
    for number in 0..12_usize {
        let (client, url) = (http_client(), edges[number % 3].url("/always/x"));
        load.spawn(async move {
            let mut welcome = 0_u32;
            while begun.elapsed() < Duration::from_millis(6_500) {
                let answer = client.get(&url).send().await.unwrap();
                welcome += u32::from(answer.status() == 200);
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
            welcome
        });
    }
    let welcome = f64::from(load.join_all().await.into_iter().sum::<u32>());
    let windows = begun.elapsed().as_secs_f64() / 3.0;
    assert!(welcome <= 30.0 * 1.05 * windows.ceil(), "{welcome} in {windows} windows");
    assert!(welcome >= 30.0 * 0.95 * windows.floor(), "{welcome} in {windows} windows");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_each_replica_counts_for_itself() {
    let (mut redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url());
    let setup = setup.route(&limited("few", "none", "requests: 20, period: 1h"));
    let edges = replicas(&setup).await;
    assert_eq!(flood(&edges[..1], 30, "/few/x").await, 20);
    redis.kill9();
    assert_eq!(flood(&edges[..1], 30, "/few/x").await, 0, "what it has seen itself counts on: no open door");
    assert_eq!(flood(&edges[1..2], 30, "/few/x").await, 20, "the limit, as far as it knows: no closed door either");
    redis.start_again();
    eventually!("Redis counts again", {
        redis.ask::<Vec<String>>(redis::cmd("KEYS").arg("*:rate:parts")).len() == 1
            || flood(&edges[2..], 1, "/few/x").await > 1
    });
}

#[tokio::test]
async fn a_flood_of_logins_fills_nothing() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).server("trusted_proxies: [127.0.0.1]");
    let edge = setup.session("max_flows: 30").start().await;
    let ada = Browser::logged_in(&edge, "ada").await;
    let begin = async |client: &str| {
        let asked = http_client().get(edge.url("/auth/login")).header("x-forwarded-for", client);
        asked.send().await.unwrap()
    };
    for _ in 0..3 {
        assert_eq!(begin("203.0.113.1").await.status(), 302);
    }
    let refused = begin("203.0.113.1").await;
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (429, "60".into()));
    assert!(refused.text().await.unwrap().contains("Too many logins"));
    // Others log in, as often as they like: what is finished does not count.
    for number in 0..5 {
        Browser::logged_in(&edge, &format!("user{number}")).await;
    }
    for number in 0..27 {
        assert_eq!(begin(&format!("198.51.100.{number}")).await.status(), 302, "{number}");
    }
    let refused = begin("192.0.2.1").await;
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, "60".into()));
    assert_eq!(ada.get(edge.url("/api/own/x")).await.status(), 200, "who is logged in goes on");
}

#[tokio::test]
async fn the_oldest_session_of_a_person_gives_way() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).session("max_per_user: 2");
    for store in [None, Some(redis.url())] {
        let setup = store.iter().fold(setup.clone(), |setup, url| setup.store(url));
        let first = setup.clone().start().await;
        // A second process on the same Redis; SQLite has one folder each here.
        let second = if store.is_some() { Some(setup.start_beside(&first).await) } else { None };
        let there = second.as_ref().unwrap_or(&first);
        let ask = async |browser: &Browser, edge: &Edge| browser.get(edge.url("/api/own/x")).await.status().as_u16();
        let bob = Browser::logged_in(&first, "bob").await;
        let mut browsers = Vec::new();
        for _ in 0..3 {
            let browser = Browser::logged_in(&first, "ada").await;
            assert_eq!([ask(&browser, &first).await, ask(&browser, there).await], [200, 200]);
            browsers.push(browser);
        }
        assert_eq!(ask(&browsers[0], &first).await, 401, "the oldest of three");
        eventually!("everywhere", ask(&browsers[0], there).await == 401);
        assert_eq!(ask(&browsers[1], there).await, 200);
        assert_eq!(ask(&browsers[2], &first).await, 200);
        assert_eq!(ask(&bob, &first).await, 200, "somebody else");
        // Who logs in again in the same browser replaces, and takes nobody's place.
        browsers[2].login(&first, "ada", "/").await;
        assert_eq!([ask(&browsers[1], there).await, ask(&browsers[2], &first).await], [200, 200]);
        assert_eq!(first.metric("bff_sessions_destroyed_total{reason=\"superseded\"}").await, 1);
    }
}
