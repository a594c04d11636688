//! What h1spec asks of an HTTP/1.1 server, in our words: a request that comes in pieces is waited for, a good one
//! is answered, a bad one refused. More of the last kind in `framing` and `targets`.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use crate::harness::{Edge, RawClient, Setup, Upstream};

async fn edge() -> (Edge, Upstream) {
    let upstream = Upstream::start().await;
    let all = "{ id: all, path: \"/*\", target_service: own_service, preserve_path: true, auth: none }";
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 10").route(all);
    (setup.start().await, upstream)
}

#[tokio::test]
async fn a_request_is_waited_for_wherever_it_stops() {
    const REQUEST: &str = "GET /hello HTTP/1.1\r\nHost: localhost\r\nX-Y:\tz\r\n\r\n";
    let (edge, upstream) = edge().await;
    let in_pieces = async |cut: usize| {
        let (first, rest) = REQUEST.split_at(cut);
        let mut client = RawClient::connect(edge.address()).await;
        client.send(first).await;
        let early = timeout(Duration::from_millis(500), client.reader.head()).await;
        assert!(early.is_err(), "after {first:?} it says {early:?}");
        assert_eq!(client.ask(rest).await.0.status(), 200, "{first:?}");
    };
    join_all((1..REQUEST.len()).map(in_pieces)).await;
    assert_eq!(upstream.count(), REQUEST.len() - 1);
}

#[tokio::test]
async fn good_requests_are_answered_and_bad_ones_refused() {
    let (edge, upstream) = edge().await;
    let get = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n");
    let with = |lines: &str| get(&format!("Host: example.com\r\n{lines}"));
    for (wanted, request) in [
        (200, with("")),
        (200, get("hoSt:\texample.com\r\nempty:\r\n")),
        (200, with("X-Empty-Header: \r\n")),
        (200, with("Expect: 100-continue\r\n")),
        (204, with("").replace("GET /", "OPTIONS *")),
        (400, with("").replace("GET /", "GET *")),
        (400, with("").replace("GET /", "OPTIONS *?x")),
        (200, "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello".to_owned()),
        (400, "GET / \r\n\r\n".to_owned()),
        (400, with("X-Invalid[]: test\r\n")),
        (400, get("Content-Length: 5\r\n")),
        (400, with("Host: example.org\r\n")),
        (400, with("Content-Length: -123456789123456789123456789\r\n")),
        (400, with("Content-Length: -1234\r\n")),
        (400, with("Content-Length: abc\r\n")),
        (400, with("X-Bad-Control-Char: test\x07\r\n")),
        (400, format!("Extra line{}", with(""))),
        (400, with("\rSome-Header: Test\r\n")),
        (400, with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
        (505, with("").replace("1.1", "9.9")),
    ] {
        let before = upstream.count();
        let mut client = RawClient::connect(edge.address()).await;
        let (mut head, _) = client.ask(&request).await;
        if head.status() == 100 {
            head = client.response().await.0;
        }
        assert_eq!(head.status(), wanted, "{request:?}");
        assert_eq!(upstream.count() - before, usize::from(wanted == 200), "{request:?}");
    }
}
