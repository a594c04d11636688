//! CPU time, rates and memory under load: interleaved, in rotated order, bounded.

use std::collections::HashMap;

use crate::load::{Seen, drive};
use crate::scenario::{Scenario, Target};
use crate::stage::Stage;
use crate::stand::process::Process;

/// One run of one scenario.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub cpu_micros: f64,
    pub redis_micros: f64,
    pub seen: Seen,
}

/// What was measured.
pub struct Measured {
    /// By scenario, a sample a round.
    pub samples: HashMap<&'static str, Vec<Sample>>,
    /// Target, KiB when idle after its start, peak KiB.
    pub memory: Vec<(Target, u64, u64)>,
}

/// Bounds of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub rounds: usize,
    pub seconds: u64,
    pub connections: usize,
}

/// Starts every program, warms each scenario once, then measures.
pub fn measure(stage: &Stage, scenarios: &[Scenario], bounds: Bounds) -> Measured {
    let mut started = Vec::new();
    for start in &stage.starts {
        let words: Vec<&str> = start.command.iter().map(String::as_str).collect();
        let mut process = Process::start(&words, 0);
        process.wait_for(start.port);
        started.push((start.target, start.port, process));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let ours = started.iter().map(|(target, port, process)| (*target, *port, process));
    let peers = stage.peers.iter().map(|peer| (peer.target, peer.port, &peer.process));
    let all = ours.chain(peers);
    let programs: Vec<(Target, u16, &Process, u64)> =
        all.map(|(target, port, process)| (target, port, process, process.memory_kib("VmRSS"))).collect();
    let mut samples: HashMap<&'static str, Vec<Sample>> = HashMap::new();
    for round in 0..=bounds.rounds {
        for place in 0..scenarios.len() {
            let scenario = &scenarios[(place + round * 5) % scenarios.len()];
            let Some((_, port, process, _)) = programs.iter().find(|(target, ..)| *target == scenario.target) else {
                continue;
            };
            let redis = || stage.redis.as_ref().map_or(0.0, Process::cpu_micros);
            // The first round reads every session once and is not counted.
            let seconds = if round == 0 { 2 } else { bounds.seconds };
            let before = (process.cpu_micros(), redis());
            let seen = drive(stage.dir.path(), *port, &scenario.requests, bounds.connections, seconds);
            let asks_redis = matches!(scenario.target, Target::OursRedis | Target::ApacheRedis);
            let redis_micros = if asks_redis { (redis() - before.1) / seen.requests } else { 0.0 };
            let cpu_micros = (process.cpu_micros() - before.0) / seen.requests;
            if round > 0 {
                samples.entry(scenario.name).or_default().push(Sample { cpu_micros, redis_micros, seen });
            }
        }
        eprintln!("round {round} of {}", bounds.rounds);
    }
    let memory = programs.iter().map(|(target, _, process, idle)| (*target, *idle, process.memory_kib("VmHWM")));
    Measured { samples, memory: memory.collect() }
}
