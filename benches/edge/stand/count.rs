//! Instructions in user space per request, counted by valgrind: the same on a busy machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::Client;
use super::process::Process;

/// As many as a small load generator would hold.
const CONNECTIONS: usize = 8;

/// A program under callgrind.
pub struct Counted {
    process: Process,
    out: PathBuf,
    port: u16,
    dumps: usize,
}

impl Counted {
    /// Starts `command` and waits until it listens on `port`. Profiles go to `dir`, named after `name`.
    pub fn start(command: &[&str], port: u16, dir: &Path, name: &str) -> Self {
        let out = dir.join(format!("callgrind.{name}"));
        let file = format!("--callgrind-out-file={}", out.display());
        let valgrind = ["valgrind", "-q", "--tool=callgrind", "--separate-threads=no", &file];
        let words: Vec<&str> = valgrind.iter().chain(command).copied().collect();
        let mut process = Process::start(&words, 0);
        process.wait_for(port);
        Self { process, out, port, dumps: 0 }
    }

    /// Instructions of one request of this kind, after `warm` of them; the profile is in the folder.
    pub fn per_request(&mut self, label: &str, requests: &[String], warm: usize, count: usize) -> u64 {
        let mut client = Client::connect(self.port, CONNECTIONS);
        client.ask(requests, warm);
        self.dump("before");
        client.ask(requests, count);
        let profile = self.dump(label);
        let text = std::fs::read_to_string(&profile).unwrap();
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
        std::fs::rename(&profile, self.out.with_extension(label)).unwrap();
        total.trim().parse::<u64>().unwrap() / count as u64
    }

    /// Writes what was counted since the last time, and starts from zero.
    fn dump(&mut self, label: &str) -> PathBuf {
        let id = self.process.id().to_string();
        let done = Command::new("callgrind_control").args([&format!("--dump={label}"), &id]).output().unwrap();
        assert!(done.status.success(), "callgrind_control: {}", String::from_utf8_lossy(&done.stderr));
        self.dumps += 1;
        PathBuf::from(format!("{}.{}", self.out.display(), self.dumps))
    }
}
