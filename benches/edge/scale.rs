//! What must not grow with their number: the cost of a request, by services, by routes, by sessions; with
//! the time until the first answer, and memory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::load::drive;
use crate::measure::Bounds;
use crate::pin;
use crate::stage::{Stage, run};
use crate::stand::client::Client;
use crate::stand::conf::{self, Ports, many};
use crate::stand::logins;
use crate::stand::process::Process;
use crate::stand::request::{each, get};
use crate::table::median;

/// Sessions that requests walk through: half of what is held near. Beyond these, the store is filled with
/// rows of the same size that no cookie opens: sealing a million takes longer than everything else.
const USED: usize = 50_000;

/// One process, and what it is asked.
struct Subject {
    name: String,
    process: Process,
    port: u16,
    requests: Vec<String>,
    millis: f64,
    idle_kib: u64,
}

/// A route each, asked one after the other.
pub fn services(stage: &Stage, edge: &Path, bounds: Bounds) {
    let subjects: Vec<Subject> = [1, 10, 100, 1_000].map(|count| with_routes(stage, edge, count, count)).into();
    table("services", stage, &subjects, bounds);
}

/// Of one service, asked one after the other.
pub fn routes(stage: &Stage, edge: &Path, bounds: Bounds) {
    let subjects: Vec<Subject> = [10, 100, 1_000, 10_000].map(|count| with_routes(stage, edge, count, 1)).into();
    table("routes", stage, &subjects, bounds);
}

fn with_routes(stage: &Stage, edge: &Path, routes: usize, services: usize) -> Subject {
    let folder = stage.dir.path().join(format!("routes-{routes}-{services}"));
    let ports = stage.configure(&folder, "memory:");
    conf::add_routes(&folder, stage.service, routes, services);
    let requests = (0..routes).map(|number| get(&format!("{}x", many(number)), &[])).collect();
    start(edge, &folder, ports, routes.to_string(), requests)
}

/// The process after its first answer.
fn start(edge: &Path, folder: &Path, ports: Ports, name: String, requests: Vec<String>) -> Subject {
    let started = Instant::now();
    let mut process = run(edge, folder);
    process.wait_for(ports.public);
    Client::connect(ports.public, 1).ask(&[get("/public/x", &[])], 1);
    let millis = started.elapsed().as_secs_f64() * 1000.0;
    let idle_kib = process.memory_kib("VmRSS");
    Subject { name, process, port: ports.public, requests, millis, idle_kib }
}

fn table(what: &str, stage: &Stage, subjects: &[Subject], bounds: Bounds) {
    println!("\n| {what} | ms to the first answer | idle MiB | CPU µs a request | × the first |");
    println!("| --- | --- | --- | --- | --- |");
    for (subject, (micros, ratio)) in subjects.iter().zip(cost(stage, subjects, bounds)) {
        let (name, millis, idle) = (&subject.name, subject.millis, subject.idle_kib as f64 / 1024.0);
        println!("| {name} | {millis:.0} | {idle:.1} | {micros:.1} | {ratio:.2} |");
    }
}

/// CPU time a request of each, in turns, and the median of the rounds' ratios to the first.
fn cost(stage: &Stage, subjects: &[Subject], bounds: Bounds) -> Vec<(f64, f64)> {
    let mut samples = vec![Vec::new(); subjects.len()];
    for round in 0..=bounds.rounds {
        for place in 0..subjects.len() {
            let at = (place + round) % subjects.len();
            let Subject { process, port, requests, .. } = &subjects[at];
            let before = process.cpu_micros();
            let seen = drive(stage.dir.path(), *port, requests, bounds.connections, bounds.seconds);
            if round > 0 {
                samples[at].push((process.cpu_micros() - before) / seen.requests);
            }
        }
        eprintln!("round {round} of {}", bounds.rounds);
    }
    let first = samples[0].clone();
    let ratios = |of: &[f64]| median(of.iter().zip(&first).map(|(one, first)| one / first).collect());
    samples.iter().map(|of| (median(of.clone()), ratios(of))).collect()
}

