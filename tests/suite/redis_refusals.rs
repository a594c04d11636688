//! A Redis that is there, answers, and refuses: writes that are held up, a file that it cannot write, a user with few
//! rights, a policy that was changed while we were connected.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::harness::{AUDIENCES, Browser, Redis, Setup, Upstream, http_client};
use crate::store_full::a_full_store_hurts_logins_only;

const OWN: &str = AUDIENCES[0];

/// As a cluster does while it fails over by hand: reads are answered, and no script is run.
#[tokio::test]
async fn writes_that_are_held_up_cost_no_session() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url());
    let edge = setup.session("grace_seconds: 30").start().await;
    let ada = Browser::logged_in(&edge, "ada").await;
    redis.ask::<()>(redis::cmd("CLIENT").arg("PAUSE").arg(4_000).arg("WRITE"));
    let paused = Instant::now();
    let login = http_client().get(edge.url("/auth/login")).send().await.unwrap();
    assert_eq!((login.status().as_u16(), login.headers().contains_key("retry-after")), (503, true));
    while paused.elapsed() < Duration::from_secs(4) {
        let status = ada.get(edge.url("/api/own/x")).await.status();
        assert_eq!(status, 200, "a session close at hand, {:?} after", paused.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begins = || http_client().get(edge.url("/auth/login")).send();
    eventually!("logins begin again", begins().await.unwrap().status() == 302);
    assert_eq!(ada.get(edge.url("/api/own/x")).await.status(), 200);
}

/// It refuses PING then, as if that were a write.
#[tokio::test]
async fn a_redis_that_cannot_save_pauses_logins_and_nothing_else() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url()).session("grace_seconds: 2");
    let edge = setup.clone().start().await;
    let other = setup.clone().start_beside(&edge).await;
    let (ada, bob) = (Browser::logged_in(&edge, "ada").await, Browser::logged_in(&edge, "bob").await);
    let half_way = Browser::new();
    let callback = half_way.authorize(&edge, "eve", "/").await;
    redis.cannot_save(true);
    let broken = Instant::now();
    while broken.elapsed() < Duration::from_secs(4) {
        for edge in [&edge, &other] {
            assert_eq!(ada.get(edge.url("/api/own/x")).await.status(), 200, "after {:?}", broken.elapsed());
            assert_eq!(http_client().get(edge.url("/health/ready")).send().await.unwrap().status(), 200);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    a_full_store_hurts_logins_only(&edge, &ada, (&half_way, &callback)).await;
    let late = setup.start_beside(&edge).await;
    assert_eq!(ada.get(late.url("/api/own/x")).await.status(), 200, "whoever starts now finds it as well");
    let out = bob.post(edge.url("/auth/logout")).await;
    assert_eq!((out.status().as_u16(), out.headers().contains_key("set-cookie")), (503, false));
    assert_eq!(bob.get(other.url("/api/own/x")).await.status(), 200, "and is not half out");
    assert!(edge.log.text().contains("not fit to keep sessions"), "somebody is told");
    redis.cannot_save(false);
    half_way.login(&edge, "eve", "/").await;
    assert!(bob.post(edge.url("/auth/logout")).await.status().is_redirection());
    assert_eq!(bob.get(other.url("/api/own/x")).await.status(), 401);
}

#[tokio::test]
async fn a_policy_that_was_changed_is_told_of() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let edge = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url()).start().await;
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg("allkeys-lru"));
    eventually!("it is seen", edge.log.text().contains("maxmemory-policy allkeys-lru"), within 20);
}

/// What conf/settings.yaml says that a user needs, as written there.
fn documented() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/settings.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let rights = text.split("ACL SETUSER bff on >PASSWORD ").nth(1).unwrap().split("# (`bff:`").next().unwrap();
    rights.split_whitespace().filter(|word| *word != "#").map(str::to_owned).collect()
}

/// What scripts call is checked as what is asked.
#[test]
fn the_documented_rights_are_those_of_the_scripts() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/session/store/redis/script.rs");
    let scripts = std::fs::read_to_string(path).unwrap();
    let called = scripts.split("redis.call('").skip(1).map(|rest| rest.split('\'').next().unwrap().to_lowercase());
    let asked = ["eval", "subscribe", "ping", "time", "role", "wait", "info", "client|tracking"];
    let needed: BTreeSet<String> = called.chain(asked.map(str::to_owned)).collect();
    let documented = documented();
    let granted = documented.iter().filter_map(|word| word.strip_prefix('+')).map(str::to_owned);
    assert_eq!(granted.collect::<BTreeSet<_>>(), needed);
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let rights = documented().join(" ");
    let redis = Redis::start(&format!("user default on nopass ~* &* +@all\nuser bff on >secret {rights}"));
    let (upstream, store) = (Upstream::start().await, format!("redis://bff:secret@{}", redis.address()));
    let limited = |id: &str, more: &str| {
        format!(
            "{{ id: {id}, path: \"/{id}/*\", target_service: own_service, preserve_path: true, auth: none, \
             rate_limit: {{ requests: 2, period: 1h{more} }}, token_policy: {{ mode: none }} }}"
        )
    };
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&store).access_ttl(3);
    let setup = setup.route(&limited("window", "")).route(&limited("bucket", ", burst: 2"));
    let edge = setup.session("max_per_user: 2").start().await;
    let ada = Browser::logged_in(&edge, "ada").await;
    eventually!("a token is renewed", {
        assert_eq!(ada.get(edge.url("/api/own/x")).await.status(), 200);
        edge.grants("refresh_token").await > 1
    });
    for path in ["/window/x", "/bucket/x"] {
        let answers = [(); 3].map(|()| http_client().get(edge.url(path)).send());
        let seen = futures::future::join_all(answers).await.into_iter().map(|one| one.unwrap().status().as_u16());
        assert_eq!(seen.filter(|status| *status == 200).count(), 2, "{path}");
    }
    assert!(ada.post(edge.url("/auth/logout")).await.status().is_redirection());
    for _ in 0..3 {
        Browser::logged_in(&edge, "bob").await;
    }
    let bob = Browser::logged_in(&edge, "bob").await;
    bob.logout_at_provider(&edge).await;
    eventually!("the provider ends a session", bob.get(edge.url("/auth/session")).await.status() == 401);
    let everywhere = Browser::logged_in(&edge, "bob").await;
    assert!(everywhere.post(edge.url("/auth/logout?everywhere=true")).await.status().is_redirection());
    let denied: Vec<redis::Value> = redis.ask(redis::cmd("ACL").arg("LOG"));
    let denied = format!("{denied:?}");
    // Who may not ask CONFIG asks INFO.
    assert!(!denied.contains("\"lua\"") && !denied.contains("\"key\"") && !denied.contains("\"channel\""), "{denied}");
    for line in edge.log.text().lines() {
        assert!(!line.contains("NOPERM") && !line.contains("does not tell"), "{line}");
    }
}
