//! When files run out: the program waits instead of spinning, blames no service, and is back as soon as there
//! are some again.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{AUDIENCES, Behaviour, Browser, Edge, Head, RawClient, Setup, Upstream, http_client, raw};

const OPEN: &str = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
const ASK: &str = "GET /open/x HTTP/1.1\r\nHost: h\r\n\r\n";
/// What the program may have open.
const FILES: usize = 256;
/// For its own: listeners, store, log.
const KEPT: usize = 64;

/// How much of one processor the program takes meanwhile.
async fn share(edge: &Edge, span: Duration) -> f64 {
    let (begun, used) = (Instant::now(), edge.processor_time());
    tokio::time::sleep(span).await;
    edge.processor_time().saturating_sub(used).as_secs_f64() / begun.elapsed().as_secs_f64()
}

/// How long it takes until somebody new is served.
async fn back_after(edge: &Edge) -> Duration {
    let begun = Instant::now();
    while raw(edge.address(), ASK).await.0.status() != 200 {
        assert!(begun.elapsed() < Duration::from_secs(5), "it does not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn more_silent_clients_than_files_are_told_so() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 30").route(OPEN);
    let edge = setup.server("max_connections: 100000").open_files(FILES).start().await;
    eventually!("the first probe has left", edge.metric("bff_client_connections").await == 0);
    let mut seated = RawClient::connect(edge.address()).await;
    assert_eq!(seated.ask(ASK).await.0.status(), 200);
    let (address, told, mut silent) = (edge.address(), Arc::new(Mutex::new(Vec::new())), JoinSet::new());
    for _ in 0..2 * FILES {
        let told = Arc::clone(&told);
        silent.spawn(async move {
            let (mut client, mut said) = (TcpStream::connect(address).await.unwrap(), String::new());
            // Who has a place is told nothing.
            client.read_to_string(&mut said).await.unwrap();
            told.lock().unwrap().push(said);
        });
    }
    eventually!("every place is taken", edge.metric("bff_client_connections").await == (FILES - KEPT) as u64);

    let busy = share(&edge, Duration::from_secs(1)).await;
    assert_eq!(seated.ask(ASK).await.0.status(), 200, "who has a place keeps it");
    assert_eq!(http_client().get(edge.admin_url("/health/live")).send().await.unwrap().status(), 200);
    let without_a_place = 2 * FILES - (FILES - KEPT - 1);
    eventually!("the others are told", told.lock().unwrap().len() == without_a_place);
    for said in told.lock().unwrap().iter() {
        assert!(said.starts_with("HTTP/1.1 503 ") && said.to_ascii_lowercase().contains("retry-after: 1"), "{said}");
    }
    assert!(edge.log.text().contains("more than there may be open files"), "the number in the file is no use");

    drop((silent, seated));
    let back = back_after(&edge).await;
    println!("{} silent clients of {FILES} files: {busy:.2} of a processor, back after {back:?}", 2 * FILES);
    assert!(busy < 0.5, "{busy}");
    assert!(back < Duration::from_secs(3), "{back:?}");
}

async fn circuit(edge: &Edge) -> Value {
    let health = http_client().get(edge.url("/api/v1/proxy/health")).send().await.unwrap();
    health.json::<Value>().await.unwrap()["services"]["svc"]["state"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_nobody_is_blamed_and_nothing_spins() {
    let upstream = Upstream::start().await;
    let legacy = format!(
        "legacy_services: {{ svc: \"{}\" }}\nresponse_cache: {{ enabled: false }}\n\
         circuit_breaker: {{ threshold: 3, reset_time: 600 }}\n",
        upstream.url()
    );
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).route(OPEN).legacy(&legacy);
    let edge = setup.server(&format!("max_connections: {}", FILES - KEPT)).open_files(FILES).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let cookie = browser.cookie_header(&edge.origin);
    let mut clients = join_all((0..FILES - KEPT - 10).map(|_| RawClient::connect(edge.address()))).await;

    // Every request needs a file of its own, as long as it lasts.
    upstream.behave(Behaviour::Delay(Duration::from_secs(2)));
    let asked = clients.iter_mut().map(|client| {
        let head =
            format!("GET /api/v1/proxy/svc/x HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {cookie}\r\n\r\n", edge.port);
        async move { client.ask(head).await.0 }
    });
    let more = async {
        eventually!("no file is left", edge.open_files() >= FILES);
        // Nobody is there to take these.
        let waiting = join_all((0..20).map(|_| TcpStream::connect(edge.address()))).await;
        (share(&edge, Duration::from_secs(1)).await, waiting)
    };
    let (answers, (busy, waiting)) = tokio::join!(join_all(asked), more);
    let of = |status: u16| answers.iter().filter(|head| head.status() == status).count();
    let (served, refused) = (of(200), of(503));
    assert_eq!(served + refused, answers.len(), "{:?}", answers.iter().map(Head::status).collect::<Vec<_>>());
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
    let refusals = answers.iter().filter(|head| head.status() == 503);
    assert!(refusals.into_iter().all(|head| head.one("retry-after").as_deref() == Some("1")));
    assert!(edge.log.text().contains("NOTHING_LEFT"));

    upstream.behave(Behaviour::Echo);
    drop((clients, waiting));
    let back = back_after(&edge).await;
    let paused = edge.log.text().matches("Accept() failed").count();
    println!("{served} served, {refused} refused, {paused} pauses, {busy:.2} of a processor, back after {back:?}");
    assert!(busy < 0.5, "{busy}");
    assert!(paused < 20, "it tries again and again: {paused}");
    assert!(back < Duration::from_secs(3), "{back:?}");
    assert_eq!(circuit(&edge).await, "closed");
    assert_eq!(browser.get(edge.url("/api/v1/proxy/svc/x")).await.status(), 200);
    assert!(!edge.log.text().contains("panicked"));
}
