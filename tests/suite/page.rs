//! The demo as a newcomer meets it: one command, the printed URL, a real browser (`tests/oidc/page.mjs`).

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::harness::{Log, http_client};

struct Demo {
    child: Child,
    log: Log,
}

impl Demo {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pingora-bff"))
            .arg("demo")
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::default();
        log.collect(child.stdout.take().unwrap());
        log.collect(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// The URL it printed.
    fn url(&self) -> Option<String> {
        let text = self.log.text();
        let start = text.find("http://localhost:")?;
        let url: String = text[start..].chars().take_while(|one| !one.is_whitespace() && *one != '"').collect();
        // A line that is still being written has no port yet.
        (url.len() > "http://localhost:".len() + 1).then_some(url)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian's browser, or the one that `CHROMIUM` names. Never skipped: without one the test fails.
fn chromium() -> PathBuf {
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
    let demo = Demo::start();
    eventually!("the demo prints its URL", demo.url().is_some());
    let url = demo.url().unwrap();
    let page = async || http_client().get(&url).send().await.is_ok_and(|answer| answer.status() == 200);
    eventually!("the page is served", page().await);
    let shots = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    let output = tokio::process::Command::new("node")
        .args(["page.mjs", &url, shots])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc"))
        .env("CHROMIUM", chromium())
        .kill_on_drop(true)
        .output();
    let output =
        tokio::time::timeout(std::time::Duration::from_secs(60), output).await.expect("within a minute").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n--- the demo said:\n{}", demo.log.text());
    println!("{said}");
}
