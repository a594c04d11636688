//! Stores that take nothing more: nobody can log in, who is logged in goes on, and all is well again
//! as soon as there is room.

use crate::harness::{AUDIENCES, Browser, Edge, Redis, Setup, Upstream, http_client};

const OWN: &str = AUDIENCES[0];

/// What holds while the store is full: `ada` is logged in, and `half_way` may come back from the provider.
pub(crate) async fn a_full_store_hurts_logins_only(edge: &Edge, ada: &Browser, half_way: (&Browser, &str)) {
    for _ in 0..5 {
        assert_eq!(ada.get(edge.url("/api/own/x")).await.status(), 200, "who is logged in goes on");
        assert_eq!(ada.get(edge.url("/auth/session")).await.status(), 200);
    }
    let begun = http_client().get(edge.url("/auth/login")).send().await.unwrap();
    assert_eq!((begun.status().as_u16(), begun.headers().contains_key("retry-after")), (503, true));
    assert!(!begun.headers().contains_key("set-cookie"));
    assert!(begun.text().await.unwrap().contains("Logins are paused"));
    let (browser, callback) = half_way;
    let back = browser.get(callback).await;
    assert_eq!((back.status().as_u16(), back.headers().contains_key("retry-after")), (503, true));
    assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 401, "no half session");
    let live = http_client().get(edge.url("/health/live")).send().await.unwrap();
    assert_eq!(live.status(), 200);
}

#[tokio::test]
async fn a_full_redis_pauses_logins_and_nothing_else() {
    let (redis, upstream) = (Redis::start("maxmemory-policy noeviction"), Upstream::start().await);
    let limited = "{ id: limited, path: \"/limited/*\", target_service: own_service, preserve_path: true, auth: none, \
                   rate_limit: { requests: 2, period: 1h }, token_policy: { mode: none } }";
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url()).route(limited);
    let edge = setup.clone().start().await;
    let other = setup.start_beside(&edge).await;
    let (ada, bob) = (Browser::logged_in(&edge, "ada").await, Browser::logged_in(&edge, "bob").await);
    let half_way = Browser::new();
    let callback = half_way.authorize(&edge, "eve", "/").await;
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1));
    a_full_store_hurts_logins_only(&edge, &ada, (&half_way, &callback)).await;
    assert_eq!(ada.get(other.url("/api/own/x")).await.status(), 200, "also where the session is not close at hand");
    let answers = [(); 3].map(|()| http_client().get(edge.url("/limited/x")).send());
    let seen: Vec<u16> =
        futures::future::join_all(answers).await.into_iter().map(|one| one.unwrap().status().as_u16()).collect();
    assert_eq!(seen.iter().filter(|status| **status == 200).count(), 2, "limits are kept here: {seen:?}");
    bob.post(edge.url("/auth/logout")).await;
    assert_eq!(bob.get(other.url("/api/own/x")).await.status(), 401, "a logout makes room");
    assert!(edge.metric("bff_redis_operations_total{operation=\"put_note\",status=\"error\"}").await > 0, "an alarm");
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0));
    half_way.login(&edge, "eve", "/").await;
    assert_eq!(half_way.get(other.url("/api/own/x")).await.status(), 200);
}

