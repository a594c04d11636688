//! Event streams and WebSockets end with the session they were opened with, on whichever replica they
//! are, and with nothing else: silence alone ends none.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::harness::{AUDIENCES, Browser, Edge, Lasting, Redis, Setup, Socket, builder, events, scale};

const EVENTS: &str = "{ id: events, path: \"/events/*\", target_service: own_service, preserve_path: true, auth: session, streaming: true }";
/// Nothing is said of streaming here; what an `EventSource` asks for says it.
const ASKED: &str =
    "{ id: asked, path: \"/asked/*\", target_service: own_service, preserve_path: true, auth: session }";
const SOCKET: &str = "{ id: socket, path: \"/socket/*\", target_service: own_service, preserve_path: true, \
                      auth: session, websocket: true }";
/// What is promised, of which the tests say nothing shorter.
const AT_ONCE: Duration = Duration::from_secs(1);

fn setup(service: &Lasting) -> Setup {
    let setup = Setup::new().service_alone("own", &service.url(), Some(AUDIENCES[0]), "timeout: 10");
    setup.route(EVENTS).route(ASKED).route(SOCKET)
}

/// One of each kind, of one user.
struct Open {
    events: crate::harness::RawClient,
    h2: reqwest::Response,
    asked: reqwest::Response,
    socket: Socket,
}

impl Open {
    async fn at(edges: [&Edge; 3], cookie: &str) -> Self {
        let h2 = builder().http2_prior_knowledge().build().unwrap();
        let h2 = h2.get(edges[1].url("/events/x")).header("cookie", cookie).send();
        let asked = builder().build().unwrap().get(edges[2].url("/asked/x")).header("accept", "text/event-stream");
        let mut open = Self {
            events: events(edges[0], "/events/x", cookie).await,
            h2: h2.await.unwrap(),
            asked: asked.header("cookie", cookie).send().await.unwrap(),
            socket: Socket::open(edges[2], "/socket/x", cookie).await,
        };
        assert_eq!(open.h2.version(), reqwest::Version::HTTP_2);
        for answer in [&mut open.h2, &mut open.asked] {
            assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: hello\n\n");
        }
        open
    }

    /// All end, each as its protocol ends.
    async fn ended(mut self, code: u16) {
        assert_eq!(self.events.reader.chunk().await.expect("a last chunk"), b"");
        assert_eq!(self.h2.bytes().await.expect("END_STREAM"), "");
        assert_eq!(self.asked.bytes().await.expect("a last chunk"), "");
        assert_eq!(self.socket.closed().await, Some(code));
    }

    /// Nothing has come.
    async fn goes_on(&mut self) -> bool {
        let moment = Duration::from_millis(100);
        timeout(moment, self.events.reader.chunk()).await.is_err()
            && timeout(moment, self.h2.chunk()).await.is_err()
            && timeout(moment, self.asked.chunk()).await.is_err()
    }
}

