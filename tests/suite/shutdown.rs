//! The end and the refusal to begin.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{
    AUDIENCES, Behaviour, Browser, Edge, Lasting, RawClient, Setup, Socket, Starting, Upstream, events, failing_run,
    http_client, raw, scale,
};

#[tokio::test]
async fn sigterm_lets_a_request_in_flight_finish() {
    let upstream = Upstream::start().await;
    let mut edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).grace(8).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    upstream.behave(Behaviour::Delay(Duration::from_millis(1500)));
    let url = edge.url("/api/own/x");
    let in_flight = tokio::spawn({
        let browser = browser.clone();
        async move { browser.get(url).await.status().as_u16() }
    });
    eventually!("the service has the request", upstream.heads() == 1);
    edge.sigterm();
    assert_eq!(in_flight.await.unwrap(), 200);
    let status = edge.exit_status(Duration::from_secs(10)).await.expect("it ends within its grace");
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(tokio::net::TcpStream::connect(edge.address()).await.is_err(), "the port is free");
}

/// A browser on its way back from a provider that is late; its login's refresh token rotates as the service is mapped.
async fn half_way() -> (Upstream, Edge, Browser, String) {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[1])).grace(8).start().await;
    let browser = Browser::new();
    let callback = browser.authorize(&edge, "ada", "/").await;
    edge.provider.set_mode(&edge.client_id, "late:2500").await;
    (upstream, edge, browser, callback)
}

/// A stop while the token of a service is being fetched in the background, for which nobody waits.
async fn a_stop_keeps_what_is_renewed(mut edge: Edge, browser: &Browser) {
    edge.sigterm();
    let status = edge.exit_status(Duration::from_secs(10)).await.expect("it ends within its grace");
    assert_eq!(status.code(), Some(0), "{status}");
    edge.provider.set_mode(&edge.client_id, "ok").await;
    edge.start_again().await;
    assert_eq!(browser.get(edge.url("/api/own/x")).await.status(), 200, "the login is still good");
    assert_eq!(edge.grants("refresh_token").await, 1, "and its token was kept");
}

/// May make a new broker of tokens.
async fn reload(edge: &Edge) {
    edge.rewrite("conf/settings.yaml", |text| format!("{text}\ntoken_refresh_threshold: 250\n"));
    assert!(edge.reload().await);
}

#[tokio::test]
async fn sigterm_lets_a_renewal_finish_for_which_nobody_waits() {
    let (_upstream, edge, browser, callback) = half_way().await;
    assert_eq!(browser.get(&callback).await.status(), 302);
    a_stop_keeps_what_is_renewed(edge, &browser).await;
}

/// What the old broker began is waited for all the same.
#[tokio::test]
async fn a_renewal_that_a_reload_left_behind_finishes_too() {
    let (_upstream, edge, browser, callback) = half_way().await;
    assert_eq!(browser.get(&callback).await.status(), 302);
    reload(&edge).await;
    a_stop_keeps_what_is_renewed(edge, &browser).await;
}

/// A login that began before the reload maps its services after it, by the old broker.
#[tokio::test]
async fn a_renewal_that_begins_behind_a_reload_finishes_too() {
    let (_upstream, edge, browser, callback) = half_way().await;
    let login = tokio::spawn({
        let browser = browser.clone();
        async move { browser.get(&callback).await.status().as_u16() }
    });
    eventually!("the provider has the code", edge.grants("authorization_code").await == 1);
    reload(&edge).await;
    assert!(!login.is_finished());
    assert_eq!(login.await.unwrap(), 302);
    eventually!("the refresh token is spent", edge.grants("refresh_token").await == 1);
    a_stop_keeps_what_is_renewed(edge, &browser).await;
}

/// The provider is far away: its handshake takes longer than a process without requests lives on.
#[tokio::test]
async fn sigterm_lets_the_revocation_of_a_logout_finish() {
    let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = format!("revocation_url: https://{}/revoke", far.local_addr().unwrap());
    let mut edge = Setup::new().grace(8).start().await;
    edge.rewrite("conf/idps.yaml", |text| format!("{text}    {line}\n"));
    assert!(edge.reload().await);
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(browser.post(edge.url("/auth/logout")).await.status(), 302);
    edge.sigterm();
    let (handshake, _) = far.accept().await.unwrap();
    assert!(edge.exit_status(Duration::from_millis(1500)).await.is_none(), "it waits for an answer");
    drop((far, handshake));
    assert!(edge.exit_status(Duration::from_secs(5)).await.is_some_and(|status| status.success()));
}

#[tokio::test]
async fn draining_is_told_to_the_load_balancer() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).grace(8).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(browser.get(edge.url("/health/ready")).await.status(), 200);
    upstream.behave(Behaviour::Delay(Duration::from_secs(3)));
    let url = edge.url("/api/own/x");
    tokio::spawn(async move { browser.get(url).await });
    eventually!("the service has the request", upstream.heads() == 1);
    edge.sigterm();
    let ready = || async {
        let answer = crate::harness::http_client().get(edge.url("/health/ready")).send().await;
        answer.map_or(503, |answer| answer.status().as_u16())
    };
    eventually!("not ready, or no longer listening", ready().await == 503);
}

