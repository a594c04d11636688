//! Three replicas on one Redis: one refresh anywhere, a logout everywhere, an outage that ends no
//! session. Real processes, a real provider whose refresh tokens work once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{AUDIENCES, Browser, Edge, Received, Redis, Setup, Upstream, http_client, scale};

const OWN: &str = AUDIENCES[0];

async fn replicas(setup: &Setup) -> [Edge; 3] {
    let first = setup.clone().start().await;
    let second = setup.clone().start_beside(&first).await;
    let third = setup.clone().start_beside(&first).await;
    [first, second, third]
}

/// What one request got.
struct Seen {
    status: u16,
    /// Whom the service was told to be asking.
    user: String,
    retry_after: bool,
    set_cookie: bool,
}

async fn look(client: &reqwest::Client, url: &str, cookie: &str) -> Option<Seen> {
    let answer = client.get(url).header("cookie", cookie).send().await.ok()?;
    let has = |name: &str| answer.headers().contains_key(name);
    let (status, retry_after, set_cookie) = (answer.status().as_u16(), has("retry-after"), has("set-cookie"));
    let body: serde_json::Value = answer.json().await.ok()?;
    let headers = body["headers"].as_array().cloned().unwrap_or_default();
    let user =
        headers.iter().find(|pair| pair[0].as_str().is_some_and(|name| name.eq_ignore_ascii_case("x-original-user")));
    let user = user.and_then(|pair| pair[1].as_str()).unwrap_or_default().to_owned();
    Some(Seen { status, user, retry_after, set_cookie })
}

/// 1 500 and twenty generations with `SCALE=full`.
#[tokio::test(flavor = "multi_thread")]
async fn one_refresh_for_three_hundred_requests_over_three_replicas() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup =
        Setup::new().service("own", &upstream.url(), Some(OWN)).access_ttl(scale(6, 15) as u64).store(&redis.url());
    let edges = replicas(&setup).await;
    let browser = Browser::logged_in(&edges[0], "ada").await;
    let cookie = browser.cookie_header(&edges[0].origin);
    let client = http_client();
    let before = edges[0].grants("refresh_token").await;
    let (each, generations) = (scale(100, 500), scale(3, 20));
    let mut renewed = Instant::now();
    for generation in 1..=generations as u64 {
        tokio::time::sleep(Duration::from_millis(scale(6_300, 15_300) as u64).saturating_sub(renewed.elapsed())).await;
        renewed = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..each * 3 {
            let (client, cookie) = (client.clone(), cookie.clone());
            let url = edges[number % 3].url("/api/own/x");
            tasks.spawn(async move {
                let look = look(&client, &url, &cookie);
                if number % 3 != number / each {
                    return look.await;
                }
                // A third hangs up, each at another moment.
                tokio::time::timeout(Duration::from_millis(1 + fastrand::u64(0..150)), look).await.ok().flatten()
            });
        }
        let seen: Vec<Seen> = tasks.join_all().await.into_iter().flatten().collect();
        assert!(seen.len() >= each * 2 - 2, "generation {generation}: {}", seen.len());
        for one in &seen {
            assert_eq!(one.status, 200, "generation {generation}");
            assert!(one.user.ends_with(":ada"), "generation {generation}: {}", one.user);
        }
        assert_eq!(edges[0].grants("refresh_token").await - before, generation, "one refresh a generation");
        assert_eq!(edges[0].grants("refused").await, 0);
        println!("generation {generation}: {} answers, the last after {:?}", seen.len(), renewed.elapsed());
    }
    for edge in &edges {
        assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200, "nobody lost the session");
    }
}

#[tokio::test]
async fn a_replica_killed_while_it_refreshes_holds_nobody_up() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).access_ttl(6).store(&redis.url());
    let mut edges = replicas(&setup).await;
    let browser = Browser::logged_in(&edges[0], "ada").await;
    let cookie = browser.cookie_header(&edges[0].origin);
    let client = http_client();
    tokio::time::sleep(Duration::from_millis(6_300)).await;
    edges[0].provider.set_mode(&edges[0].client_id, "delay:3000").await;
    let (url, asked) = (edges[0].url("/api/own/x"), cookie.clone());
    let cut = tokio::spawn(async move { look(&http_client(), &url, &asked).await.is_none() });
    let held = || redis.ask::<Vec<String>>(redis::cmd("KEYS").arg("*:lease")).len() == 1;
    eventually!("it is at it", held());
    tokio::time::sleep(Duration::from_millis(300)).await;
    edges[0].kill9();
    assert!(cut.await.unwrap());
    edges[0].provider.set_mode(&edges[0].client_id, "ok").await;
    let killed = Instant::now();
    let seen = look(&client, &edges[1].url("/api/own/x"), &cookie).await.unwrap();
    assert!(killed.elapsed() < Duration::from_secs(5), "the lease ends after 3 s: {:?}", killed.elapsed());
    // The provider may have spent the refresh token for the one that was killed: then, and only
    // then, this user logs in once more.
    assert!(matches!(seen.status, 200 | 401), "{}", seen.status);
    let again = look(&client, &edges[2].url("/api/own/x"), &cookie).await.unwrap();
    assert_eq!(again.status, seen.status, "no loop: everybody agrees");
    assert!(edges[0].provider.count(&edges[0].client_id, "refused").await <= 1);
}

