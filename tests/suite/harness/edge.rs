//! The program itself as a child process, with a configuration, ports and a log of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::config::{Place, Setup};
use super::log::Log;
use super::provider::Provider;
use super::{free_port, http_client};

/// A running edge; killed by its id when dropped.
pub(crate) struct Edge {
    dir: TempDir,
    env: Vec<(String, String)>,
    silent: bool,
    child: Child,
    /// The public port.
    pub(crate) port: u16,
    admin_port: u16,
    /// Its client at the provider.
    pub(crate) client_id: String,
    /// What the browser sees, without a slash at the end.
    pub(crate) origin: String,
    /// Where it logs its users in.
    pub(crate) provider: &'static Provider,
    /// Both outputs since the first start.
    pub(crate) log: Log,
}

impl Edge {
    /// Registers a client, writes the configuration, spawns the program and waits until it is alive.
    pub(super) async fn start(setup: Setup, provider: &'static Provider) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let client_id = format!("edge-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let metadata = setup.client_metadata().clone();
        let edge = Self::start_as(setup, provider, client_id).await;
        provider.register(&edge.client_id, &edge.origin, &metadata).await;
        edge
    }

    /// As [`Self::start`], with a client that is or will be registered.
    pub(super) async fn start_as(setup: Setup, provider: &'static Provider, client_id: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (port, admin_port) = (free_port(), free_port());
        let origin = setup.origin(port);
        setup.write(&Place { dir: dir.path(), port, admin_port, client_id: &client_id }, &provider.issuer);
        let log = Log::default();
        let (env, silent) = (setup.env_vars().to_vec(), setup.is_silent());
        let child = spawn(&dir, (!silent).then_some(&log), &log, &env, &[]);
        let mut edge = Self { dir, env, silent, child, port, admin_port, client_id, origin, provider, log };
        edge.wait_until_alive().await;
        edge
    }

    /// For all tests of this process. A watcher kills it by its id when the process ends, however it does.
    pub(crate) fn lend(self) -> &'static Self {
        let watch = "cat >/dev/null; kill -9 \"$1\"; rm -rf \"$2\"";
        let watcher = Command::new("sh")
            .args(["-c", watch, "sh", &self.child.id().to_string()])
            .arg(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Its standard input ends with this process.
        std::mem::forget(watcher);
        Box::leak(Box::new(self))
    }

