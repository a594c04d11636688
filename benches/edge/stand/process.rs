//! A measured program: pinned, killed by its id, asked for its CPU time and memory through `/proc`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::installed;

/// In which it may end by itself.
const FAREWELL: Duration = Duration::from_secs(5);

/// A running child.
pub struct Process {
    child: Child,
}

impl Process {
    /// Runs `command` on one core; where there is only one, or no `taskset`, unpinned.
    pub fn start(command: &[&str], core: usize) -> Self {
        let pinned = installed("taskset") && std::thread::available_parallelism().is_ok_and(|cores| cores.get() > core);
        let core = core.to_string();
        let prefix: &[&str] =
            if pinned || core != "0" && installed("taskset") { &["taskset", "-c", &core] } else { &[] };
        let words: Vec<&str> = prefix.iter().chain(command).copied().collect();
        let child = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{}: {error}", words[0])) }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it answers. That somebody listens is not enough: our program tries its ports first.
    pub fn wait_for(&mut self, port: u16) {
        let until = Instant::now() + Duration::from_secs(60);
        while !answers(port) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "a measured program ended at its start: {ended:?}");
            assert!(Instant::now() < until, "a measured program does not answer");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// User and system time of all its threads, microseconds.
    pub fn cpu_micros(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // After the name in parentheses: state is field 3, utime 14, stime 15 (proc(5)); a tick is 10 ms.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
        (ticks(14) + ticks(15)) * 10_000.0
    }

    /// The same of the threads it has now, not rounded to ticks: for few requests.
    pub fn exact_cpu_micros(&self) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let nanos = threads.map(|thread| {
            let text = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap_or_default();
            text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok()).unwrap_or(0.0)
        });
        nanos.sum::<f64>() / 1000.0
    }

    /// A line of `/proc/PID/status` in KiB: `VmRSS`, `VmHWM`.
    pub fn memory_kib(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|one| one.starts_with(line)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Whether anything comes back, be it an error.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    // Without a `Host`, which Redis takes for an attack.
    let asked = stream.write_all(b"GET /public/x HTTP/1.0\r\n\r\n");
    asked.is_ok() && stream.read(&mut [0; 16]).is_ok_and(|read| read > 0)
}

impl Drop for Process {
    /// An instrumented build writes its profile when it ends by itself.
    fn drop(&mut self) {
        let asked = Command::new("kill").args(["-INT", &self.id().to_string()]).status();
        let until = Instant::now() + FAREWELL;
        while asked.is_ok() && Instant::now() < until && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
