//! Who may read an answer from another origin: what a service says of it, and to whom that is told.

use reqwest::Response;

use crate::harness::{AUDIENCES, Behaviour, Browser, Edge, Setup, Upstream, http_client};

const APP: &str = "https://app.example.com";
const EVIL: &str = "https://evil.example";
const OURS: &str = "X-Correlation-ID, Retry-After, RateLimit, RateLimit-Policy";

async fn edge() -> (Edge, Upstream, Browser) {
    let upstream = Upstream::start().await;
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    let facade = format!("legacy_services: {{ svc: \"{}\" }}\n", upstream.url());
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).route(open).legacy(&facade);
    let edge = setup.top(&format!("cors: {{ allow_origins: [\"{APP}\"] }}")).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    upstream.behave(Behaviour::Bytes(
        format!(
            "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60\r\nContent-Length: 2\r\n\
             Access-Control-Allow-Origin: {EVIL}\r\nAccess-Control-Allow-Credentials: true\r\n\
             Access-Control-Allow-Methods: DELETE\r\nAccess-Control-Allow-Headers: x\r\n\
             Access-Control-Allow-Private-Network: true\r\nAccess-Control-Max-Age: 9\r\n\
             Access-Control-Expose-Headers: X-Total\r\n\r\nok"
        )
        .into_bytes(),
    ));
    (edge, upstream, browser)
}

/// Every `Access-Control-*` line, in order of their names.
fn told(answer: &Response) -> Vec<String> {
    let lines = answer.headers().iter().filter(|(name, _)| name.as_str().starts_with("access-control-"));
    let mut lines: Vec<String> = lines.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_session_hears_nothing_that_a_service_says_of_it() {
    let (edge, _upstream, browser) = edge().await;
    let (route, facade) = (edge.url("/api/own/x"), edge.url("/api/v1/proxy/svc/x"));
    assert_eq!(told(&browser.get(&route).await), [""; 0]);
    // Stored by a caller with a token of its own, for whom the service's word holds.
    let token = edge.client_token(Some(AUDIENCES[0])).await;
    for cache in ["MISS", "HIT"] {
        let answer = http_client().get(&facade).bearer_auth(&token).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["x-cache"].to_str().unwrap()), (200, cache));
        assert_eq!(told(&answer).len(), 7, "{cache}: {:?}", told(&answer));
    }
    let answer = browser.get(&facade).await;
    assert_eq!(answer.headers()["x-cache"], "HIT");
    assert_eq!(told(&answer), [""; 0]);
    let answer = browser.client.get(&facade).header("origin", APP).send().await.unwrap();
    let only_ours = [
        "access-control-allow-credentials: true".to_owned(),
        format!("access-control-allow-origin: {APP}"),
        format!("access-control-expose-headers: {OURS}"),
    ];
    assert_eq!(told(&answer), only_ours);
}

#[tokio::test]
async fn a_service_that_anybody_may_ask_says_itself_what_may_be_read() {
    let (edge, _upstream, _browser) = edge().await;
    let answer = http_client().get(edge.url("/open/x")).header("origin", APP).send().await.unwrap();
    let exposed = told(&answer).into_iter().filter(|line| line.starts_with("access-control-expose-headers"));
    let both = [OURS, "X-Total"].map(|names| format!("access-control-expose-headers: {names}"));
    assert_eq!(exposed.collect::<Vec<_>>(), both);
    assert_eq!(answer.headers()["access-control-allow-origin"], APP);
}
