//! What a request costs, so that nobody makes it dearer without noticing: instructions in user space of
//! the hottest paths, counted by valgrind, beside the committed numbers. A count is repeatable on a
//! busy machine; it belongs to one compiler and one profile, elsewhere it is not compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::harness::stand::conf::{self, Ports};
use crate::harness::stand::count::Counted;
use crate::harness::stand::request::{BROWSER, each, get};
use crate::harness::stand::{behind, free_port, installed, logins};

/// The committed numbers: the compiler, then a line for each path.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/cost.txt");
/// Per cent that a number may differ: other work on the machine moves a count by less than one.
const TOLERANCE: u64 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn no_hot_path_became_dearer() {
    if !installed("valgrind") || !installed("callgrind_control") {
        return eprintln!("not compared: valgrind is not installed");
    }
    if !cfg!(debug_assertions) {
        return eprintln!("not compared: the committed numbers are of the dev profile");
    }
    let committed = std::fs::read_to_string(FILE).unwrap_or_default();
    let write = std::env::var("COST").is_ok_and(|what| what == "write");
    let compiler = compiler();
    if !write && committed.lines().next() != Some(&compiler) {
        return eprintln!("not compared: {compiler} counts otherwise than {:?}", committed.lines().next());
    }
    let counted = count().await;
    let lines: Vec<String> = counted.iter().map(|(path, count)| format!("{path} {count}\n")).collect();
    if write {
        return std::fs::write(FILE, format!("{compiler}\n{}", lines.concat())).unwrap();
    }
    let known: BTreeMap<&str, u64> = committed
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(' '))
        .map(|(path, count)| (path, count.parse().unwrap()))
        .collect();
    let moved: Vec<String> = counted
        .iter()
        .filter(|(path, count)| count.abs_diff(known[**path]) * 100 > known[**path] * TOLERANCE)
        .map(|(path, count)| format!("{path}: {count} instructions a request, {} committed", known[*path]))
        .collect();
    assert!(
        moved.is_empty(),
        "{}\nIf that is meant, COST=write cargo test --test suite -- cost writes {FILE}; say why in the commit.",
        moved.join("\n")
    );
}

/// One process of ours, all paths.
async fn count() -> BTreeMap<&'static str, u64> {
    let dir = tempfile::tempdir().unwrap();
    let (provider, service) = behind();
    let ports = Ports { public: free_port(), admin: free_port() };
    let store = format!("sqlite:{}", dir.path().join("sessions.db").display());
    conf::write(dir.path(), ports, &store, provider.issuer(), service);
    let cookies = logins::make(dir.path(), &provider, 4).await;
    let token = format!("Authorization: Bearer {}", provider.access_token("machine"));
    let kept = each("/api/v1/proxy/old/kept", &cookies[..1]);
    let paths = [
        ("public", vec![get("/public/x", &[])]),
        ("browser", vec![get("/public/x", &BROWSER)]),
        ("session", each("/api/x", &cookies)),
        ("bearer", vec![get("/machine/x", &[&token])]),
        ("verify", each("/auth/verify", &cookies)),
        ("cache-hit", kept),
    ];
    // The client blocks, and a hundred of these are slow: not on a worker that others wait for.
    let measure = move || count_each(dir.path(), ports.public, &paths);
    tokio::task::spawn_blocking(measure).await.unwrap()
}

fn count_each(dir: &Path, port: u16, paths: &[(&'static str, Vec<String>)]) -> BTreeMap<&'static str, u64> {
    let at = |name: &str| dir.join(name).display().to_string();
    let (conf, routes) = (at("conf"), at("routes"));
    let command = [env!("CARGO_BIN_EXE_pingora-bff"), "run", "--conf", &conf, "--routes", &routes];
    let mut counted = Counted::start(&command, port, dir, "cost");
    paths.iter().map(|(path, requests)| (*path, counted.per_request(path, requests, 24, 40))).collect()
}

/// As it calls itself: the one that has built the program.
fn compiler() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("--version").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
