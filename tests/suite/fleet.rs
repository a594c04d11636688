//! Three replicas at scale: storms of refreshes, a logout of a thousand, wrong clocks, and whose answer
//! each answer was. `SCALE=full` for the whole promise, `EDGE_BINARY` for another build.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::faults::{Fault, Way};
use crate::harness::fleet::{
    Fleet, Member, Seen, Watch, enrol, enrol_many, log_in_many, look, lost, registry, replicas, welcome,
};
use crate::harness::{
    AUDIENCES, Browser, Redis, Say, Setup, Upstream, builder, claims, has_audience, http_client, scale,
};

const OWN: &str = AUDIENCES[0];

/// A third of the clients hangs up. One replica has the lease when it is killed, with the provider at three seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_killed_in_a_storm_costs_one_login_at_the_most() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).access_ttl(6).store(&redis.url());
    let mut edges = replicas(&setup).await;
    let browser = Browser::logged_in(&edges[0], "ada").await;
    let cookie = browser.cookie_header(&edges[0].origin);
    tokio::time::sleep(Duration::from_millis(6_300)).await;
    edges[0].provider.set_mode(&edges[0].client_id, "delay:3000").await;
    let shared = http_client();
    let ask = |edge: usize| {
        let (client, url, cookie) = (shared.clone(), edges[edge].url("/api/own/x"), cookie.clone());
        async move {
            let begun = Instant::now();
            (look(&client, &url, &cookie).await, begun.elapsed())
        }
    };
    let first = tokio::spawn(ask(0));
    let held = || redis.ask::<Vec<String>>(redis::cmd("KEYS").arg("*:lease")).len() == 1;
    eventually!("it is at it", held());
    let (mut tasks, each) = (tokio::task::JoinSet::new(), scale(60, 500));
    for number in 0..each * 2 {
        let one = ask(1 + number % 2);
        tasks.spawn(async move {
            if number % 3 != 0 {
                return Some(one.await);
            }
            tokio::time::timeout(Duration::from_millis(1 + fastrand::u64(0..2_000)), one).await.ok()
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    edges[0].kill9();
    assert!(first.await.unwrap().0.is_err());
    let answers: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let slowest = answers.iter().map(|(_, took)| *took).max().unwrap();
    let statuses: Vec<u16> = answers.iter().map(|(seen, _)| seen.as_ref().expect("an answer").status).collect();
    let (well, over) = (statuses.iter().filter(|s| **s == 200).count(), statuses.iter().filter(|s| **s == 401).count());
    println!("killed in a storm: {well} x 200, {over} x 401 of {}, slowest {slowest:?}", statuses.len());
    assert!(well + over == statuses.len() && (well == 0 || over == 0), "everybody agrees: {statuses:?}");
    assert!(slowest < Duration::from_secs(15), "{slowest:?}");
    edges[0].provider.set_mode(&edges[0].client_id, "ok").await;
    assert!(edges[0].provider.count(&edges[0].client_id, "refused").await <= 1, "no loop");
    if over > 0 {
        browser.login(&edges[1], "ada", "/").await;
    }
    for edge in &edges[1..] {
        assert_eq!(browser.get(edge.url("/api/own/x")).await.status(), 200, "one clean login");
    }
}

/// What the service was sent is for this person, for this service, and still good.
fn its_own(member: &Member, url: &str, seen: &Seen) -> Option<String> {
    let claims = claims(&seen.bearer);
    let number = url.split("/api/s").nth(1).and_then(|rest| rest.split('/').next()?.parse::<usize>().ok()).unwrap_or(0);
    let own = claims["sub"] == *member.user && has_audience(&claims, AUDIENCES[number]);
    (!own).then(|| format!("{claims} for {} at {url}", member.user))
}

/// Sessions whose tokens end all the time, each used at every replica.
async fn storm(sessions: usize, services: usize, seconds: usize) {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let mut setup = Setup::new().access_ttl(3).store(&redis.url());
    for (number, audience) in AUDIENCES.iter().enumerate().take(services) {
        setup = setup.service(&format!("s{number}"), &upstream.url(), Some(audience));
    }
    let edges = replicas(&setup.service("own", &upstream.url(), Some(OWN))).await;
    let members = log_in_many(&edges, sessions).await;
    let before = edges[0].grants("refresh_token").await;
    let mut urls = Vec::new();
    for service in 0..services {
        urls.extend(edges.iter().map(|edge| edge.url(&format!("/api/s{service}/x"))));
    }
    let begun = Instant::now();
    let fleet = Fleet::checking(&members, &urls, 48.min(sessions), Duration::from_millis(5), true, its_own);
    while begun.elapsed() < Duration::from_secs(seconds as u64) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        upstream.forget();
    }
    let watch = fleet.stop().await;
    let took = begun.elapsed().as_secs_f64();
    let (refreshes, refused) = (edges[0].grants("refresh_token").await - before, edges[0].grants("refused").await);
    watch.nobody_elses(&format!("{sessions} sessions x {services} services, {took:.0} s, {refreshes} refreshes"));
    assert_eq!(refused, 0, "no refresh token is used twice");
    assert!(watch.odd().is_empty() && watch.unavailable() == 0, "{:?}", watch.odd());
    let periods = begun.elapsed().as_secs() / 3 + 2;
    let most = sessions as u64 * services as u64 * periods;
    assert!(refreshes <= most, "{refreshes} of {most}");
    assert!(refreshes >= sessions as u64, "there was a storm: {refreshes}");
    assert_eq!(lost(&members, &[&edges[0]]).await, 0, "no session is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_is_its_sessions_own_in_storms_of_refreshes() {
    storm(scale(6, 200), 3, scale(5, 60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_refresh_token_is_used_twice() {
    storm(scale(12, 500), 1, scale(5, 60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_word_of_the_provider_ends_a_thousand_sessions_everywhere() {
    let (redis, upstream, ear) = (Redis::start(""), Upstream::start().await, Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url());
    let setup = setup.registered("backchannel_logout_uri", format!("{}/heard", ear.url()).into());
    let edges = replicas(&setup).await;
    let (issuer, count) = (&edges[0].provider.issuer, scale(100, 1_000));
    let registry = registry(&redis.url(), Duration::ZERO);
    let mut ended = Vec::new();
    for number in 0..count {
        ended.push(enrol(&registry, issuer, "ada", number).await.unwrap());
    }
    let others = enrol_many(&redis.url(), issuer, 30).await;
    let urls: Vec<String> = edges.iter().map(|edge| edge.url("/api/own/x")).collect();
    let ada = Browser::logged_in(&edges[0], "ada").await;
    assert_eq!(lost(&ended, &edges.each_ref()).await, 0, "all are close at hand everywhere");
    let fleet = Fleet::start(&others, &urls, 12, Duration::from_millis(10), true);
    ada.logout_at_provider(&edges[0]).await;
    let form = ear.last().body.start;
    let begun = Instant::now();
    let word = http_client().post(edges[0].url("/auth/backchannel-logout")).body(form);
    let word = word.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    assert_eq!(word.status(), 200);
    let told = Instant::now();
    let mut last = Duration::ZERO;
    let client = http_client();
    for part in ended.chunks(50) {
        let asked = part.iter().flat_map(|member| urls.iter().map(move |url| (member, url))).map(|(member, url)| {
            let client = client.clone();
            async move {
                let mut seen = Duration::ZERO;
                loop {
                    let asked = told.elapsed();
                    if look(&client, url, &member.cookie).await.unwrap().status == 401 {
                        return seen;
                    }
                    assert!(asked < Duration::from_secs(1), "a session goes on");
                    seen = asked;
                }
            }
        });
        last = futures::future::join_all(asked).await.into_iter().fold(last, Duration::max);
    }
    println!(
        "logout of {count} at three replicas: all refused; 200 after {:?}, the last request served was sent {last:?} later",
        told - begun
    );
    let watch = fleet.stop().await;
    watch.nobody_elses("others during the logout of a thousand");
    assert!(watch.odd().is_empty() && watch.unavailable() == 0, "{:?}", watch.odd());
}

/// As many requests as fit, of all kinds, with answers from the façade's cache among them.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_an_answer_of_somebody_else() {
    let (redis, upstream, old) = (Redis::start(""), Upstream::start().await, Upstream::start().await);
    old.behave(Say::cache_control("max-age=2", ""));
    let facade = format!(
        "legacy_services: {{ svc: \"{}/base\" }}\nlegacy_service_timeouts: {{ svc: 8 }}\n\
         response_cache: {{ enabled: true, default_ttl: 0, max_size: 100000 }}\n",
        old.url()
    );
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url()).legacy(&facade);
    let edges = replicas(&setup).await;
    let members = enrol_many(&redis.url(), &edges[0].provider.issuer, scale(60, 10_000)).await;
    let mut urls = Vec::new();
    for path in ["/api/own/x", "/api/v1/proxy/svc/same"] {
        urls.extend(edges.iter().map(|edge| edge.url(path)));
    }
    let fleet = Fleet::start(&members, &urls, 48, Duration::ZERO, true);
    // One of twenty hangs up in the middle.
    let (impatient, cut) = (Arc::new(Watch::default()), builder().build().unwrap());
    let until = Instant::now() + Duration::from_secs(scale(3, 300) as u64);
    let mut cuts = 0_usize;
    while Instant::now() < until {
        upstream.forget();
        old.forget();
        for _ in 0..10 {
            if cuts * 19 < fleet.watch.served() {
                let member = &members[fastrand::usize(0..members.len())];
                let asked = impatient.ask(&cut, member, &urls[cuts % urls.len()], |_, _, _| None);
                let _ = tokio::time::timeout(Duration::from_micros(fastrand::u64(0..4_000)), asked).await;
                cuts += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let watch = fleet.stop().await;
    watch.nobody_elses(&format!("{} users, {cuts} hung up", members.len()));
    impatient.nobody_elses("those who did not hang up in time");
    assert!(watch.odd().is_empty() && watch.unavailable() == 0, "{:?}", watch.odd());
    let stored = edges[0].metric("bff_cache_lookups_total{result=\"hit\"").await;
    println!("answers from the cache of the first: {stored}");
}

/// libfaketime, where Debian puts it for this machine's architecture; tests/run installs it.
pub(crate) fn faketime() -> String {
    let places = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut libraries =
        places.map(|place| place.join("faketime/libfaketimeMT.so.1")).filter(|library| library.exists());
    let library = libraries.next().expect("libfaketime is needed; tests/run installs it");
    library.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_wrong_goes_by_the_stores() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url());
    let setup = setup.session("lifetime_seconds: 1200");
    let faketime = faketime();
    let first = setup.clone().start().await;
    let browser = Browser::logged_in(&first, "ada").await;
    let before = first.grants("refresh_token").await;
    for wrong in ["+10m", "-10m", "+1h"] {
        let astray = setup.clone().env("LD_PRELOAD", &faketime).env("FAKETIME", wrong);
        let astray = astray.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").start_beside(&first).await;
        // From its first moment on.
        for edge in [&astray, &first, &astray] {
            assert_eq!(browser.get(edge.url("/api/own/x")).await.status(), 200, "{wrong}: a session of the others");
        }
        eventually!("it knows that it is wrong", astray.log.text().contains("is not that of the session store"));
        welcome(&setup, &[&first, &astray]).await;
        let there = Browser::logged_in(&astray, "bob").await;
        for edge in [&first, &astray] {
            assert_eq!(there.get(edge.url("/api/own/x")).await.status(), 200, "{wrong}: its own");
        }
        let session: serde_json::Value = there.get(first.url("/auth/session")).await.json().await.unwrap();
        println!("{wrong}: {session}");
        // A sweep of the others' clock would have ended them.
        assert_eq!(browser.get(first.url("/api/own/x")).await.status(), 200);
    }
    assert!(first.grants("refresh_token").await - before <= 4, "no storm of refreshes");
}

/// Redis does not answer when it starts: it knows neither sessions nor what time it is, and ends nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_not_told_the_time_ends_nothing() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).session("lifetime_seconds: 1200");
    let first = setup.clone().store(&redis.url()).start().await;
    let browser = Browser::logged_in(&first, "ada").await;
    let way = Way::to(redis.port).await;
    way.set(Fault::BlackHole);
    let astray = setup.store(&format!("redis://127.0.0.1:{}", way.port)).env("LD_PRELOAD", &faketime());
    let astray = astray.env("FAKETIME", "+1h").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").start_beside(&first).await;
    let (client, url, cookie) = (http_client(), astray.url("/api/own/x"), browser.cookie_header(&first.origin));
    for _ in 0..3 {
        let seen = look(&client, &url, &cookie).await.unwrap();
        assert_eq!((seen.status, seen.retry_after, seen.set_cookie), (503, true, false));
    }
    way.set(Fault::None);
    let mut served = false;
    let until = Instant::now() + Duration::from_secs(5);
    while !served && Instant::now() < until {
        let seen = look(&client, &url, &cookie).await.unwrap();
        assert!(matches!(seen.status, 200 | 503) && !seen.set_cookie, "{}", seen.status);
        served = seen.status == 200;
    }
    assert!(served, "it comes to know");
    assert_eq!(browser.get(first.url("/api/own/x")).await.status(), 200, "nothing was swept away");
}
