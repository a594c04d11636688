//! Our program beside the bare engine and its peers, driven in turns over loopback: CPU time a request,
//! rates, memory; or instructions a request; or what many routes, services and sessions cost; or waits. How to read it: `benches/README.md`.
//!
//! `cargo bench --profile dist --bench edge [-- --rounds 5 --seconds 2 --connections 32 --only NAMES
//! --count|--memory|--scale [--sessions 1000000]|--latency]`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::string_slice, clippy::cast_precision_loss, reason = "a measurement ends by panicking, too")]

mod apache;
mod envoy;
mod latency;
mod load;
mod measure;
mod memory;
mod pace;
mod peer;
mod scale;
mod scenario;
mod stage;
mod stand;
mod table;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use measure::Bounds;
use scenario::{Scenario, Target};
use stage::Stage;
use stand::count::Counted;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // The engine panics without a crypto provider, and the first one wins.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [bare, listen, upstream] = words.as_slice()
        && bare == "bare"
    {
        stand::bare::serve(listen, upstream);
    }
    let value = |flag: &str| words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1));
    let number = |flag: &str, usual: usize| value(flag).map_or(usual, |text| text.parse().unwrap());
    let bounds = Bounds {
        rounds: number("--rounds", 5),
        seconds: number("--seconds", 2) as u64,
        connections: number("--connections", 32),
    };
    pin("1");
    let edge = std::env::var_os("BFF").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_pingora-bff")), PathBuf::from);
    let bare = std::env::var_os("BARE").map_or_else(|| std::env::current_exe().unwrap(), PathBuf::from);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let asked = |flag: &str| words.iter().any(|word| word == flag);
    let alone = ["--scale", "--latency", "--memory"].into_iter().any(asked);
    let stage = runtime.block_on(Stage::set(&edge, &bare, !alone));
    let mut scenarios = scenario::all(&stage);
    let chosen = |name: &str| value("--only").is_none_or(|only| only.split(',').any(|one| one == name));
    scenarios.retain(|scenario| chosen(scenario.name));
    let mut told = vec![edge.display().to_string(), format!("{bounds:?}")];
    told.extend(stage.peers.iter().map(|peer| peer.version.clone()));
    told.dedup();
    println!("{}", told.join(" · "));
    if asked("--memory") {
        memory::measure(&stage);
    } else if asked("--scale") {
        if chosen("services") {
            scale::services(&stage, &edge, bounds);
        }
        if chosen("routes") {
            scale::routes(&stage, &edge, bounds);
        }
        if chosen("sessions") {
            runtime.block_on(scale::sessions(&stage, &edge, bounds, number("--sessions", 1_000_000)));
        }
    } else if asked("--latency") {
        if chosen("verify") {
            latency::verify_at_half_load(&stage, bounds);
        }
        if chosen("reload") {
            latency::reload(&stage, &edge, bounds.rounds);
        }
    } else if asked("--count") {
        let keep = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        table::print_counts(&count(&stage, &scenarios, &keep, number("--requests", 1000)), &scenarios);
        println!("\nProfiles: callgrind_annotate {}/callgrind.*", keep.display());
    } else {
        table::print(&measure::measure(&stage, &scenarios, bounds), &scenarios);
    }
}

/// Load generator, upstream and Redis share core 1, which no proxy uses.
pub(crate) fn pin(cores: &str) {
    let id = std::process::id().to_string();
    if stand::installed("taskset") && std::thread::available_parallelism().is_ok_and(|all| all.get() > 1) {
        let _ = Command::new("taskset").args(["-a", "-cp", cores, &id]).output();
    }
}

/// One program after the other under callgrind, each with all its scenarios.
fn count(stage: &Stage, scenarios: &[Scenario], keep: &Path, requests: usize) -> HashMap<&'static str, u64> {
    let mut counts = HashMap::new();
    for start in &stage.starts {
        let mine: Vec<&Scenario> = scenarios.iter().filter(|scenario| scenario.target == start.target).collect();
        if mine.is_empty() || start.target == Target::Nginx {
            continue;
        }
        let words: Vec<&str> = start.command.iter().map(String::as_str).collect();
        let mut counted = Counted::start(&words, start.port, keep, &format!("{:?}", start.target));
        for scenario in mine {
            // Few sessions, so that each is near when counting begins.
            let asked = &scenario.requests[..scenario.requests.len().min(100)];
            counts.insert(scenario.name, counted.per_request(scenario.name, asked, 300, requests));
            eprintln!("{}: {}", scenario.name, counts[scenario.name]);
        }
    }
    counts
}