/// Two replicas are asked for a session whose tokens are over, the second a moment later: what they say, and how many
/// questions the provider left without an answer.
async fn asked_one_after_the_other(mode: &str, second: &str) -> ([u16; 2], u64) {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup =
        Setup::new().service("own", &upstream.url(), Some(OWN)).service("crud", &upstream.url(), Some(AUDIENCES[2]));
    let setup = setup.access_ttl(3).store(&redis.url());
    let edge = setup.clone().start().await;
    let other = setup.start_beside(&edge).await;
    let cookie = Browser::logged_in(&edge, "ada").await.cookie_header(&edge.origin);
    tokio::time::sleep(Duration::from_millis(3_300)).await;
    edge.provider.set_mode(&edge.client_id, mode).await;
    let client = crate::harness::builder().timeout(Duration::from_secs(40)).build().unwrap();
    let (patient, url, asked) = (client.clone(), edge.url("/api/own/x"), cookie.clone());
    let first = tokio::spawn(async move { look(&patient, &url, &asked).await.unwrap().status });
    eventually!("it is at it", redis.ask::<Vec<String>>(redis::cmd("KEYS").arg("*:lease")).len() == 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let later = look(&client, &other.url(second), &cookie).await.unwrap().status;
    ([first.await.unwrap(), later], edge.provider.count(&edge.client_id, "faulted").await)
}

#[tokio::test]
async fn who_has_waited_for_another_replica_in_vain_does_not_ask_the_provider_as_well() {
    let (hangs, slow) = tokio::join!(
        asked_one_after_the_other("hang", "/api/own/x"),
        asked_one_after_the_other("delay:6000", "/api/crud/x")
    );
    assert_eq!(hangs, ([502, 502], 1));
    // It was in vain only if nothing came of it.
    assert_eq!(slow, ([200, 200], 0));
}

/// What a load has seen so far.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    /// From now on 503 is late.
    recovered: AtomicBool,
    served: AtomicUsize,
    refused: AtomicUsize,
    late: AtomicUsize,
}