    /// Where it was started: its configuration, and below it whatever it wrote.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// `127.0.0.1` and the public port.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// An absolute URL on the public port.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// An absolute URL on the admin port.
    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.admin_port)
    }

    /// Token requests of this edge at the provider, by grant type.
    pub(crate) async fn grants(&self, grant_type: &str) -> u64 {
        self.provider.count(&self.client_id, grant_type).await
    }

    /// An access token of this edge's client in its own name: a JWT for `audience`, opaque without one.
    pub(crate) async fn client_token(&self, audience: Option<&str>) -> String {
        self.provider.client_token(&self.client_id, audience).await
    }

    /// The value of the first counter whose line starts with `name`; 0 when there is none yet.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let page = http_client().get(self.admin_url("/metrics")).send().await.unwrap().text().await.unwrap();
        let line = page.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// How far each thread stands back behind others (`nice`), by its name.
    pub(crate) fn niceness(&self) -> Vec<(String, i32)> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of = |stat: String| {
            let (name, fields) = stat.split_once('(').unwrap().1.rsplit_once(") ").unwrap();
            // proc_pid_stat(5): `nice` is field 19, and the state after the name is the third.
            (name.to_owned(), fields.split(' ').nth(16).unwrap().parse().unwrap())
        };
        threads.map(|thread| of(std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap())).collect()
    }

    /// Resident memory of the process, KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Files and sockets that the process has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Processor time the process has used so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // proc(5): `utime` and `stime` are the 12th and 13th after the name, in hundredths of a second.
        let numbers = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
        Duration::from_millis(numbers.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
    }

    /// From now on no file of the process grows, as on a full disk; or they do again.
    pub(crate) fn fill_disk(&self, full: bool) {
        self.bound_files(if full { "1" } else { "unlimited" });
    }

    /// None grows beyond so many bytes.
    pub(crate) fn bound_files(&self, size: &str) {
        let (pid, limit) = (self.child.id().to_string(), format!("--fsize={size}:"));
        let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(status.expect("prlimit (util-linux)").success());
    }

    /// Sends SIGTERM, without waiting.
    pub(crate) fn sigterm(&self) {
        signal(&self.child, "TERM");
    }

    /// Sends SIGINT, without waiting.
    pub(crate) fn sigint(&self) {
        signal(&self.child, "INT");
    }

    /// Sends SIGQUIT, without waiting.
    pub(crate) fn sigquit(&self) {
        signal(&self.child, "QUIT");
    }

    /// Changes a file of its configuration, as an editor does.
    pub(crate) fn rewrite(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.dir.path().join(file);
        let text = change(std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, text).unwrap();
    }

    /// Sends SIGHUP and waits for the word about it; whether the new configuration is in force.
    pub(crate) async fn reload(&self) -> bool {
        const WORDS: [&str; 2] = ["CONFIG_RELOADED", "CONFIG_REFUSED"];
        let count = |text: &str| WORDS.map(|word| text.matches(word).count());
        let before = count(&self.log.text());
        let kill = format!("kill -HUP {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        // Its thread stands back behind everything else that a busy machine does.
        eventually!("it says what it did", count(&self.log.text()) != before, within 60);
        count(&self.log.text())[0] > before[0]
    }

    /// Waits for the end, at most `patience`; `None` when it still runs.
    pub(crate) async fn exit_status(&mut self, patience: Duration) -> Option<ExitStatus> {
        end_of(&mut self.child, patience).await
    }

    /// Lets a new process take the listening sockets over; the old one is returned as it leaves.
    pub(crate) async fn upgrade(&mut self) -> Leaving {
        let known = self.log.text().matches(TAKEN_OVER).count();
        let new = spawn(&self.dir, self.heard(), &self.log, &self.env, &["--upgrade"]);
        let old = std::mem::replace(&mut self.child, new);
        let log = self.log.clone();
        eventually!("the new process waits for the sockets", log.text().matches(WAITING).count() > known);
        signal(&old, "QUIT");
        eventually!("it has them", log.text().matches(TAKEN_OVER).count() > known);
        Leaving(old)
    }

    /// Ends it at once, as a power cut does.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with the same configuration after it ended.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        self.child = spawn(&self.dir, self.heard(), &self.log, &self.env, &[]);
        self.wait_until_alive().await;
    }

    /// Who reads its standard output.
    fn heard(&self) -> Option<&Log> {
        (!self.silent).then_some(&self.log)
    }

    async fn wait_until_alive(&mut self) {
        let until = std::time::Instant::now() + Duration::from_secs(20);
        // Twice in a row: before it listens, the program tries whether it may.
        let mut answered = 0;
        while answered < 2 {
            answered = if tokio::net::TcpStream::connect(self.address()).await.is_ok() { answered + 1 } else { 0 };
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the program ended at its start ({ended:?}):\n{}", self.log.text());
            assert!(std::time::Instant::now() < until, "no listener after 20 s:\n{}", self.log.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

const WAITING: &str = "waiting for the listening sockets";
const TAKEN_OVER: &str = "the listening sockets are here";

/// A process that has handed its sockets over; killed by its id when dropped.
pub(crate) struct Leaving(Child);

impl Leaving {
    /// As [`Edge::exit_status`].
    pub(crate) async fn exit_status(&mut self, patience: Duration) -> Option<ExitStatus> {
        end_of(&mut self.0, patience).await
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

async fn end_of(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let until = std::time::Instant::now() + patience;
    loop {
        let status = child.try_wait().unwrap();
        if status.is_some() || std::time::Instant::now() > until {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- what {} said:\n{}", self.client_id, self.log.text());
        }
    }
}

/// Runs the program with this configuration on a port that is taken; exit status and outputs.
pub(crate) async fn failing_run(setup: Setup, port: u16) -> (ExitStatus, String) {
    let provider = Provider::shared();
    let dir = tempfile::tempdir().unwrap();
    setup.write(&Place { dir: dir.path(), port, admin_port: free_port(), client_id: "nobody" }, &provider.issuer);
    let log = Log::default();
    let mut child = spawn(&dir, Some(&log), &log, &[], &[]);
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            // The collecting threads read the last lines after the end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            return (status, log.text());
        }
        if std::time::Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it still runs after 20 s:\n{}", log.text());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A start under way; killed by its id when dropped.
pub(crate) struct Starting {
    child: Child,
    _dir: TempDir,
    /// Both outputs.
    pub(crate) log: Log,
}

impl Starting {
    /// Spawns the program, and waits for nothing.
    pub(crate) fn spawn(setup: &Setup) -> Self {
        let (dir, log) = (tempfile::tempdir().unwrap(), Log::default());
        let place = Place { dir: dir.path(), port: free_port(), admin_port: free_port(), client_id: "nobody" };
        setup.write(&place, &Provider::shared().issuer);
        let child = spawn(&dir, Some(&log), &log, &[], &[]);
        Self { child, _dir: dir, log }
    }

    /// Sends the signal of this name.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// As [`Edge::exit_status`].
    pub(crate) async fn exit_status(&mut self, patience: Duration) -> Option<ExitStatus> {
        end_of(&mut self.child, patience).await
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `pingora-bff doctor` says of this configuration with that client; exit status and standard output.
pub(crate) async fn doctor(setup: Setup, issuer: &str, client_id: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { dir: dir.path(), port: DOCTORED, admin_port: free_port(), client_id };
    setup.write(&place, issuer);
    let mut command = tokio::process::Command::new(program());
    command.args(["doctor", "--conf", "conf", "--routes", "routes"]).current_dir(dir.path()).kill_on_drop(true);
    let run = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = run.expect("it ends").unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

/// The port that a configuration for [`doctor`] names; nobody listens there.
pub(crate) const DOCTORED: u16 = 8080;

/// The program under test: what was built with the tests, or what `EDGE_BINARY` names (a release build, for
/// numbers).
fn program() -> String {
    std::env::var("EDGE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pingora-bff").to_owned())
}

fn spawn(dir: &TempDir, output: Option<&Log>, errors: &Log, env: &[(String, String)], more: &[&str]) -> Child {
    // A test may bound what the process writes (`Edge::fill_disk`): it is to meet an error then, as of a
    // full disk, and no signal.
    let mut child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ${OPEN_FILES:+ulimit -n $OPEN_FILES}; exec \"$0\" \"$@\"", &program()])
        .args(["run", "--conf", "conf", "--routes", "routes"])
        .args(more)
        .current_dir(dir.path())
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(if output.is_some() { Stdio::piped() } else { Stdio::null() })
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(log) = output {
        log.collect(child.stdout.take().unwrap());
    }
    errors.collect(child.stderr.take().unwrap());
    child
}

/// The problem document of an answer: its content type is checked, `code` and the rest are returned.
pub(crate) async fn problem(answer: reqwest::Response) -> Value {
    let kind = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    assert_eq!(kind.as_deref(), Some("application/problem+json"), "{status}: {text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["status"], status, "{text}");
    for key in ["type", "title", "detail", "code", "correlation_id"] {
        assert!(body[key].as_str().is_some_and(|value| !value.is_empty()), "{key} is missing: {text}");
    }
    body
}
