//! What a client waits: at half of what the proxy can do, and while ten thousand routes are read again.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::load::drive;
use crate::measure::Bounds;
use crate::pace::{Answer, Pace, quantile};
use crate::scenario::Target;
use crate::stage::{Stage, run};
use crate::stand::client::once;
use crate::stand::conf;
use crate::stand::process::Process;
use crate::stand::request::{each, get};

/// Routes that are read again.
const ROUTES: usize = 10_000;
/// Requests a second while they are, unless that is more than a quarter of what the machine can do.
const STEADY: f64 = 2_000.0;
/// Of such a run: before the signal, and all of it.
const BEFORE: Duration = Duration::from_secs(2);
const LASTS: Duration = Duration::from_secs(7);
/// What a run without a signal counts as the time of the reload.
const USUAL: Duration = Duration::from_secs(2);

/// `/auth/verify` at half of the rate that wrk reached just before.
pub fn verify_at_half_load(stage: &Stage, bounds: Bounds) {
    let start = stage.starts.iter().find(|start| start.target == Target::Ours).unwrap();
    let words: Vec<&str> = start.command.iter().map(String::as_str).collect();
    let mut process = Process::start(&words, 0);
    process.wait_for(start.port);
    let requests = each("/auth/verify", &stage.cookies);
    let full = || drive(stage.dir.path(), start.port, &requests, bounds.connections, bounds.seconds).per_second;
    full(); // reads each session once
    println!("\n| verify: wrk, requests/s | then at | p50 ms | p99 ms | p99.9 ms | slowest ms | left late, p99 ms |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for _ in 0..bounds.rounds {
        let reached = full();
        // What else runs on the machine has waited meanwhile, and has its turn first.
        std::thread::sleep(Duration::from_secs(1));
        let pace = Pace {
            port: start.port,
            requests: &requests,
            per_second: reached / 2.0,
            connections: bounds.connections,
            lasts: Duration::from_secs(bounds.seconds),
        };
        let answers = pace.keep();
        let waited = |share| quantile(answers.iter().map(|answer| answer.waited).collect(), share);
        let late = quantile(answers.iter().map(|answer| answer.late).collect(), 0.99);
        println!(
            "| {reached:.0} | {:.0} | {:.3} | {:.3} | {:.3} | {:.2} | {late:.3} |",
            pace.per_second,
            waited(0.50),
            waited(0.99),
            waited(0.999),
            waited(1.0)
        );
    }
}

/// A steady load on one route while all are read again, and beside it the same without.
pub fn reload(stage: &Stage, edge: &Path, rounds: usize) {
    let folder = stage.dir.path().join("reload");
    let ports = stage.configure(&folder, "memory:");
    conf::add_routes(&folder, stage.service, ROUTES, 1);
    let mut process = run(edge, &folder);
    process.wait_for(ports.public);
    let full = drive(stage.dir.path(), ports.public, &[get("/public/x", &[])], 16, 2).per_second;
    let rate = STEADY.min(full / 4.0);
    println!(
        "\n| {ROUTES} routes, {rate:.0} requests/s | took ms | slowest ms: before | meanwhile | after | p90 ms: before | meanwhile | after |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for round in 0..rounds {
        for signalled in [false, true] {
            let (answers, took) = under_load(ports.public, rate, || {
                if signalled {
                    reload_once(&process, &folder, ports.public, round);
                } else {
                    std::thread::sleep(USUAL);
                }
            });
            let line = [1.0, 0.90].map(|share| phases(&answers, took).map(|phase| quantile(phase, share)));
            let cells: Vec<String> = line.as_flattened().iter().map(|wait| format!("{wait:.2}")).collect();
            let what = if signalled { "reload" } else { "none" };
            println!("| {what} | {} | {} |", took.as_millis(), cells.join(" | "));
        }
    }
}

/// What was answered, and how long `work` took, which began after [`BEFORE`].
fn under_load(port: u16, per_second: f64, work: impl FnOnce()) -> (Vec<Answer>, Duration) {
    let requests = [get("/public/x", &[])];
    std::thread::scope(|scope| {
        let load = Pace { port, requests: &requests, per_second, connections: 16, lasts: LASTS };
        let load = scope.spawn(move || load.keep());
        std::thread::sleep(BEFORE);
        let begun = Instant::now();
        work();
        let took = begun.elapsed();
        (load.join().unwrap(), took)
    })
}

/// Adds a route, sends the signal and waits until the route is there.
fn reload_once(process: &Process, folder: &Path, port: u16, round: usize) {
    let route =
        format!("routes:\n  - {{ id: fresh-{round}, path: \"/fresh-{round}/*\", target_service: api, auth: none }}\n");
    std::fs::write(folder.join("routes").join("fresh.yaml"), route).unwrap();
    assert!(Command::new("kill").args(["-HUP", &process.id().to_string()]).status().unwrap().success());
    let probe = get(&format!("/fresh-{round}/x"), &["Connection: close"]);
    let until = Instant::now() + LASTS;
    while !once(port, &probe).starts_with("HTTP/1.1 200 ") {
        assert!(Instant::now() < until, "the new routes do not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits before, during and after the reload; the old table is let go of within a second of its end.
fn phases(answers: &[Answer], took: Duration) -> [Vec<Duration>; 3] {
    // A request that was to leave just before the signal may be held up by it.
    let (begin, end) = (BEFORE.saturating_sub(Duration::from_millis(60)), BEFORE + took);
    let within = |from: Duration, to: Duration| {
        let these = answers.iter().filter(|answer| (from..to).contains(&answer.meant));
        these.map(|answer| answer.waited).collect()
    };
    [within(Duration::ZERO, begin), within(begin, end), within(end, LASTS)]
}
