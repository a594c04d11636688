//! Back-channel logout: the real provider tells the program, without a browser, that a login is over.

use std::time::{Duration, Instant};

use reqwest::Url;
use serde_json::{Value, json};

use crate::fleet::faketime;
use crate::harness::faults::{Fault, Way};
use crate::harness::{AUDIENCES, Browser, Edge, RawClient, Redis, Setup, Upstream, http_client, problem};

const PATH: &str = "/auth/backchannel-logout";

async fn setup() -> (Setup, Upstream) {
    let upstream = Upstream::start().await;
    (Setup::new().service("echo", &upstream.url(), Some(AUDIENCES[0])), upstream)
}

async fn is_in(browser: &Browser, edge: &Edge) -> bool {
    match browser.get(edge.url("/auth/session")).await.status().as_u16() {
        200 => true,
        401 => false,
        other => panic!("/auth/session answered {other}"),
    }
}

/// An edge whose provider sends its logout tokens elsewhere: the test holds them in its hand.
async fn edge_with_captured_tokens(store: Option<&str>) -> (Edge, Upstream) {
    let (setup, ear) = setup_with_captured_tokens(store).await;
    (setup.start().await, ear)
}

async fn setup_with_captured_tokens(store: Option<&str>) -> (Setup, Upstream) {
    setup_with_tokens(store, true).await
}

/// With a `sid` in them, or with a `sub` alone.
async fn setup_with_tokens(store: Option<&str>, sid: bool) -> (Setup, Upstream) {
    let (mut setup, _) = setup().await;
    let ear = Upstream::start().await;
    if let Some(store) = store {
        setup = setup.store(store);
    }
    let setup = setup.registered("backchannel_logout_session_required", json!(sid));
    (setup.registered("backchannel_logout_uri", json!(format!("{}/heard", ear.url()))), ear)
}

/// The logout token of a browser that logs out at the provider.
async fn capture(browser: &Browser, edge: &Edge, ear: &Upstream) -> String {
    browser.logout_at_provider(edge).await;
    let heard = ear.last();
    let mut form = url::form_urlencoded::parse(&heard.body.start).into_owned();
    form.find(|(name, _)| name == "logout_token").expect("a logout token").1
}

async fn post(edge: &Edge, token: &str) -> reqwest::Response {
    post_by(&http_client(), edge, token).await
}

async fn post_by(client: &reqwest::Client, edge: &Edge, token: &str) -> reqwest::Response {
    let request = client.post(edge.url(PATH)).form(&[("logout_token", token)]);
    // Neither CSRF nor origin is asked of a server.
    request.header("origin", "https://idp.example").header("sec-fetch-site", "cross-site").send().await.unwrap()
}

async fn assert_refused(answer: reqwest::Response, what: &str) {
    assert_eq!(answer.status(), 400, "{what}");
    assert_eq!(answer.headers()["cache-control"], "no-store", "{what}");
    assert_eq!(answer.headers()["content-type"], "application/json", "{what}");
    assert_eq!(answer.json::<Value>().await.unwrap()["error"], "invalid_request", "{what}");
}

#[tokio::test]
async fn a_logout_at_the_provider_ends_that_login_within_a_second() {
    let (setup, _upstream) = setup().await;
    let edge = setup.registered("backchannel_logout_session_required", json!(true)).start().await;
    let (desk, phone) = (Browser::logged_in(&edge, "ada").await, Browser::logged_in(&edge, "ada").await);
    assert!(is_in(&desk, &edge).await && is_in(&phone, &edge).await);
    let begun = Instant::now();
    desk.logout_at_provider(&edge).await;
    eventually!("the session is over", !is_in(&desk, &edge).await);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(is_in(&phone, &edge).await, "another login of the same person goes on");
    assert_eq!(edge.metric("bff_sessions_destroyed_total{reason=\"backchannel_logout\"}").await, 1);
    assert_eq!(edge.metric("bff_token_validation_total{status=\"valid\",token_type=\"logout_token\"}").await, 1);
}

