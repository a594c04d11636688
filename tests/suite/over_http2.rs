//! On HTTP/2 as on HTTP/1: a client that leaves, an answer without a body, cookies.

use std::time::Duration;

use reqwest::Client;

use crate::harness::cached::{cached, url};
use crate::harness::frames::{PREFACE, fields, frame};
use crate::harness::{Behaviour, Edge, RawClient, Say, Setup, Upstream, builder, free_port};

async fn edge() -> (Edge, Upstream) {
    let upstream = Upstream::start().await;
    let open = |id: &str, service: &str| {
        format!("{{ id: {id}, path: \"/{id}/*\", target_service: {service}_service, preserve_path: true, auth: none }}")
    };
    let dead = format!("http://127.0.0.1:{}", free_port());
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 10");
    let setup = setup.service_alone("hasty", &upstream.url(), None, "timeout: 0.2");
    let setup = setup.service_alone("dead", &dead, None, "timeout: 1");
    let setup = setup.route(&open("own", "own")).route(&open("hasty", "hasty")).route(&open("dead", "dead"));
    (setup.start().await, upstream)
}

fn client() -> Client {
    builder().http2_prior_knowledge().build().unwrap()
}

#[tokio::test]
async fn a_client_that_cancels_or_hangs_up_has_left() {
    let (edge, upstream) = edge().await;
    upstream.behave(Behaviour::Delay(Duration::from_secs(8)));
    let metric = |method: &str| format!("http_requests_total{{endpoint=\"own\",method=\"{method}\",status=\"499\"}}");
    let stays = client();
    for number in 1..=3 {
        // Its stream is cancelled, and the connection goes on.
        let asked = tokio::spawn(stays.get(edge.url("/own/x")).send());
        eventually!("the service is asked", upstream.heads() == number);
        asked.abort();
        eventually!("it has left", edge.metric(&metric("GET")).await == number as u64);
    }
    let (leaves, heads) = (client(), upstream.heads());
    let asked = tokio::spawn(leaves.post(edge.url("/own/x")).body("whole").send());
    eventually!("the service is asked", upstream.heads() > heads);
    asked.abort();
    drop(leaves);
    eventually!("it has left with its connection", edge.metric(&metric("POST")).await == 1);
    assert!(!edge.log.has(&["bad_request"]), "{}", edge.log.text());
}

#[tokio::test]
async fn a_head_that_the_service_fails_is_answered_whole() {
    let (edge, upstream) = edge().await;
    upstream.behave(Behaviour::Delay(Duration::from_secs(1)));
    let client = client();
    for (path, status) in [("/dead/x", 502), ("/hasty/x", 504), ("/nowhere", 404)] {
        let answer = client.head(edge.url(path)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert_eq!(answer.bytes().await.expect("its regular end"), "", "{path}");
    }
}

#[tokio::test]
async fn a_head_for_which_something_stored_stands_in_is_answered_whole() {
    let (edge, upstream, browser) = cached().await;
    upstream.behave(Say::cache_control("max-age=1, stale-if-error=60", "ETag: \"a\"\r\n"));
    let (client, cookie) = (client(), browser.cookie_header(&edge.origin));
    let request = |method| client.request(method, url(&edge, "x")).header("cookie", &cookie);
    // Whole: a client that drops its answer may leave before it is stored.
    assert!(!request(reqwest::Method::GET).send().await.unwrap().bytes().await.unwrap().is_empty());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    upstream.behave(Behaviour::Close);
    for held in ["\"b\"", "\"a\""] {
        let answer = request(reqwest::Method::HEAD).header("if-none-match", held).send().await.unwrap();
        assert_eq!(answer.headers()["x-cache"], "STALE", "{held}");
        assert_eq!(answer.bytes().await.expect("its regular end"), "", "{held}");
    }
}

#[tokio::test]
async fn a_post_without_a_body_says_so_to_a_service_on_http_1() {
    let (edge, upstream) = edge().await;
    for (method, length) in
        [("POST", Some("0")), ("PUT", Some("0")), ("PATCH", Some("0")), ("GET", None), ("DELETE", None)]
    {
        let head = fields(&[(":method", method), (":scheme", "http"), (":authority", "h"), (":path", "/own/x")]);
        let asked = upstream.count();
        let mut client = RawClient::connect(edge.address()).await;
        client.send([PREFACE, &frame(1, 5, 1, &head)].concat()).await;
        eventually!("the service is asked", upstream.count() > asked);
        let told = upstream.last().head;
        assert_eq!((told.one("content-length").as_deref(), told.one("transfer-encoding")), (length, None), "{method}");
    }
}

#[tokio::test]
async fn cookies_are_one_field_however_many_crumbs_they_are() {
    let (edge, upstream) = edge().await;
    let crumbs = |fields: usize| {
        let asked =
            (0..150).fold(client().get(edge.url("/own/x")), |asked, it| asked.header("cookie", format!("a{it}=b")));
        (0..fields).fold(asked, |asked, it| asked.header(format!("x-{it}"), "y")).send()
    };
    assert_eq!(crumbs(100).await.unwrap().status(), 200);
    let all: Vec<String> = (0..150).map(|it| format!("a{it}=b")).collect();
    assert_eq!(upstream.last().head.one("cookie"), Some(all.join("; ")));
    assert_eq!(crumbs(130).await.unwrap().status(), 431, "the others count");
}
