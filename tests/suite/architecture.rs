//! The shape of the house, read from the sources: which room may name which, how long a file may be.
//! See `ARCHITECTURE.md`. (Functions of at most 60 lines are clippy's to count.)

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Floors from the ground up; a room names rooms of lower floors, and of its own in one direction only.
const FLOORS: [&[&str]; 7] = [
    &["crypto", "path", "pem", "list_fields"],
    &["config", "resilience", "telemetry"],
    &["session", "oidc"],
    &["endpoints", "legacy", "upstream", "routing", "token", "reply"],
    &["proxy"],
    &["app"],
    &["cli", "main", "demo", "fuzzing", "lib"],
];

struct Source {
    /// Below `src/`.
    path: String,
    text: String,
}

impl Source {
    /// The first part of the path: `session`, `main`, …
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The lines that run: without comments, and without the tests at the end.
    fn code(&self) -> String {
        let program = self.text.split("#[cfg(test)]\nmod ").next().unwrap();
        let lines = program.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Rooms named as `crate::room` or in `crate::{room, …}`.
    fn names(&self) -> BTreeSet<String> {
        let code = self.code();
        let mut rooms = BTreeSet::new();
        for after in code.split("crate::").skip(1).chain(code.split("pingora_bff::").skip(1)) {
            match after.strip_prefix('{') {
                None => rooms.insert(word(after)),
                Some(group) => {
                    rooms.extend(top_level(group));
                    true
                }
            };
        }
        rooms.remove(self.room());
        rooms
    }
}

fn word(text: &str) -> String {
    text.trim_start().chars().take_while(|one| one.is_alphanumeric() || *one == '_').collect()
}

/// The first words of `a::b, c::{d, e}, f}`.
fn top_level(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut words) = (0, 0, Vec::new());
    for (at, one) in group.char_indices() {
        match one {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                words.push(word(&group[start..at]));
                start = at + 1;
                if one == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    assert!(found.len() > 10, "the sources are where this test looks");
    let below = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    found.iter().map(|path| Source { path: below(path), text: std::fs::read_to_string(path).unwrap() }).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    let mut beside: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        let Some(own) = floor(source.room()) else {
            wrong.push(format!("src/{}: the room {} is on no floor", source.path, source.room()));
            continue;
        };
        // The roof is free: it composes, and nothing may name it.
        if source.room() == "lib" {
            continue;
        }
        for room in source.names() {
            match floor(&room) {
                Some(other) if other > own => {
                    wrong.push(format!("src/{}: {} names {room}", source.path, source.room()));
                }
                Some(other) if other == own => {
                    beside.entry(source.room().to_owned()).or_default().insert(room);
                }
                _ => {}
            }
        }
    }
    for (room, others) in &beside {
        for other in others.iter().filter(|other| reaches(&beside, other, room)) {
            wrong.push(format!("{room} and {other} name each other: a circle"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a walk along the arrows leads from one room to the other.
fn reaches(arrows: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(room) = next.pop() {
        if room == to {
            return true;
        }
        if seen.insert(room) {
            next.extend(arrows.get(room).into_iter().flatten().map(String::as_str));
        }
    }
    false
}

/// Files whose code contains one of the words although none of the places allows it.
fn outside(words: &[&str], places: &[&str]) -> Vec<String> {
    let stranger = |source: &Source| {
        let code = source.code().replace("pingora_bff::", "");
        words.iter().any(|word| code.contains(word)) && !places.iter().any(|place| source.path.starts_with(place))
    };
    sources().into_iter().filter(stranger).map(|source| source.path).collect()
}

#[test]
fn the_engine_is_named_in_its_rooms_only() {
    let words = ["pingora::", "pingora_proxy::", "pingora_core::", "pingora_http::", "pingora_cache::"];
    // The log knows it by the name of what is to be silent.
    let rooms = ["proxy/", "upstream/", "legacy/cache", "app/", "telemetry/logging.rs"];
    assert_eq!(outside(&words, &rooms), Vec::<String>::new());
}

#[test]
fn the_http_client_is_named_where_the_provider_is_asked() {
    assert_eq!(outside(&["reqwest::"], &["oidc/"]), Vec::<String>::new());
}

#[test]
fn the_database_is_named_in_its_store_only() {
    assert_eq!(outside(&["rusqlite::"], &["session/store/"]), Vec::<String>::new());
}

#[test]
fn the_shared_store_is_named_in_its_store_only() {
    let client = ["redis::aio", "redis::cmd", "redis::Client", "redis::{", "redis::Value"];
    assert_eq!(outside(&client, &["session/store/"]), Vec::<String>::new());
}

#[test]
fn one_place_reads_the_wall_clock() {
    assert_eq!(
        outside(&["SystemTime::now", "UNIX_EPOCH.elapsed"], &["resilience/clock.rs", "demo/"]),
        Vec::<String>::new()
    );
}

#[test]
fn every_file_says_what_it_is_for_and_can_be_held_in_mind() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let most = if source.path == "proxy/pipeline.rs" { 200 } else { 400 };
        if lines > most {
            wrong.push(format!("src/{}: {lines} lines, {most} at most", source.path));
        }
        if !source.text.starts_with("//!") {
            wrong.push(format!("src/{}: does not begin with //!", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_reads_groups() {
    let text =
        "//! x\nuse crate::{config::Secret, oidc::{A, B}, token};\nfn f() { crate::reply::g() }\n// crate::cli\n";
    let source = Source { path: "session/x.rs".into(), text: text.into() };
    assert_eq!(source.names().into_iter().collect::<Vec<_>>(), ["config", "oidc", "reply", "token"]);
}
