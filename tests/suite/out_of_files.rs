//! When files run out: the program waits instead of spinning, blames no service, and is back as soon as there
//! are some again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{AUDIENCES, Behaviour, Browser, Edge, Head, RawClient, Setup, Upstream, http_client, raw, scale};
use crate::slow_clients::{deaf, endless};

const OPEN: &str = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
const ASK: &str = "GET /open/x HTTP/1.1\r\nHost: h\r\n\r\n";
/// What the program may have open.
const FILES: usize = 256;
/// For its own: listeners, store, log; and for a few connections beyond all places, probes among them.
const KEPT: usize = 80;

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
    // Somebody takes files whom nobody counts.
    let admin = edge.admin_url("").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let uncounted = join_all((0..70).map(|_| TcpStream::connect(&admin))).await;
    let mut clients = join_all((0..100).map(|_| RawClient::connect(edge.address()))).await;

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
    let log = edge.log.text();
    let mut told: Vec<_> = log.lines().filter(|line| line.contains("NOTHING_LEFT")).map(id).collect();
    let lines = told.len();
    told.sort_unstable();
    told.dedup();
    assert!(lines > 0 && told.len() == lines, "{lines} lines of {} requests", told.len());

    upstream.behave(Behaviour::Echo);
    drop((clients, waiting, uncounted));
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

/// `correlation_id` of a line of the log.
fn id(line: &str) -> String {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line["correlation_id"].as_str().unwrap().to_owned()
}

/// Each within its limits, and together more than there are files.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_want_every_file_leave_one_for_a_new_client() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 30").route(OPEN);
    let edge = setup.open_files(FILES).start().await;
    let mut clients = join_all((0..120).map(|_| RawClient::connect(edge.address()))).await;
    upstream.behave(Behaviour::Delay(Duration::from_secs(2)));
    let asked = join_all(clients.iter_mut().map(|client| async move { client.ask(ASK).await.0 }));
    let meanwhile = async {
        eventually!("there are as many as may be", edge.log.text().contains("NOTHING_LEFT"));
        (probe(&edge, 20).await, edge.open_files())
    };
    let (answers, (worst, open)) = tokio::join!(asked, meanwhile);
    let of = |status: u16| answers.iter().filter(|head| head.status() == status).count();
    println!("{} served, {} refused, {open} files, a probe after {worst:?} at worst", of(200), of(503));
    assert_eq!(of(200) + of(503), answers.len());
    assert!(of(200) >= 30 && open < FILES, "{} served, {open} files open", of(200));
    assert!(!edge.log.text().contains("Accept() failed"));
}

const ALIVE: &str = "GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n";

