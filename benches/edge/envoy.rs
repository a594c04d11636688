//! Envoy where it is on the path: the bare proxy, and with its OAuth 2 filter, whose sessions are encrypted cookies.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::peer::{Peer, field, token_endpoint};
use crate::scenario::Target;
use crate::stand::client::once;
use crate::stand::process::Process;
use crate::stand::provider::Provider;
use crate::stand::request::get;
use crate::stand::{free_port, installed};

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters";
/// As many as `mod_auth_openidc` has: no store, so their number does not count.
const SESSIONS: usize = 100;

/// Starts it twice, and logs in at the second; nothing where it is not installed.
pub fn start(folder: &Path, provider: &Arc<Provider>, service: SocketAddr) -> Vec<Peer> {
    if !installed("envoy") {
        return Vec::new();
    }
    let tokens = token_endpoint(Arc::clone(provider));
    let begin = |target: Target, filter: &str, sessions: usize| {
        let (port, file) = (free_port(), folder.join(format!("{target:?}.yaml")));
        std::fs::write(&file, conf(port, service, tokens, filter)).unwrap();
        let words =
            ["envoy", "-c", &file.display().to_string(), "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"];
        let mut process = Process::start(&words, 0);
        process.wait_for(port);
        Peer { target, process, port, cookies: (0..sessions).map(|_| log_in(port)).collect(), version: version() }
    };
    vec![begin(Target::Envoy, "", 0), begin(Target::EnvoyOauth2, &oauth2(tokens), SESSIONS)]
}

/// Without what costs it something and nobody asked for: an id a request, an access log.
fn conf(port: u16, service: SocketAddr, tokens: SocketAddr, filter: &str) -> String {
    let address = |port: u16| format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}");
    let cluster = |name: &str, port: u16| {
        format!(
            "  - name: {name}\n    load_assignment: {{ cluster_name: {name}, endpoints: [{{ lb_endpoints: \
             [{{ endpoint: {{ address: {} }} }}] }}] }}\n",
            address(port)
        )
    };
    format!(
        "static_resources:\n  secrets:\n\
         \x20 - {{ name: token, generic_secret: {{ secret: {{ inline_string: secret }} }} }}\n\
         \x20 - {{ name: hmac, generic_secret: {{ secret: {{ inline_string: 0123456789abcdef0123456789abcdef }} }} }}\n\
         \x20 listeners:\n  - address: {}\n    filter_chains:\n    - filters:\n\
         \x20     - name: envoy.filters.network.http_connection_manager\n        typed_config:\n\
         \x20         \"@type\": {FILTERS}.network.http_connection_manager.v3.HttpConnectionManager\n\
         \x20         stat_prefix: bench\n          generate_request_id: false\n\
         \x20         http_protocol_options: {{ accept_http_10: true }}\n\
         \x20         route_config: {{ virtual_hosts: [{{ name: all, domains: [\"*\"], routes: \
         [{{ match: {{ prefix: / }}, route: {{ cluster: service }} }}] }}] }}\n\
         \x20         http_filters:\n{filter}\
         \x20         - name: envoy.filters.http.router\n\
         \x20           typed_config: {{ \"@type\": {FILTERS}.http.router.v3.Router }}\n  clusters:\n{}{}",
        address(port),
        cluster("service", service.port()),
        cluster("provider", tokens.port()),
    )
}

fn oauth2(tokens: SocketAddr) -> String {
    format!(
        "          - name: envoy.filters.http.oauth2\n            typed_config:\n\
         \x20             \"@type\": {FILTERS}.http.oauth2.v3.OAuth2\n              config:\n\
         \x20               token_endpoint: {{ cluster: provider, uri: \"http://{tokens}/token\", timeout: 3s }}\n\
         \x20               authorization_endpoint: \"http://{tokens}/authorize\"\n\
         \x20               redirect_uri: http://localhost/redirect\n\
         \x20               redirect_path_matcher: {{ path: {{ exact: /redirect }} }}\n\
         \x20               signout_path: {{ path: {{ exact: /signout }} }}\n\
         \x20               forward_bearer_token: true\n\
         \x20               use_refresh_token: false\n\
         \x20               credentials: {{ client_id: bench, token_secret: {{ name: token }}, hmac_secret: {{ name: hmac }} }}\n"
    )
}

/// One login, as a browser goes through it; all cookies of it.
fn log_in(port: u16) -> String {
    let begun = once(port, &get("/api/x", &["Connection: close"]));
    let state = field(field(&begun, "location: ", "\r\n"), "state=", "&").to_owned();
    let flow = format!("Cookie: {}", cookies(&begun));
    let answer = once(port, &get(&format!("/redirect?code=any&state={state}"), &[&flow, "Connection: close"]));
    assert!(answer.contains("BearerToken="), "no session came of a login: {answer}");
    cookies(&answer)
}

/// What an answer sets and does not take back.
fn cookies(answer: &str) -> String {
    let set = answer.lines().filter_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next());
    set.filter(|pair| !pair.ends_with("=deleted")).collect::<Vec<_>>().join("; ")
}

fn version() -> String {
    let told = Command::new("envoy").arg("--version").output().map(|told| told.stdout).unwrap_or_default();
    let told = String::from_utf8_lossy(&told).into_owned();
    format!("Envoy {}", told.split('/').nth(told.split('/').count().saturating_sub(4)).unwrap_or_default())
}
