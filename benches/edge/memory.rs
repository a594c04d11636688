//! Memory of connections on which nothing happens.

use std::time::Duration;

use crate::scenario::Target;
use crate::stage::Stage;
use crate::stand::client::Client;
use crate::stand::process::Process;
use crate::stand::request::get;

/// Idle clients that are held.
const CONNECTIONS: usize = 1_000;

/// Prints a line for the bare engine and one for ours.
pub fn measure(stage: &Stage) {
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
}