/// Asks so many times on the public port; the longest wait.
async fn probe(edge: &Edge, times: usize) -> Duration {
    let mut worst = Duration::ZERO;
    for _ in 0..times {
        let begun = Instant::now();
        assert_eq!(raw(edge.address(), ALIVE).await.0.status(), 200);
        worst = worst.max(begun.elapsed());
    }
    worst
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_answered_when_every_place_is_taken() {
    const PLACES: usize = 64;
    let upstream = Upstream::start().await;
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 30").route(OPEN);
    let edge = setup.server(&format!("max_connections: {PLACES}")).open_files(1024).start().await;
    eventually!("the first probe has left", edge.metric("bff_client_connections").await == 0);
    let mut seated = join_all((0..PLACES).map(|_| RawClient::connect(edge.address()))).await;
    eventually!("every place is taken", edge.metric("bff_client_connections").await == PLACES as u64);
    let (address, mut others) = (edge.address(), JoinSet::new());
    // Four times as many as are heard at once, again and again; every other one is silent.
    for number in 0..480 {
        others.spawn(async move {
            let mut heard = Vec::new();
            for _ in 0..4 {
                let mut stream = TcpStream::connect(address).await.unwrap();
                if number % 2 == 0 {
                    stream.write_all(ASK.as_bytes()).await.unwrap();
                }
                let mut said = String::new();
                stream.read_to_string(&mut said).await.unwrap();
                heard.push(said);
            }
            heard
        });
    }
    let worst = probe(&edge, 20).await;
    let told = others.join_all().await.concat();
    println!("{} others told, alive after {worst:?} at worst", told.len());
    assert_eq!(told.iter().find(|said| !said.starts_with("HTTP/1.1 503 ")), None);
    assert_eq!(upstream.count(), 0);
    assert_eq!(seated[0].ask(ASK).await.0.status(), 200);
    assert!(worst < Duration::from_secs(3), "{worst:?}");
}

/// Each has a buffer of 64 KiB in the engine; what nobody wrote into it is no memory.
#[tokio::test]
async fn a_slow_upload_takes_the_memory_of_what_it_sent() {
    const UPLOADS: u64 = 300;
    let setup = Setup::new().service_alone("own", &deaf().await, None, "timeout: 30").route(OPEN);
    let edge = setup.start().await;
    let slow = |_| async {
        let mut client = TcpStream::connect(edge.address()).await.unwrap();
        client.write_all(b"POST /open/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc").await.unwrap();
        client
    };
    let warm = join_all((0..20).map(slow)).await;
    eventually!("the first are under way", edge.metric("http_requests_in_flight").await == 20);
    let before = edge.resident_kib();
    let clients = join_all((0..UPLOADS).map(slow)).await;
    eventually!("all are under way", edge.metric("http_requests_in_flight").await == UPLOADS + 20);
    let each = edge.resident_kib().saturating_sub(before) / UPLOADS;
    println!("{each} KiB for each slow upload");
    assert!(each <= 64, "{each} KiB");
    drop((warm, clients));
}

/// Every processor of the machine is busy while this lives.
struct Burning(Arc<AtomicBool>);

impl Burning {
    fn all() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(over)
    }
}

