//! A new program takes the listening sockets over while it is asked without a pause: nobody is refused,
//! nobody is cut off, and what began with the old one ends there.

use std::time::Duration;

use crate::harness::{
    AUDIENCES, Browser, Edge, Lasting, Load, RawClient, Redis, Setup, Upstream, events, http_client, scale,
};

async fn an_upgrade_is_not_noticed(setup: Setup) {
    let (upstream, lasting) = (Upstream::start().await, Lasting::start().await);
    let setup = setup.service("own", &upstream.url(), Some(AUDIENCES[0])).grace(20);
    let setup = setup.service_alone("lasting", &lasting.url(), Some(AUDIENCES[0]), "timeout: 10").route(
        "{ id: lasting, path: \"/lasting/*\", target_service: lasting_service, preserve_path: true, auth: session, \
         streaming: true }",
    );
    let mut edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let cookie = browser.cookie_header(&edge.origin);
    for _ in 0..scale(0, 5) {
        one_upgrade(&mut edge, &cookie).await;
    }
    // One with everything in flight.
    let login = Browser::new();
    let callback = login.authorize(&edge, "bob", "/").await;
    let mut stream = events(&edge, "/lasting/x", &cookie).await;
    let _idle = RawClient::connect(edge.address()).await;
    let mut upload = RawClient::connect(edge.address()).await;
    let head = format!("POST /api/own/up HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n", edge.port);
    upload.send(format!("{head}Content-Length: 400\r\n\r\n")).await;
    let uploading = tokio::spawn(async move {
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            upload.send(b"0123456789").await;
        }
        upload.head().await.status()
    });
    let load = Load::start(&edge.url("/api/own/x"), &cookie, 4, 2);
    let mut old = edge.upgrade().await;
    assert_eq!(login.get(&callback).await.status(), 302, "a login begun with the old process");
    assert_eq!(login.get(edge.url("/api/own/x")).await.status(), 200);
    assert_eq!(uploading.await.unwrap(), 200, "an upload begun with the old process");
    assert!(old.exit_status(Duration::ZERO).await.is_none(), "the stream is still open there");
    assert_eq!(lasting.open(), 1);
    let before = load.answered();
    lasting.end();
    assert_eq!(stream.reader.chunk().await.unwrap(), b"data: last\n\n", "a stream begun with the old process");
    assert_eq!(stream.reader.chunk().await.unwrap(), b"");
    let status = old.exit_status(Duration::from_secs(10)).await.expect("nothing holds it");
    assert_eq!(status.code(), Some(0), "{status}");
    eventually!("the new one serves", load.answered() > before + 100);
    let admin = http_client().get(edge.admin_url("/health/ready")).send().await.unwrap();
    assert_eq!(admin.status(), 200, "the admin listener came along");
    let (answered, failed) = load.stop().await;
    assert!(failed.is_empty(), "{} of {answered} failed: {failed:#?}", failed.len());
    assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200);
}

async fn one_upgrade(edge: &mut Edge, cookie: &str) {
    let load = Load::start(&edge.url("/api/own/x"), cookie, 4, 2);
    let mut old = edge.upgrade().await;
    let status = old.exit_status(Duration::from_secs(15)).await.expect("it leaves");
    assert_eq!(status.code(), Some(0), "{status}");
    let (answered, failed) = load.stop().await;
    assert!(failed.is_empty(), "{} of {answered} failed: {failed:#?}", failed.len());
    assert!(answered > 100, "{answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_on_sqlite_is_not_noticed() {
    an_upgrade_is_not_noticed(Setup::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_on_redis_is_not_noticed() {
    let redis = Redis::start("");
    an_upgrade_is_not_noticed(Setup::new().store(&redis.url())).await;
}

#[tokio::test]
async fn a_process_with_nothing_to_do_hands_over_before_it_leaves() {
    let setup = Setup::new().service("own", "http://127.0.0.1:9", Some(AUDIENCES[0]));
    let mut edge = setup.start().await;
    let mut old = edge.upgrade().await;
    let status = old.exit_status(Duration::from_secs(15)).await.expect("it leaves");
    assert_eq!(status.code(), Some(0), "{status}");
    for url in [edge.url("/health/ready"), edge.admin_url("/health/ready")] {
        assert_eq!(http_client().get(url).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn nothing_is_handed_to_nobody() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).start().await;
    edge.sigquit();
    eventually!("it says why", edge.log.has(&["nothing is handed over"]));
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(browser.get(edge.url("/api/own/x")).await.status(), 200, "it serves on");
}