#[tokio::test]
async fn a_logout_without_a_sid_ends_every_login_of_the_person() {
    let (setup, _upstream) = setup().await;
    let edge = setup.start().await;
    let (desk, phone) = (Browser::logged_in(&edge, "ada").await, Browser::logged_in(&edge, "ada").await);
    let stranger = Browser::logged_in(&edge, "grace").await;
    desk.logout_at_provider(&edge).await;
    eventually!("both are over", !is_in(&desk, &edge).await && !is_in(&phone, &edge).await);
    assert!(is_in(&stranger, &edge).await);
}

#[tokio::test]
async fn a_logout_token_counts_once_and_only_as_it_was_signed() {
    let (edge, ear) = edge_with_captured_tokens(None).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let token = capture(&browser, &edge, &ear).await;
    let (body, signature) = token.rsplit_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIn0";
    let payload = body.split('.').nth(1).unwrap();
    for (what, bad) in [
        ("no signature", format!("{body}.")),
        ("another signature", format!("{body}.{}", signature.chars().rev().collect::<String>())),
        ("alg none", format!("{none}.{payload}.")),
        ("no token", String::new()),
    ] {
        assert_refused(post(&edge, &bad).await, what).await;
    }
    assert!(is_in(&browser, &edge).await, "none of those ended anything");

    let answer = post(&edge, &token).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["cache-control"]), (200, &"no-store".parse().unwrap()));
    assert!(!is_in(&browser, &edge).await);
    assert_refused(post(&edge, &token).await, "the same jti again").await;
    assert!(!edge.log.text().contains(&token), "no token in the log");
}

/// Whoever comes while it is being heeded waits, and is told that it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_logout_token_that_comes_eight_times_at_once_counts_once() {
    let redis = Redis::start("");
    let way = Way::to(redis.port).await;
    let (edge, ear) = edge_with_captured_tokens(Some(&format!("redis://127.0.0.1:{}", way.port))).await;
    let token = capture(&Browser::logged_in(&edge, "ada").await, &edge, &ear).await;
    // Each has asked before the first is answered.
    way.set(Fault::Late(Duration::from_millis(50)));
    let client = http_client();
    let answers = futures::future::join_all((0..8).map(|_| post_by(&client, &edge, &token))).await;
    let heeded = answers.iter().filter(|answer| answer.status() == 200).count();
    let refused = answers.iter().filter(|answer| answer.status() == 400).count();
    assert_eq!((heeded, refused), (1, 7));
}

/// Each store keeps the `jti` in its own way.
#[tokio::test]
async fn a_logout_token_counts_once_on_every_store_and_for_all_replicas() {
    let redis = Redis::start("");
    for store in [Some(redis.url()), Some("memory:".to_owned()), None] {
        let (setup, ear) = setup_with_captured_tokens(store.as_deref()).await;
        let edge = setup.clone().start().await;
        let other = if store == Some(redis.url()) { Some(setup.start_beside(&edge).await) } else { None };
        let token = capture(&Browser::logged_in(&edge, "ada").await, &edge, &ear).await;
        assert_eq!(post(&edge, &token).await.status(), 200, "{store:?}");
        for replica in [Some(&edge), other.as_ref()].into_iter().flatten() {
            assert_refused(post(replica, &token).await, "the same jti again").await;
        }
    }
}

#[tokio::test]
async fn a_login_that_is_not_here_is_as_good_as_ended() {
    let (edge, ear) = edge_with_captured_tokens(None).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    browser.post(edge.url("/auth/logout")).await;
    let token = capture(&browser, &edge, &ear).await;
    assert_eq!(post(&edge, &token).await.status(), 200);
}

