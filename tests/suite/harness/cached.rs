//! The façade with its response cache in front of one service, and what an answer says of where it came from.

use reqwest::Response;

use super::{AUDIENCES, Browser, Edge, Setup, Upstream};

const CACHE: &str = "response_cache: { enabled: true, default_ttl: 0, max_size: 1000 }\n\
                     circuit_breaker: { threshold: 3, reset_time: 60 }\n";

pub(crate) async fn edge_with(cache: &str) -> (Edge, Upstream) {
    let upstream = Upstream::start().await;
    let url = upstream.url();
    let text = format!("legacy_services: {{ svc: \"{url}/base\" }}\nlegacy_service_timeouts: {{ svc: 8 }}\n{cache}");
    let setup = Setup::new().service("own", &url, Some(AUDIENCES[0]));
    (setup.legacy(&text).start().await, upstream)
}

pub(crate) async fn cached() -> (Edge, Upstream, Browser) {
    let (edge, upstream) = edge_with(CACHE).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    (edge, upstream, browser)
}

pub(crate) fn url(edge: &Edge, rest: &str) -> String {
    edge.url(&format!("/api/v1/proxy/svc/{rest}"))
}

/// `X-Cache`.
pub(crate) fn told(answer: &Response) -> &str {
    answer.headers().get("x-cache").map_or("", |value| value.to_str().unwrap())
}

pub(crate) async fn ask(browser: &Browser, edge: &Edge, rest: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = browser.client.get(url(edge, rest));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

/// `X-Cache` and the body.
pub(crate) async fn seen(browser: &Browser, edge: &Edge, rest: &str, headers: &[(&str, &str)]) -> (String, String) {
    let answer = ask(browser, edge, rest, headers).await;
    (told(&answer).to_owned(), answer.text().await.unwrap())
}

pub(crate) fn pair(told: &str, body: &str) -> (String, String) {
    (told.to_owned(), body.to_owned())
}

pub(crate) const ADA: &str = "auth:account:testidp:ada";