/// Ada has a stream of each kind on three replicas and logs out on the first; Bob's go on.
async fn a_logout_ends_what_is_open(edges: [&Edge; 3], service: &Lasting, logout: &str) {
    let (ada, bob) = (Browser::logged_in(edges[0], "ada").await, Browser::logged_in(edges[0], "bob").await);
    let of_ada = Open::at(edges, &ada.cookie_header(&edges[0].origin)).await;
    let mut of_bob = Open::at(edges, &bob.cookie_header(&edges[0].origin)).await;
    eventually!("all are open", service.open() == 8);
    assert_eq!(ada.post(edges[0].url(logout)).await.status().as_u16() / 100, 3);
    let since = Instant::now();
    timeout(AT_ONCE, of_ada.ended(1008)).await.expect("all have ended within a second");
    assert!(of_bob.goes_on().await, "{:?} later", since.elapsed());
    eventually!("the service knows it", service.open() == 4);
    // RFC 6455 §5.3: ours is masked, and the client's answer may no longer follow it.
    let close: &[u8] = b"\x88\x8f\0\0\0\0\x03\xf0session ended";
    assert_eq!(service.said().iter().filter(|said| *said == close).count(), 1, "{:?}", service.said());
    let ended = edges[0].metric("bff_live_ended_total{reason=\"session_over\"}").await;
    assert!(ended >= 1, "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_anywhere_ends_what_is_open_on_any_replica_of_redis() {
    let (redis, service) = (Redis::start(""), Lasting::start().await);
    let setup = setup(&service).store(&redis.url());
    let first = setup.clone().start().await;
    let second = setup.clone().start_beside(&first).await;
    let third = setup.start_beside(&first).await;
    a_logout_ends_what_is_open([&first, &second, &third], &service, "/auth/logout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_anywhere_ends_what_is_open_in_processes_that_share_a_file() {
    let (folder, service) = (tempfile::tempdir().unwrap(), Lasting::start().await);
    let setup = setup(&service).store(&format!("sqlite:{}/shared.db", folder.path().display()));
    let first = setup.clone().start().await;
    let second = setup.start_beside(&first).await;
    a_logout_ends_what_is_open([&first, &second, &second], &service, "/auth/logout?everywhere=true").await;
}

#[tokio::test]
async fn the_end_of_a_session_ends_what_is_open() {
    let service = Lasting::start().await;
    let setup = setup(&service).session("lifetime_seconds: 3").session("max_lifetime_seconds: 4");
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let logged_in = Instant::now();
    let mut open = Open::at([&edge, &edge, &edge], &browser.cookie_header(&edge.origin)).await;
    // Use moves the end, but not beyond the absolute one.
    while logged_in.elapsed() < Duration::from_millis(2_500) {
        assert!(open.goes_on().await, "after {:?}", logged_in.elapsed());
        assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200);
    }
    timeout(Duration::from_secs(3), open.ended(1008)).await.expect("the session is over");
    assert!(logged_in.elapsed() > Duration::from_millis(2_900), "{:?}", logged_in.elapsed());
    assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 401);
}

#[tokio::test]
async fn a_service_learns_within_a_second_that_the_client_has_left() {
    let service = Lasting::start().await;
    let edge = setup(&service).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let open = Open::at([&edge, &edge, &edge], &browser.cookie_header(&edge.origin)).await;
    eventually!("all are open", service.open() == 4);
    assert_eq!(edge.metric("bff_live_connections ").await, 4);
    let left = Instant::now();
    drop(open);
    eventually!("the service knows it", service.open() == 0);
    assert!(left.elapsed() < AT_ONCE, "{:?}", left.elapsed());
    eventually!("nothing is kept of them", edge.metric("bff_live_connections ").await == 0);
}

#[tokio::test]
async fn a_websocket_is_closed_for_the_silence_of_both_ends_only() {
    let service = Lasting::start().await;
    let edge = setup(&service).server("websocket_idle_timeout: 1").start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let cookie = browser.cookie_header(&edge.origin);
    let (mut silent, mut talking) =
        (Socket::open(&edge, "/socket/x", &cookie).await, Socket::open(&edge, "/socket/x", &cookie).await);
    let opened = Instant::now();
    let closed = tokio::spawn(async move { (silent.closed().await, opened.elapsed()) });
    while opened.elapsed() < Duration::from_secs(3) {
        talking.say("still here").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (code, after) = closed.await.unwrap();
    assert_eq!(code, Some(1001));
    assert!((900..2_500).contains(&after.as_millis()), "{after:?}");
    assert_eq!(talking.closed().await, Some(1001), "once it falls silent, too");
    assert!(opened.elapsed() > Duration::from_millis(3_700), "{:?}", opened.elapsed());
}

/// 1 000 for ten minutes with `SCALE=full`.
#[tokio::test(flavor = "multi_thread")]
async fn silent_event_streams_are_not_dropped() {
    let service = Lasting::start().await;
    let edge = setup(&service).server("idle_timeout: 1").server("body_timeout: 1").start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let cookie = browser.cookie_header(&edge.origin);
    let mut streams = Vec::new();
    for _ in 0..scale(50, 1_000) {
        streams.push(events(&edge, "/events/x", &cookie).await);
    }
    tokio::time::sleep(Duration::from_secs(scale(3, 600) as u64)).await;
    assert_eq!(service.open(), streams.len());
    service.end();
    for stream in &mut streams {
        assert_eq!(stream.reader.chunk().await.unwrap(), b"data: last\n\n");
        assert_eq!(stream.reader.chunk().await.unwrap(), b"");
    }
}