impl Drop for Burning {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One that costs: an answer that its client does not take, half a head, an upload that its service does not take.
async fn burden(address: std::net::SocketAddr, kind: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let ask = match kind % 4 {
        0 => format!("GET /open/x HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(60_000)),
        1 => "POST /deaf/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n".to_owned(),
        _ => "GET /endless/x HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
    };
    // It may be refused meanwhile.
    let _ = stream.write_all(ask.as_bytes()).await;
    if kind % 4 == 1 {
        loop {
            let piece = tokio::time::timeout(Duration::from_millis(50), stream.write_all(&[b'x'; 8192]));
            if !matches!(piece.await, Ok(Ok(()))) {
                break;
            }
        }
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn under_pressure_it_sheds_and_stays_inside_its_memory() {
    let most = scale(160, 512) as u64;
    let (upstream, deaf, endless) = (Upstream::start().await, deaf().await, endless().await);
    let mut setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 30").route(OPEN);
    for (name, url) in [("deaf", deaf), ("endless", endless)] {
        let route = format!(
            "{{ id: {name}, path: \"/{name}/*\", target_service: {name}_service, preserve_path: true, auth: none }}"
        );
        setup = setup.service_alone(name, &url, None, "timeout: 120").route(&route);
    }
    let setup = setup.server("header_timeout: 120").server("max_connections: 5000");
    let edge = setup.server(&format!("max_memory: {most}MiB")).open_files(20_000).start().await;
    let mut seated = RawClient::connect(edge.address()).await;
    assert_eq!(seated.ask(ASK).await.0.status(), 200);
    let burning = Burning::all();
    let (mut burdens, mut resident, mut worst) = (Vec::new(), 0, Duration::ZERO);
    let (mut shed, mut served) = (0, 0);
    // As many again as it takes until it says so.
    let mut enough = usize::MAX;
    while burdens.len() < enough {
        let more = (0..8).map(|kind| burden(edge.address(), kind));
        burdens.extend(join_all(more).await);
        assert!(burdens.len() < 4000, "it never sheds: {resident} KiB");
        worst = worst.max(probe(&edge, 1).await);
        let ask = format!("GET /open/{} HTTP/1.1\r\nHost: h\r\n\r\n", burdens.len());
        let (head, body) = seated.ask(&ask).await;
        if head.status() == 503 {
            shed += 1;
            assert_eq!(head.one("retry-after").as_deref(), Some("1"));
        } else {
            served += 1;
            assert_eq!(head.status(), 200);
            let own = format!("\"/open/{}\"", burdens.len());
            assert!(String::from_utf8_lossy(&body.start).contains(&own), "another's answer");
        }
        resident = resident.max(edge.resident_kib());
        if shed == 1 && enough == usize::MAX {
            enough = burdens.len() * 2;
        }
    }
    println!(
        "{enough} burdens, {resident} KiB of {most} MiB, {served} served, {shed} shed, alive after {worst:?} at worst"
    );
    assert!(resident < most * 1024, "{resident} KiB");
    assert!(resident > most * 1024 / 2, "not under pressure: {resident} KiB");
    assert!(worst < Duration::from_secs(3), "{worst:?}");
    assert!(edge.log.text().contains("MEMORY_SHORT"));
    drop((burdens, burning));
    eventually!(
        "it is well again",
        seated.ask(ASK).await.0.status() == 200 && edge.resident_kib() < most * 1024 / 5 * 4
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_no_more_than_memory_holds_however_fast_they_are_asked_for() {
    const MOST: u64 = 256;
    let setup = Setup::new().service_alone("own", &endless().await, None, "timeout: 30").route(OPEN);
    let edge = setup.server(&format!("max_memory: {MOST}MiB")).open_files(20_000).start().await;
    eventually!("it knows", edge.log.text().contains("serving"));
    let ask = async |_number| {
        let mut client = RawClient::connect(edge.address()).await;
        client.send(ASK).await;
        let status = client.reader.head().await.unwrap().unwrap().status();
        (client, status)
    };
    let all = join_all((0..600).map(ask)).await;
    let count = |status: u16| all.iter().filter(|(_, answered)| *answered == status).count();
    println!("{} taken, {} refused, {} KiB", count(200), count(503), edge.resident_kib());
    assert_eq!(count(200) + count(503), all.len());
    assert!(count(200) > 100, "{}", count(200));
    assert!(edge.log.text().contains("MEMORY_SHORT"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(edge.resident_kib() < MOST * 1024, "{} KiB", edge.resident_kib());
}

/// Bytes that a service gets rid of for a client that reads nothing.
async fn left_lying(edge: &Edge, service: TcpListener) -> usize {
    let mut client = RawClient::connect(edge.address()).await;
    client.send(ASK).await;
    let (mut stream, _) = service.accept().await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n").await.unwrap();
    let (piece, mut sent) = (vec![b'x'; 64 * 1024], 0);
    while let Ok(more) = timeout(Duration::from_secs(2), stream.write(&piece)).await {
        sent += more.unwrap();
    }
    sent
}

/// A control group ends the process for that, too.
#[tokio::test]
async fn the_kernel_keeps_little_for_a_client_that_reads_nothing() {
    for streaming in ["", ", streaming: true"] {
        // Of its own buffer next to nothing counts; accepted sockets have it from the one that listens.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(16 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let service = socket.listen(8).unwrap();
        let url = format!("http://{}", service.local_addr().unwrap());
        let route = OPEN.replace(" }", &format!("{streaming} }}"));
        let edge = Setup::new().service_alone("own", &url, None, "timeout: 30").route(&route).start().await;
        let sent = left_lying(&edge, service).await;
        println!("{sent} bytes{streaming}");
        assert!((200_000..2_000_000).contains(&sent), "{sent} bytes{streaming}");
    }
}