/// In the embedded store: the first request of a session, which the store is asked for, and later ones.
pub async fn sessions(stage: &Stage, edge: &Path, bounds: Bounds, most: usize) {
    let (mut subjects, mut lines) = (Vec::new(), Vec::new());
    for count in [100, 1_000, 10_000, 100_000, 1_000_000] {
        if count > most {
            break;
        }
        let (subject, line) = with_sessions(stage, edge, count).await;
        subjects.push(subject);
        lines.push(line);
    }
    let near = cost(stage, &subjects, bounds);
    println!(
        "\n| sessions | file MiB | ms to the first answer | idle MiB | first request, CPU µs | later, CPU µs | × the first line | KiB each when near |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for ((subject, line), (micros, ratio)) in subjects.iter().zip(lines).zip(near) {
        let (name, millis, idle) = (&subject.name, subject.millis, subject.idle_kib as f64 / 1024.0);
        let Line { file_mib, first_micros, near_kib } = line;
        // A hundred sessions are less than what a process grows by anyway.
        let near_kib = near_kib.map_or_else(|| "–".to_owned(), |kib| format!("{kib:.2}"));
        println!(
            "| {name} | {file_mib:.0} | {millis:.0} | {idle:.1} | {first_micros:.0} | {micros:.1} | {ratio:.2} | {near_kib} |"
        );
    }
    println!("\nA session of these holds three tokens of {} bytes.", stage.provider.access_token("somebody").len());
}

struct Line {
    file_mib: f64,
    first_micros: f64,
    near_kib: Option<f64>,
}

async fn with_sessions(stage: &Stage, edge: &Path, count: usize) -> (Subject, Line) {
    let folder = stage.dir.path().join(format!("sessions-{count}"));
    let file = folder.join("sessions.db");
    let ports = stage.configure(&folder, &format!("sqlite:{}", file.display()));
    let began = Instant::now();
    pin("0,1");
    let mut cookies = logins::make(&folder, &stage.provider, count.min(USED)).await;
    if count > USED {
        crowd(&file, count / USED).unwrap();
    }
    pin("1");
    eprintln!("{count} sessions written in {:.0} s", began.elapsed().as_secs_f64());
    fastrand::Rng::with_seed(count as u64).shuffle(&mut cookies);
    let subject = start(edge, &folder, ports, count.to_string(), each("/api/x", &cookies));
    let mut client = Client::connect(ports.public, 8);
    client.ask(&[get("/public/x", &[])], 1_000);
    let memory = || subject.process.memory_kib("VmRSS");
    let before = (subject.process.exact_cpu_micros(), memory());
    client.ask(&subject.requests, cookies.len());
    let asked = cookies.len() as f64;
    let first_micros = (subject.process.exact_cpu_micros() - before.0) / asked;
    std::thread::sleep(Duration::from_millis(500));
    let near_kib = (count >= 10_000).then(|| memory().saturating_sub(before.1) as f64 / asked);
    let line = Line { file_mib: mebibytes(&file), first_micros, near_kib };
    (subject, line)
}

/// Makes `times` as many rows of the sessions in the file, those that are there spread among them. The
/// file is ours alone, and nobody misses it: no journal.
fn crowd(file: &Path, times: usize) -> rusqlite::Result<()> {
    let store = rusqlite::Connection::open(file)?;
    for (name, value) in [("journal_mode", "OFF"), ("synchronous", "OFF"), ("cache_size", "-500000")] {
        store.pragma_update(None, name, value)?;
    }
    store.execute_batch(&format!(
        "BEGIN;
         CREATE TEMP TABLE own AS SELECT * FROM sessions ORDER BY random();
         DELETE FROM sessions;
         WITH RECURSIVE turn(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM turn WHERE n < {times} - 1)
         INSERT INTO sessions (key, version, issuer, subject, idp_session, created_at, expires_at, ends_at, sealed)
         SELECT iif(n, randomblob(length(key)), key), version, issuer, iif(n, subject || '-' || n, subject),
                iif(n, idp_session || '-' || n, idp_session), created_at, expires_at, ends_at, sealed
         FROM own CROSS JOIN turn;
         DROP TABLE own;
         COMMIT;"
    ))
}

fn mebibytes(file: &PathBuf) -> f64 {
    std::fs::metadata(file).unwrap().len() as f64 / (1024.0 * 1024.0)
}