impl Tally {
    /// One user who asks again and again: 200 as themselves, or 503 with `Retry-After`; nothing else.
    async fn ask_on(&self, user: &str, url: &str, cookie: &str) {
        let client = http_client();
        while !self.stop.load(Ordering::SeqCst) {
            let settled = self.recovered.load(Ordering::SeqCst);
            let seen = look(&client, url, cookie).await.expect("an answer");
            assert!(!seen.set_cookie, "the cookie is left alone");
            match seen.status {
                200 => {
                    assert!(seen.user.ends_with(&format!(":{user}")), "{} for {user}", seen.user);
                    self.served.fetch_add(1, Ordering::SeqCst);
                }
                503 => {
                    assert!(seen.retry_after);
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    self.late.fetch_add(usize::from(settled), Ordering::SeqCst);
                }
                other => panic!("{other} for {user}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_under_load_costs_no_session() {
    const USERS: usize = 12;
    let (mut redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url()).session("grace_seconds: 4");
    let edges = replicas(&setup).await;
    let (tally, mut load, mut cookies) = (Arc::new(Tally::default()), tokio::task::JoinSet::new(), Vec::new());
    for number in 0..USERS {
        let browser = Browser::logged_in(&edges[0], &format!("user{number}")).await;
        // Each user stays with one replica: from now on the session is close at hand there, and only there.
        let url = edges[number % 3].url("/api/own/x");
        assert_eq!(browser.get(&url).await.status(), 200);
        cookies.push(browser.cookie_header(&edges[0].origin));
        let (tally, cookie) = (Arc::clone(&tally), cookies[number].clone());
        load.spawn(async move { tally.ask_on(&format!("user{number}"), &url, &cookie).await });
    }
    let client = http_client();
    eventually!("all are under way", tally.served.load(Ordering::SeqCst) > USERS * 3);
    redis.kill9();
    let killed = Instant::now();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(tally.refused(), 0, "within the grace, sessions close at hand go on");
    // A user this replica does not know (user0 is at the first): whether there is a session cannot be told.
    let stranger = look(&client, &edges[1].url("/api/own/x"), &cookies[0]).await.unwrap();
    assert_eq!((stranger.status, stranger.retry_after, stranger.set_cookie), (503, true, false));
    assert_eq!(client.get(edges[0].url("/health/ready")).send().await.unwrap().status(), 503);
    eventually!("the grace ends", tally.refused() > USERS);
    assert!(killed.elapsed() > Duration::from_millis(1_900), "not before its time: {:?}", killed.elapsed());
    redis.start_again();
    tokio::time::sleep(Duration::from_secs(1)).await;
    tally.recovered.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(1)).await;
    tally.stop.store(true, Ordering::SeqCst);
    load.join_all().await;
    assert_eq!(tally.late.load(Ordering::SeqCst), 0, "all is well a second after Redis is back");
    for (number, cookie) in cookies.iter().enumerate() {
        for edge in &edges {
            let seen = look(&client, &edge.url("/api/own/x"), cookie).await.unwrap();
            assert_eq!(
                (seen.status, seen.user.ends_with(&format!(":user{number}"))),
                (200, true),
                "no session is lost"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_fetches_a_service_token_once() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let route = |id: &str, audience: &str| {
        format!(
            "{{ id: {id}, path: \"/{id}/*\", target_service: own_service, preserve_path: true, auth: none, \
             token_policy: {{ mode: service_token, audience: \"{audience}\" }} }}"
        )
    };
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url());
    let setup = setup.route(&route("shared", AUDIENCES[1])).route(&route("later", AUDIENCES[2]));
    let edges = replicas(&setup).await;
    edges[0].provider.set_mode(&edges[0].client_id, "delay:300").await;
    let client = http_client();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..150 {
        let (client, url) = (client.clone(), edges[number % 3].url("/shared/x"));
        tasks.spawn(async move { client.get(url).send().await.unwrap().status().as_u16() });
    }
    assert!(tasks.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(edges[0].grants("client_credentials").await, 1, "one token for 150 requests at three replicas");
    let tokens: std::collections::BTreeSet<String> = upstream.all().iter().map(Received::bearer).collect();
    assert_eq!(tokens.len(), 1, "the same everywhere");
    let kept: Vec<String> = redis.ask(redis::cmd("KEYS").arg("*:token:note"));
    assert_eq!(kept.len(), 1);
    let sealed: Vec<u8> = redis.ask(redis::cmd("GET").arg(&kept[0]));
    let token = tokens.first().unwrap();
    assert!(!sealed.windows(20).any(|part| token.as_bytes().windows(20).any(|other| part == other)), "sealed");
    let left: i64 = redis.ask(redis::cmd("TTL").arg(&kept[0]));
    assert!((1..=3_600).contains(&left), "{left}");
    // A replica that starts later finds it; one with another secret does not, and is none the worse.
    let late = setup.clone().start_beside(&edges[0]).await;
    assert_eq!(client.get(late.url("/shared/x")).send().await.unwrap().status(), 200);
    assert_eq!(edges[0].grants("client_credentials").await, 1);
    // Without the store each fetches its own: it is no session.
    redis.kill9();
    for edge in &edges {
        assert_eq!(client.get(edge.url("/later/x")).send().await.unwrap().status(), 200);
    }
    assert_eq!(edges[0].grants("client_credentials").await, 4);
}

#[tokio::test]
async fn a_logout_here_is_a_logout_everywhere() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url());
    let edges = replicas(&setup).await;
    let browser = Browser::logged_in(&edges[0], "ada").await;
    let cookie = browser.cookie_header(&edges[0].origin);
    let client = http_client();
    for edge in &edges {
        for _ in 0..2 {
            assert_eq!(look(&client, &edge.url("/api/own/x"), &cookie).await.unwrap().status, 200);
        }
        assert!(
            edge.metric("bff_session_lookups_total{result=\"hit\",tier=\"near\"}").await > 0,
            "it is close at hand"
        );
    }
    assert!(browser.post(edges[0].url("/auth/logout")).await.status().is_redirection());
    let ended = Instant::now();
    for edge in &edges {
        let refused = || async { look(&client, &edge.url("/api/own/x"), &cookie).await.unwrap().status == 401 };
        eventually!("it is over", refused().await);
    }
    assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
    assert!(edges[1].metric("bff_redis_operations_total{operation=\"load\",status=\"success\"}").await > 0);
}

#[tokio::test]
async fn a_start_without_redis_is_not_ready_and_becomes_so() {
    let (mut redis, upstream) = (Redis::start(""), Upstream::start().await);
    redis.kill9();
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url());
    let edge = setup.start().await;
    let client = http_client();
    let ready = || async { client.get(edge.url("/health/ready")).send().await.unwrap().status().as_u16() };
    assert_eq!(ready().await, 503);
    assert_eq!(client.get(edge.url("/health/live")).send().await.unwrap().status(), 200);
    let login = client.get(edge.url("/auth/login")).send().await.unwrap();
    assert_eq!(login.status(), 503, "a page that says so");
    redis.start_again();
    let back = Instant::now();
    eventually!("it is ready", ready().await == 200);
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    Browser::logged_in(&edge, "ada").await;
}
