//! The parts together, over real sockets: they listen when `start` returns and end when dropped.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;

/// One HTTP/1.1 exchange; the whole answer as text.
fn exchange(url: &str, method: &str, path: &str, body: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let kind = if body.starts_with('{') { "application/json" } else { "text/plain" };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn demo() -> (Running, Vec<String>) {
    let running = start(0).unwrap();
    let Addresses { analytics, crud, legacy, page, .. } = &running.parts.addresses;
    let urls = [analytics, crud, legacy, page].map(Clone::clone).to_vec();
    (running, urls)
}

#[test]
fn everything_listens_and_the_configuration_names_it() {
    let (running, urls) = demo();
    let issuer = &running.parts.addresses.issuer;
    let discovery = exchange(issuer, "GET", "/.well-known/openid-configuration", "");
    assert!(discovery.contains(&format!("\"issuer\":\"{issuer}\"")), "{discovery}");
    let routes = fs::read_to_string(running.routes_dir().join("api.yaml")).unwrap();
    assert!(urls[..3].iter().all(|url| routes.contains(url.as_str())), "{routes}");
    let settings = fs::read_to_string(running.conf_dir().join("settings.yaml")).unwrap();
    assert!(settings.contains(&format!("public_url: {}\n", running.parts.public_url())), "{settings}");
    let legacy = fs::read_to_string(running.conf_dir().join("legacy_services.yaml")).unwrap();
    assert!(legacy.contains(&format!("old-crm: \"{}\"\n", urls[2])), "{legacy}");
    assert!(running.summary().contains(running.parts.public_url()));
}

#[test]
fn the_page_allows_no_script_but_its_own() {
    let (_running, urls) = demo();
    let page = exchange(&urls[3], "GET", "/", "");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("default-src 'none'; script-src 'self'"), "{page}");
    assert!(!page.contains("style=\"") && !page.contains("onclick"), "inline code would be blocked");
    for id in [
        "login",
        "logout",
        "who",
        "call-analytics",
        "call-crud",
        "call-legacy",
        "call-too-large",
        "legacy-call",
        "legacy-ok",
        "legacy-slow",
        "legacy-broken",
        "legacy-state",
        "legacy-cache",
        "sent",
        "received",
        "token-aud",
        "error",
    ] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    for path in ["/demo/app.js", "/demo/facade.js", "/demo/errors.js", "/demo/style.css", "/demo/icon.svg"] {
        assert!(exchange(&urls[3], "GET", path, "").starts_with("HTTP/1.1 200"), "{path}");
    }
}

#[test]
fn the_legacy_service_has_moods_and_analytics_counts_bytes() {
    let (_running, urls) = demo();
    let legacy = &urls[2];
    assert!(exchange(legacy, "GET", "/x", "").starts_with("HTTP/1.1 200"));
    assert!(exchange(legacy, "POST", "/_mode", "{\"mode\":\"broken\"}").starts_with("HTTP/1.1 200"));
    assert!(exchange(legacy, "GET", "/x", "").starts_with("HTTP/1.1 500"));
    assert!(exchange(legacy, "POST", "/_mode", "{\"mode\":\"sleepy\"}").starts_with("HTTP/1.1 422"));
    assert!(exchange(legacy, "POST", "/_mode", "{\"mode\":\"ok\"}").starts_with("HTTP/1.1 200"));
    let well = exchange(legacy, "GET", "/x", "");
    assert!(well.contains("\"answer\":3") && well.contains("cache-control: stale-if-error=300"), "{well}");
    let counted = exchange(&urls[0], "POST", "/upload", &"x".repeat(3_000_000));
    assert!(counted.contains("\"bytes\":3000000"), "{counted}");
}

#[test]
fn the_event_stream_begins_at_once() {
    let (running, urls) = demo();
    let mut stream = TcpStream::connect(urls[0].strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut seen = String::new();
    let mut buffer = [0_u8; 1024];
    while !seen.contains("data: {\"tick\":1}") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    // An open stream does not keep the demo alive.
    drop(running);
}

#[test]
fn an_end_leaves_nothing_behind() {
    let (running, urls) = demo();
    let dir = running.dir.clone();
    drop(running);
    assert!(!dir.exists());
    assert!(TcpStream::connect(urls[0].strip_prefix("http://").unwrap()).is_err());
}

#[test]
fn a_taken_port_is_not_insisted_on() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let found = listen::find_public(port).unwrap();
    assert!(found.iter().all(|address| address.port() != port && address.ip().is_loopback()), "{found:?}");
}

#[test]
fn a_printed_configuration_names_the_ports_of_the_parts_and_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    print(dir.path(), 8080, 9180).unwrap();
    let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
    assert!(read("conf/idps.yaml").contains("issuer: http://127.0.0.1:9180\n"));
    assert!(read("conf/legacy_services.yaml").contains("http://127.0.0.1:9183\""));
    assert!(read("routes/page.yaml").contains("http://127.0.0.1:9184\""));
    assert!(read("conf/settings.yaml").contains("public_url: http://localhost:8080\n"));
    assert_eq!(print(dir.path(), 8080, 9180).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn parts_insist_on_their_ports() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    assert!(start_parts(8080, port).unwrap_err().to_string().contains(&format!("127.0.0.1:{port}")));
    for first in [0, 65532] {
        assert_eq!(start_parts(8080, first).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
