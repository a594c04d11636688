//! Instructions in user space per request, counted by valgrind: the same on a busy machine. Each thread
//! is counted by itself and the busiest one told: that is the engine's worker. What others do by the
//! clock (watching the store, ticking timers) would make the number depend on how slow the machine is.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::Client;
use super::process::Process;

/// As many as a small load generator would hold.
const CONNECTIONS: usize = 8;

/// A program under callgrind.
pub struct Counted {
    process: Process,
    folder: PathBuf,
    name: String,
    port: u16,
    dumps: usize,
}

impl Counted {
    /// Starts `command` and waits until it listens on `port`. Profiles go to `folder`, named after `name`.
    pub fn start(command: &[&str], port: u16, folder: &Path, name: &str) -> Self {
        let file = format!("--callgrind-out-file={}", folder.join(name).display());
        let valgrind = ["valgrind", "-q", "--tool=callgrind", "--separate-threads=yes", &file];
        let words: Vec<&str> = valgrind.iter().chain(command).copied().collect();
        let mut process = Process::start(&words, 0);
        process.wait_for(port);
        Self { process, folder: folder.to_owned(), name: name.to_owned(), port, dumps: 0 }
    }

    /// Instructions of one request of this kind, after `warm` of them. The profile becomes
    /// `callgrind.LABEL` in the folder.
    pub fn per_request(&mut self, label: &str, requests: &[String], warm: usize, count: usize) -> u64 {
        let mut client = Client::connect(self.port, CONNECTIONS);
        client.ask(requests, warm);
        self.dump(label);
        client.ask(requests, count);
        let profiles = self.dump(label);
        let (total, busiest) = profiles.iter().map(|path| (total(path), path)).max().unwrap();
        std::fs::rename(busiest, self.folder.join(format!("callgrind.{label}"))).unwrap();
        total / count as u64
    }

    /// Writes what was counted since the last time, and starts from zero; a file a thread.
    fn dump(&mut self, label: &str) -> Vec<PathBuf> {
        let id = self.process.id().to_string();
        let done = Command::new("callgrind_control").args([&format!("--dump={label}"), &id]).output().unwrap();
        assert!(done.status.success(), "callgrind_control: {}", String::from_utf8_lossy(&done.stderr));
        self.dumps += 1;
        let prefix = format!("{}.{}-", self.name, self.dumps);
        let files = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))).collect()
    }
}

fn total(profile: &Path) -> u64 {
    let text = std::fs::read_to_string(profile).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}