#[tokio::test]
async fn an_id_token_is_no_logout_token() {
    let (edge, _ear) = edge_with_captured_tokens(None).await;
    let (browser, other) = (Browser::logged_in(&edge, "ada").await, Browser::logged_in(&edge, "ada").await);
    let target = browser.post(edge.url("/auth/logout")).await;
    let target = Url::parse(&crate::harness::location(&target).unwrap()).unwrap();
    let hint = target.query_pairs().find(|(name, _)| name == "id_token_hint").unwrap().1.into_owned();
    assert_refused(post(&edge, &hint).await, "an ID token").await;
    assert!(is_in(&other, &edge).await);
}

#[tokio::test]
async fn a_store_that_is_held_up_says_try_again_and_then_does_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let (edge, ear) = edge_with_captured_tokens(Some(&format!("sqlite:{}", path.display()))).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let token = capture(&browser, &edge, &ear).await;
    let locker = rusqlite::Connection::open(&path).unwrap();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = post(&edge, &token).await;
    assert!(answer.status() == 503 && answer.headers().contains_key("retry-after"), "{}", answer.status());
    assert_eq!(problem(answer).await["code"], "store_unavailable");
    assert!(is_in(&browser, &edge).await);
    locker.execute_batch("ROLLBACK").unwrap();
    assert_eq!(post(&edge, &token).await.status(), 200);
    assert!(!is_in(&browser, &edge).await);
}

/// A provider asks again after a 503, with the same token: it counts as used when it was heeded.
#[tokio::test]
async fn a_logout_token_that_could_not_be_heeded_may_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let (edge, ear) = edge_with_captured_tokens(Some(&format!("sqlite:{}", path.display()))).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let token = capture(&browser, &edge, &ear).await;
    let store = rusqlite::Connection::open(&path).unwrap();
    for table in ["sessions", "notes"] {
        let stuck =
            format!("CREATE TRIGGER stuck_{table} BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END");
        store.execute_batch(&stuck).unwrap();
    }
    assert_eq!(post(&edge, &token).await.status(), 503);
    store.execute_batch("DROP TRIGGER stuck_sessions; DROP TRIGGER stuck_notes").unwrap();
    // For a moment it looks as if somebody were at it.
    eventually!("it is heeded", post(&edge, &token).await.status() == 200);
    assert!(!is_in(&browser, &edge).await);
    assert_refused(post(&edge, &token).await, "the same jti again").await;
}

/// The store could not be asked, but nobody is at it any more: the provider need not try a third time.
#[tokio::test]
async fn a_logout_token_that_could_not_be_heeded_is_heeded_as_soon_as_it_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let (edge, ear) = edge_with_captured_tokens(Some(&format!("sqlite:{}", path.display()))).await;
    let token = capture(&Browser::logged_in(&edge, "ada").await, &edge, &ear).await;
    let store = rusqlite::Connection::open(&path).unwrap();
    let stuck = "CREATE TRIGGER stuck BEFORE DELETE ON sessions BEGIN SELECT RAISE(ABORT, 'no'); END";
    store.execute_batch(stuck).unwrap();
    assert_eq!(post(&edge, &token).await.status(), 503);
    store.execute_batch("DROP TRIGGER stuck").unwrap();
    assert_eq!(post(&edge, &token).await.status(), 200);
}

/// The provider ends a login whose code is being redeemed: its word comes before there is a session to end.
#[tokio::test]
async fn a_login_that_ends_while_it_is_completed_makes_no_session() {
    for sid in [true, false] {
        let (setup, ear) = setup_with_tokens(None, sid).await;
        let edge = setup.start().await;
        ends_while_it_is_completed(&edge, &edge, &ear).await;
    }
}

