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
    let running = start(&Options { port: 0, config_dir: None }).unwrap();
    let urls = running.services.iter().map(|(_, url)| url.clone()).collect();
    (running, urls)
}

#[test]
fn everything_listens_and_the_configuration_names_it() {
    let (running, urls) = demo();
    let discovery = exchange(&running.provider_issuer, "GET", "/.well-known/openid-configuration", "");
    assert!(discovery.contains(&format!("\"issuer\":\"{}\"", running.provider_issuer)), "{discovery}");
    let routes = fs::read_to_string(running.routes_dir().join("api.yaml")).unwrap();
    assert!(urls[..3].iter().all(|url| routes.contains(url.as_str())), "{routes}");
    let settings = fs::read_to_string(running.conf_dir().join("settings.yaml")).unwrap();
    assert!(settings.contains(&format!("public_url: {}\n", running.public_url)), "{settings}");
    assert!(running.summary().contains(&running.public_url));
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
        "sent",
        "received",
        "token-aud",
        "error",
    ] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    for path in ["/demo/app.js", "/demo/errors.js", "/demo/style.css", "/demo/icon.svg"] {
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
    assert!(exchange(legacy, "GET", "/x", "").contains("\"answer\":3"));
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
    let dir = running.config_dir.clone();
    drop(running);
    assert!(!dir.exists());
    assert!(TcpStream::connect(urls[0].strip_prefix("http://").unwrap()).is_err());
}

#[test]
fn a_taken_port_is_not_insisted_on() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let doors = find_doors(port).unwrap();
    assert!(doors.public.iter().all(|address| address.port() != port && address.ip().is_loopback()), "{doors:?}");
}

#[test]
fn a_folder_that_was_asked_for_stays() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { port: 0, config_dir: Some(dir.path().to_owned()) };
    drop(start(&options).unwrap());
    assert!(dir.path().join("conf/idps.yaml").exists() && dir.path().join("routes/page.yaml").exists());
    assert_eq!(start(&options).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
}
