//! What must not grow: time to the first answer and memory with many routes, memory of idle
//! connections, memory of sessions close at hand.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::scenario::Target;
use crate::stage::Stage;
use crate::stand::client::Client;
use crate::stand::conf::{self, Ports};
use crate::stand::process::Process;
use crate::stand::request::{each, get};
use crate::stand::{free_port, logins};

/// Idle clients that are held.
const CONNECTIONS: usize = 1_000;

/// Prints one table for each.
pub async fn measure(stage: &Stage, edge: &Path) {
    println!("\n| routes | ms to the first answer | idle MiB |\n| --- | --- | --- |");
    for routes in [10, 1_000, 10_000] {
        let (millis, idle) = start_with(stage, edge, routes);
        println!("| {routes} | {millis:.0} | {:.1} |", idle as f64 / 1024.0);
    }
    println!("\n| program | KiB per idle connection |\n| --- | --- |");
    for start in stage.starts.iter().filter(|start| matches!(start.target, Target::Bare | Target::Ours)) {
        let words: Vec<&str> = start.command.iter().map(String::as_str).collect();
        let mut process = Process::start(&words, 0);
        process.wait_for(start.port);
        let request = [get(if start.target == Target::Ours { "/public/x" } else { "/x" }, &[])];
        Client::connect(start.port, 1).ask(&request, 100);
        let before = process.memory_kib("VmRSS");
        let mut clients = Client::connect(start.port, CONNECTIONS);
        clients.ask(&request, CONNECTIONS);
        std::thread::sleep(Duration::from_millis(500));
        let grown = process.memory_kib("VmRSS").saturating_sub(before);
        println!("| {:?} | {:.1} |", start.target, grown as f64 / CONNECTIONS as f64);
    }
    sessions(stage, edge).await;
}

/// From the start of the process to its first answer, and its memory then.
fn start_with(stage: &Stage, edge: &Path, routes: usize) -> (f64, u64) {
    let folder = stage.dir.path().join(format!("routes-{routes}"));
    let ports = Ports { public: free_port(), admin: free_port() };
    conf::write(&folder, ports, "memory:", stage.provider.issuer(), stage.service, routes);
    let started = Instant::now();
    let mut process = run(edge, &folder);
    process.wait_for(ports.public);
    Client::connect(ports.public, 1).ask(&[get("/public/x", &[])], 1);
    (started.elapsed().as_secs_f64() * 1000.0, process.memory_kib("VmRSS"))
}

/// Memory of a session that is close at hand, its tokens included.
async fn sessions(stage: &Stage, edge: &Path) {
    println!("\n| sessions near | KiB each, tokens included |\n| --- | --- |");
    for count in [10_000, 50_000] {
        let folder = stage.dir.path().join(format!("near-{count}"));
        let ports = Ports { public: free_port(), admin: free_port() };
        let store = format!("sqlite:{}", folder.join("sessions.db").display());
        conf::write(&folder, ports, &store, stage.provider.issuer(), stage.service, 0);
        let cookies = logins::make(&folder, &stage.provider, count).await;
        let mut process = run(edge, &folder);
        process.wait_for(ports.public);
        let requests = each("/api/x", &cookies);
        let mut client = Client::connect(ports.public, 8);
        client.ask(&requests, 100);
        let before = process.memory_kib("VmRSS");
        client.ask(&requests, count);
        let grown = process.memory_kib("VmRSS").saturating_sub(before);
        println!("| {count} | {:.2} |", grown as f64 / (count - 100) as f64);
    }
    println!("\nA session of these holds three tokens of {} bytes.", stage.provider.access_token("somebody").len());
}

fn run(edge: &Path, folder: &Path) -> Process {
    let at = |name: &str| folder.join(name).display().to_string();
    Process::start(&[&edge.display().to_string(), "run", "--conf", &at("conf"), "--routes", &at("routes")], 0)
}