/// Everything that may be in flight, at a scale of 500 requests, 100 event streams and 100 WebSockets with
/// `SCALE=full`.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains() {
    let (upstream, lasting) = (Upstream::start().await, Lasting::start().await);
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).grace(12).drain_delay("1500ms");
    let setup = setup.service_alone("lasting", &lasting.url(), Some(AUDIENCES[0]), "timeout: 10").route(
        "{ id: lasting, path: \"/lasting/*\", target_service: lasting_service, preserve_path: true, auth: session, \
         streaming: true, websocket: true }",
    );
    let mut edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let cookie = browser.cookie_header(&edge.origin);
    let (mut streams, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..scale(10, 100) {
        streams.push(events(&edge, "/lasting/x", &cookie).await);
        sockets.push(Socket::open(&edge, "/lasting/x", &cookie).await);
    }
    let mut h2 = h2_connection(&edge).await;
    let login = Browser::new();
    let callback = login.authorize(&edge, "bob", "/").await;
    upstream.behave(Behaviour::Delay(Duration::from_millis(3_500)));
    let (client, count) = (http_client(), scale(50, 500));
    let mut in_flight = tokio::task::JoinSet::new();
    for _ in 0..count {
        let asking = client.get(edge.url("/api/own/x")).header("cookie", cookie.clone()).send();
        in_flight.spawn(async move {
            let closes =
                |answer: &reqwest::Response| answer.headers().get("connection").is_some_and(|it| it == "close");
            asking.await.map(|answer| (answer.status().as_u16(), closes(&answer)))
        });
    }
    // An upload that is not over when the signal comes.
    let mut upload = RawClient::connect(edge.address()).await;
    let head = format!("POST /api/own/up HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n", edge.port);
    upload.send(format!("{head}Content-Length: 40\r\n\r\n0123456789")).await;
    eventually!("the service has the requests", upstream.heads() == count + 1);

    edge.sigterm();
    let told = Instant::now();
    let fresh = http_client();
    let ready = || async { fresh.get(edge.url("/health/ready")).send().await.map(|answer| answer.status().as_u16()) };
    eventually!("it is no longer ready", ready().await.ok() == Some(503));
    assert!(told.elapsed() < Duration::from_secs(1), "at once: {:?}", told.elapsed());
    assert_eq!(login.get(&callback).await.status(), 302, "a login finishes");
    let (answer, _) =
        raw(edge.address(), format!("GET /health/live HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", edge.port)).await;
    assert_eq!(
        (answer.status(), answer.one("connection").as_deref()),
        (200, Some("close")),
        "come in, and do not stay"
    );
    for piece in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        upload.send(b"0123456789").await;
        assert!(piece < 2 || told.elapsed() >= Duration::from_millis(1_500));
    }
    let uploaded = upload.head().await;
    let last = (uploaded.status(), uploaded.one("connection"));
    assert_eq!(last, (200, Some("close".to_owned())), "an upload finishes, and its connection with it");
    while let Some(answer) = in_flight.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), (200, true), "a request finishes, and says that it is the last");
    }
    for stream in &mut streams {
        assert_eq!(stream.reader.chunk().await.expect("a last chunk"), b"");
    }
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, Some(1001));
    }
    assert!(says_goaway(&mut h2).await, "GOAWAY on HTTP/2");
    let status = edge.exit_status(Duration::from_secs(12).saturating_sub(told.elapsed())).await;
    assert_eq!(status.expect("it ends within its grace").code(), Some(0));
}

/// An HTTP/2 connection by prior knowledge (RFC 9113 §3.3) on which nothing is asked.
async fn h2_connection(edge: &Edge) -> TcpStream {
    let mut stream = TcpStream::connect(edge.address()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream
}

/// Whether a GOAWAY (RFC 9113 §6.8) is among the frames until the end.
async fn says_goaway(stream: &mut TcpStream) -> bool {
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        if head[3] == 7 {
            return true;
        }
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
    }
    false
}

#[tokio::test]
async fn sigint_waits_for_no_balancer() {
    let mut edge = plain().grace(20).drain_delay("10s").start().await;
    let told = Instant::now();
    edge.sigint();
    let status = edge.exit_status(Duration::from_secs(5)).await.expect("a person waits");
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
}

fn plain() -> Setup {
    Setup::new().service("own", "http://127.0.0.1:9", Some(AUDIENCES[0]))
}

#[tokio::test]
async fn a_taken_port_ends_the_process_with_a_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (status, said) = failing_run(plain(), port).await;
    assert!(!status.success(), "{said}");
    assert!(said.contains(&port.to_string()), "the line names the address: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn a_wrong_configuration_ends_the_process_before_it_listens() {
    let port = crate::harness::free_port();
    let (status, said) = failing_run(plain().top("servce_audiences: {}"), port).await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("settings.yaml:") && said.contains("service_audiences"), "place and nearest word: {said}");
}

/// The program as it waits for a Redis that does not answer; whoever holds the connection keeps it waiting.
async fn waiting_for_redis() -> (Starting, TcpStream) {
    let redis = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = format!("redis://{}", redis.local_addr().unwrap());
    let setup = Setup::new().service("own", "http://127.0.0.1:1", Some(AUDIENCES[0])).store(&store);
    let starting = Starting::spawn(&setup);
    (starting, redis.accept().await.unwrap().0)
}

#[tokio::test]
async fn a_start_is_ended_by_sigterm_and_sigint_and_by_no_sighup() {
    for end in ["TERM", "INT"] {
        let (mut starting, _redis) = waiting_for_redis().await;
        starting.signal("HUP");
        starting.signal(end);
        let status = starting.exit_status(Duration::from_secs(20)).await.expect("it ends");
        assert_eq!(status.code(), Some(0), "{end}: {status}");
        assert!(!starting.log.text().contains("\"serving\""), "{end}: {}", starting.log.text());
    }
}

#[tokio::test]
async fn a_sighup_that_comes_during_the_start_is_answered_after_it() {
    let (starting, _redis) = waiting_for_redis().await;
    starting.signal("HUP");
    eventually!("it reloads", starting.log.text().contains("CONFIG_RELOADED"), within 60);
}