#[tokio::test]
async fn a_full_redis_keeps_what_is_renewed() {
    let (redis, upstream) = (Redis::start("maxmemory-policy noeviction"), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).access_ttl(3).store(&redis.url());
    let edge = setup.clone().session("lifetime_seconds: 8").start().await;
    let other = setup.session("lifetime_seconds: 8").start_beside(&edge).await;
    let ada = Browser::logged_in(&edge, "ada").await;
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1));
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(10) {
        for edge in [&edge, &other] {
            assert_eq!(ada.get(edge.url("/api/own/x")).await.status(), 200, "after {:?}", begun.elapsed());
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    assert!(edge.grants("refresh_token").await >= 2);
    assert_eq!(edge.grants("refused").await, 0, "one refresh for both");
}

#[tokio::test]
async fn a_login_that_cannot_be_kept_does_not_cost_the_one_before() {
    keeps_the_one_before("lax").await;
}

/// The provider's redirect brings no such cookie along: who comes without one may well be logged in.
#[tokio::test]
async fn nor_does_it_with_strict_cookies() {
    keeps_the_one_before("strict").await;
}

/// One browser's logins may share a grant at the provider, which ends with the first refresh token that is revoked.
async fn keeps_the_one_before(same_site: &str) {
    let (redis, upstream) = (Redis::start("maxmemory-policy noeviction"), Upstream::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).access_ttl(3).store(&redis.url());
    let edge = setup.session(&format!("same_site: {same_site}")).start().await;
    let ada = Browser::logged_in(&edge, "ada").await;
    let callback = ada.authorize(&edge, "ada", "/").await;
    let cookies = ada.cookie_header(&edge.origin);
    let sent = cookies.split("; ").filter(|pair| same_site == "lax" || !pair.starts_with("bff_session="));
    let sent = sent.collect::<Vec<_>>().join("; ");
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1));
    assert_eq!(http_client().get(callback).header("cookie", sent).send().await.unwrap().status(), 503);
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0));
    let renewed = edge.grants("refresh_token").await;
    eventually!("her token is renewed", {
        assert_eq!(ada.get(edge.url("/api/own/x")).await.status(), 200, "the session she had");
        edge.grants("refresh_token").await > renewed
    });
    assert_eq!(edge.grants("revoked").await, 0);
}

/// Deleting needs no room.
#[tokio::test]
async fn a_full_redis_lets_the_provider_end_a_session() {
    let (redis, upstream) = (Redis::start("maxmemory-policy noeviction"), Upstream::start().await);
    let edge = Setup::new().service("own", &upstream.url(), Some(OWN)).store(&redis.url()).start().await;
    let ada = Browser::logged_in(&edge, "ada").await;
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1));
    ada.logout_at_provider(&edge).await;
    eventually!("the session is over", ada.get(edge.url("/auth/session")).await.status() == 401);
    assert_eq!(edge.metric("bff_sessions_destroyed_total{reason=\"backchannel_logout\"}").await, 1);
}

#[tokio::test]
async fn a_full_disk_pauses_logins_and_nothing_else() {
    let upstream = Upstream::start().await;
    let mut edge = Setup::new().service("own", &upstream.url(), Some(OWN)).start().await;
    let ada = Browser::logged_in(&edge, "ada").await;
    let half_way = Browser::new();
    let callback = half_way.authorize(&edge, "eve", "/").await;
    edge.fill_disk(true);
    a_full_store_hurts_logins_only(&edge, &ada, (&half_way, &callback)).await;
    for operation in ["put_note", "take_note"] {
        let failed = edge.metric(&format!("bff_store_errors_total{{operation=\"{operation}\"}}")).await;
        assert!(failed > 0, "an alarm: {operation}");
    }
    edge.fill_disk(false);
    half_way.login(&edge, "eve", "/").await;
    for browser in [&ada, &half_way] {
        assert_eq!(browser.get(edge.url("/api/own/x")).await.status(), 200);
    }
    edge.kill9();
    edge.start_again().await;
    for browser in [&ada, &half_way] {
        assert_eq!(browser.get(edge.url("/api/own/x")).await.status(), 200, "nothing on the disk is damaged");
    }
}

#[tokio::test]
async fn a_full_disk_lets_everybody_log_out() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(OWN)).start().await;
    let (ada, bob) = (Browser::logged_in(&edge, "ada").await, Browser::logged_in(&edge, "bob").await);
    // The journal grows no more.
    let journal = std::fs::metadata(edge.folder().join("sessions.db-wal")).unwrap().len();
    edge.bound_files(&journal.to_string());
    let begun = http_client().get(edge.url("/auth/login")).send().await.unwrap();
    assert_eq!(begun.status(), 503, "it is full");
    assert!(bob.post(edge.url("/auth/logout")).await.status().is_redirection());
    ada.logout_at_provider(&edge).await;
    for browser in [&ada, &bob] {
        eventually!("the session is over", browser.get(edge.url("/auth/session")).await.status() == 401);
    }
}
