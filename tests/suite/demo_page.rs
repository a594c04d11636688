//! The demo as a newcomer meets it: one command, the printed URL, a real browser (`tests/oidc/page.mjs`), Ctrl-C,
//! and the configuration to go on from.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Browser, Log, free_port, free_ports, http_client, location};

/// The program with these arguments; killed by its id when dropped.
struct Started {
    child: Child,
    log: Log,
}

impl Started {
    fn with(arguments: &[&str], temp: &Path) -> Self {
        let mut child = command(arguments, temp).stdout(Stdio::piped()).spawn().unwrap();
        let log = Log::default();
        log.collect(child.stdout.take().unwrap());
        log.collect(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// The demo, once its page is served; with the URL it printed.
    async fn demo(temp: &Path) -> (Self, String) {
        // Not the default port: two demos that start at once could both find it free.
        let demo = Self::with(&["demo", "--port", &free_port().to_string()], temp);
        eventually!("the demo prints its URL", demo.url().is_some());
        let url = demo.url().unwrap();
        eventually!("the page is served", is_served(&url).await);
        (demo, url)
    }

    fn url(&self) -> Option<String> {
        let text = self.log.text();
        let start = text.find("http://localhost:")?;
        let url: String = text[start..].chars().take_while(|one| !one.is_whitespace() && *one != '"').collect();
        // A line that is still being written has no port yet.
        (url.len() > "http://localhost:".len() + 1).then_some(url)
    }

    /// As Ctrl-C does.
    fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends the signal of this name.
    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

fn command(arguments: &[&str], temp: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pingora-bff"));
    command.args(arguments).current_dir(temp).env("TMPDIR", temp).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

async fn is_served(url: &str) -> bool {
    http_client().get(url).send().await.is_ok_and(|answer| answer.status() == 200)
}

/// Fills in the demo provider's form.
async fn log_in(url: &str) -> Browser {
    let browser = Browser::new();
    let form = location(&browser.get(format!("{url}/auth/login")).await).expect("the way to the provider");
    let sent = browser.client.post(form).form(&[("login", "ada"), ("password", "x")]).send().await.unwrap();
    let answer = browser.get(location(&sent).expect("the way back")).await;
    assert!(answer.status().is_redirection(), "{}", answer.status());
    browser
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian's browser, or the one that `CHROMIUM` names. Never skipped: without one the test fails.
pub(crate) fn chromium() -> PathBuf {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let candidates = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.into_iter().find(|file| file.is_file()).expect("Chromium is needed; tests/run installs it")
}

#[tokio::test]
async fn a_newcomer_logs_in_sees_the_decoded_tokens_and_logs_out() {
    let temp = tempfile::tempdir().unwrap();
    let (demo, url) = Started::demo(temp.path()).await;
    let shots = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    let output = tokio::process::Command::new("node")
        .args(["page.mjs", &url, shots])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc"))
        .env("CHROMIUM", chromium())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.expect("within a minute").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n--- the demo said:\n{}", demo.log.text());
    println!("{said}");
}

#[tokio::test]
async fn ctrl_c_ends_the_demo_at_once_and_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let (mut demo, url) = Started::demo(temp.path()).await;
    let left = || std::fs::read_dir(temp.path()).unwrap().count();
    assert_eq!(left(), 1, "its configuration");
    let browser = log_in(&url).await;
    let events = browser.get(format!("{url}/api/v1/analytics/events")).await;
    assert_eq!(events.status(), 200);
    let started = Instant::now();
    demo.interrupt();
    eventually!("it ends", demo.child.try_wait().unwrap().is_some());
    let took = started.elapsed();
    assert_eq!(demo.child.wait().unwrap().code(), Some(0), "{}", demo.log.text());
    assert!(took < Duration::from_secs(2), "an open stream held it for {took:?}");
    assert_eq!(left(), 0, "its configuration is gone");
}

/// Nobody reads what it says, so that it does not get as far as serving.
#[tokio::test]
async fn a_demo_that_starts_is_ended_by_ctrl_c_and_by_no_sighup() {
    let temp = tempfile::tempdir().unwrap();
    let (_unread, mut full) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.write(&[b'x'; 4096]).is_ok() {}
    full.set_nonblocking(false).unwrap();
    let arguments = ["demo", "--port", &free_port().to_string()];
    let mut child = command(&arguments, temp.path()).stdout(OwnedFd::from(full)).spawn().unwrap();
    let log = Log::default();
    log.collect(child.stderr.take().unwrap());
    let mut demo = Started { child, log };
    let files = || std::fs::read_dir(temp.path()).unwrap().count();
    eventually!("it has begun", files() == 1);
    demo.signal("HUP");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(demo.child.try_wait().unwrap().is_none(), "a SIGHUP is no end: {}", demo.log.text());
    demo.interrupt();
    eventually!("it ends", demo.child.try_wait().unwrap().is_some());
    assert_eq!(demo.child.wait().unwrap().code(), Some(0), "{}", demo.log.text());
}

#[tokio::test]
async fn a_printed_configuration_runs_against_the_parts() {
    let temp = tempfile::tempdir().unwrap();
    let (port, first) = (free_port().to_string(), free_ports(5).to_string());
    let print = ["demo", "--print-config", "mine", "--port", &port, "--parts", &first];
    let mut printing = Started::with(&print, temp.path());
    assert_eq!(printing.child.wait().unwrap().code(), Some(0));
    let two_lines = [
        format!("  pingora-bff demo --parts {first} --port {port}\n"),
        "  pingora-bff run --conf mine/conf --routes mine/routes\n".to_owned(),
    ];
    eventually!("both commands are told", two_lines.iter().all(|line| printing.log.text().contains(line)));
    // The one port that has no option: another demo may have it.
    let settings = temp.path().join("mine/conf/settings.yaml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let moved = text.replace("127.0.0.1:9090", &format!("127.0.0.1:{}", free_port()));
    assert_ne!(text, moved);
    std::fs::write(&settings, moved).unwrap();

    let mut parts = Started::with(&["demo", "--parts", &first, "--port", &port], temp.path());
    let mut edge = Started::with(&["run", "--conf", "mine/conf", "--routes", "mine/routes"], temp.path());
    let url = format!("http://localhost:{port}");
    eventually!("the page is served", is_served(&url).await);
    let browser = log_in(&url).await;
    for (path, fits) in [("/api/v1/analytics/reports", true), ("/api/v1/proxy/old-crm/customers/1", false)] {
        let echo: Value = browser.get(format!("{url}{path}")).await.json().await.unwrap();
        assert_eq!(echo["token"]["signature_is_good"], true, "{path}: {echo}");
        assert_eq!(echo["token"]["audience_fits"], fits, "{path}: {echo}");
    }
    for part in [&mut parts, &mut edge] {
        part.interrupt();
        eventually!("it ends", part.child.try_wait().unwrap().is_some());
        assert_eq!(part.child.wait().unwrap().code(), Some(0), "{}", part.log.text());
    }
}