/// A browser that is slow brings its code when the provider has ended that login already, and a code outlives its login.
#[tokio::test]
async fn a_login_that_ended_before_its_code_is_brought_makes_no_session() {
    let (edge, ear) = edge_with_captured_tokens(None).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let callback = browser.authorize(&edge, "ada", "/").await;
    let token = capture(&browser, &edge, &ear).await;
    assert_eq!(post(&edge, &token).await.status(), 200);
    assert!(!is_in(&browser, &edge).await);
    assert_eq!(browser.get(&callback).await.status(), 400);
    assert!(!is_in(&browser, &edge).await);
    assert_eq!(edge.grants("authorization_code").await, 2, "the provider would have let it in");
    browser.login(&edge, "ada", "/").await;
    assert!(is_in(&browser, &edge).await, "the next login is another");
}

/// The word comes to another replica, whose machine has another time.
#[tokio::test]
async fn a_login_that_ends_elsewhere_while_it_is_completed_makes_no_session() {
    let redis = Redis::start("");
    // By its own clock the word of the one came before the login, and that of the other before every later one.
    for (sid, wrong) in [(true, "-1h"), (false, "+1h")] {
        let (setup, ear) = setup_with_tokens(Some(&redis.url()), sid).await;
        let edge = setup.clone().start().await;
        let there = setup.env("LD_PRELOAD", &faketime()).env("FAKETIME", wrong);
        let there = there.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").start_beside(&edge).await;
        ends_while_it_is_completed(&edge, &there, &ear).await;
    }
}

/// The login is completed at `edge`, and the word of its end comes `there`.
async fn ends_while_it_is_completed(edge: &Edge, there: &Edge, ear: &Upstream) {
    let browser = Browser::logged_in(edge, "ada").await;
    let callback = browser.authorize(edge, "ada", "/").await;
    let before = edge.grants("authorization_code").await;
    edge.provider.set_mode(&edge.client_id, "late:1500").await;
    let (done, ended) = tokio::join!(browser.get(&callback), async {
        eventually!("the code is redeemed", edge.grants("authorization_code").await > before);
        post(there, &capture(&browser, edge, ear).await).await.status()
    });
    assert_eq!((done.status().as_u16(), ended.as_u16()), (400, 200));
    assert!(!is_in(&browser, edge).await);
    edge.provider.set_mode(&edge.client_id, "ok").await;
    browser.login(edge, "ada", "/").await;
    assert!(is_in(&browser, edge).await, "the next login is another");
}

#[tokio::test]
async fn what_is_no_form_of_a_token_is_refused_and_the_connection_goes_on() {
    let (edge, _ear) = edge_with_captured_tokens(None).await;
    let send = |body: &'static str| http_client().post(edge.url(PATH)).body(body);
    let form = ("content-type", "application/x-www-form-urlencoded");
    assert_refused(send("").send().await.unwrap(), "nothing").await;
    assert_refused(send("logout_token=x").send().await.unwrap(), "no content type").await;
    assert_refused(send("token=x").header(form.0, form.1).send().await.unwrap(), "another field").await;
    let twice = send("logout_token=x&logout_token=y").header(form.0, form.1);
    assert_refused(twice.send().await.unwrap(), "the field twice").await;

    let get = http_client().get(edge.url(PATH)).send().await.unwrap();
    assert_eq!((get.status().as_u16(), &get.headers()["allow"]), (405, &"POST".parse().unwrap()));
    let huge = http_client().post(edge.url(PATH)).form(&[("logout_token", "x".repeat(70_000))]).send().await.unwrap();
    assert_eq!(problem(huge).await["code"], "body_too_large");

    let mut client = RawClient::connect(edge.address()).await;
    let head = "POST /auth/backchannel-logout HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    client.send(format!("{head}Content-Length: 14\r\nExpect: 100-continue\r\n\r\n")).await;
    assert_eq!(client.head().await.status(), 100);
    let (first, _) = client.ask("logout_token=x").await;
    assert_eq!(first.status(), 400);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\ne\r\nlogout_token=x\r\n0\r\n\r\n");
    assert_eq!(client.ask(chunked).await.0.status(), 400, "on the same connection");
}
