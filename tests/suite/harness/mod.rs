//! What the topics stand on: the provider, echo services, the program as a child process, a browser
//! and a raw socket. Everything listens on a port of its own and ends with the test.

/// Tries an expression until it is `true`, for at most ten seconds; waits instead of sleeping blindly.
macro_rules! eventually {
    ($what:literal, $condition:expr) => {
        eventually!($what, $condition, within 10)
    };
    ($what:literal, $condition:expr, within $seconds:literal) => {{
        let until = std::time::Instant::now() + std::time::Duration::from_secs($seconds);
        while !$condition {
            assert!(std::time::Instant::now() < until, "did not happen within {} s: {}", $seconds, $what);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }};
}

mod browser;
pub(crate) mod cached;
mod config;
mod edge;
pub(crate) mod faults;
pub(crate) mod fleet;
pub(crate) mod frames;
mod lasting;
pub(crate) mod liar;
mod load;
mod log;
pub(crate) mod mint;
mod provider;
mod raw;
mod redis;
pub(crate) mod rush;
#[allow(dead_code, reason = "the bench program uses all of it")]
#[path = "../../../benches/edge/stand/mod.rs"]
pub(crate) mod stand;
mod upstream;
mod wire;

pub(crate) use browser::{Browser, location};
pub(crate) use config::{SESSION_SECRET, Setup};
pub(crate) use edge::{DOCTORED, Edge, Starting, doctor, failing_run, problem};
pub(crate) use lasting::{Lasting, Socket, events};
pub(crate) use load::Load;
pub(crate) use log::{Log, field};
pub(crate) use provider::{AUDIENCES, Provider, SECRET};
pub(crate) use raw::{RawClient, raw};
pub(crate) use redis::{Cluster, Redis, Sentinels, redis_config, redis_store};
pub(crate) use stand::port::{free_port, free_ports};
pub(crate) use upstream::{Behaviour, Received, Say, Upstream};
pub(crate) use wire::Head;

/// How much a test does: `small`, or `full` with `SCALE=full`, for the whole promise.
pub(crate) fn scale(small: usize, full: usize) -> usize {
    if std::env::var("SCALE").is_ok_and(|scale| scale == "full") { full } else { small }
}

/// The number in that environment variable, if it is there.
pub(crate) fn told(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|number| number.parse().unwrap_or_else(|_| panic!("{name}={number}")))
}

/// The claims of a JWT, unchecked.
pub(crate) fn claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap_or_else(|| panic!("not a JWT: {token:.20}…"));
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON claims")
}

/// Whether `aud`, a string or a list, contains `audience`.
pub(crate) fn has_audience(claims: &serde_json::Value, audience: &str) -> bool {
    match &claims["aud"] {
        serde_json::Value::Array(list) => list.iter().any(|one| one == audience),
        one => one == audience,
    }
}

/// A client without cookies, redirects or proxies.
pub(crate) fn http_client() -> reqwest::Client {
    builder().build().unwrap()
}

/// What every client of the suite starts from.
pub(crate) fn builder() -> reqwest::ClientBuilder {
    // The first caller wins; the others find the same provider installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(std::time::Duration::from_secs(20))
        .resolve("localhost", ([127, 0, 0, 1], 0).into())
}
