//! What the documents say is there: every refusal, every metric, every subcommand, every test of an advisory.

use std::fs;
use std::path::Path;
use std::process::Command;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The quoted words of `text` that look like a name: `no_route`, `http_requests_total`.
fn quoted_names(text: &str) -> Vec<&str> {
    let plain = |word: &&str| word.contains('_') && word.bytes().all(|one| one.is_ascii_lowercase() || one == b'_');
    text.split('"').skip(1).step_by(2).filter(plain).collect()
}

#[test]
fn the_readme_says_what_to_do_about_every_refusal() {
    let (source, readme) = (read("src/reply/problem.rs"), read("README.md"));
    let face = source.split("pub fn face").nth(1).unwrap().split("fn retry_after").next().unwrap();
    let codes = quoted_names(face);
    assert!(codes.len() > 10, "the table of refusals was not found");
    let missing: Vec<&str> = codes.into_iter().filter(|code| !readme.contains(&format!("`{code}` |"))).collect();
    assert!(missing.is_empty(), "no line in the README's table: {missing:?}");
}

#[test]
fn the_readme_names_every_metric() {
    let (source, readme) = (read("src/telemetry/metrics.rs"), read("README.md"));
    let list = source.split("\nmetrics! {").nth(1).unwrap().split("\n}").next().unwrap();
    let names: Vec<&str> = list.lines().filter_map(|line| line.split('"').nth(1)).collect();
    assert!(names.len() > 20, "the metrics were not found");
    let missing: Vec<&str> = names.into_iter().filter(|name| !readme.contains(name)).collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
}

/// What is shown of `routes` and `explain` is what they print of the shipped configuration.
#[test]
fn the_readme_shows_what_the_program_prints() {
    let readme = read("README.md");
    for shown in ["routes", "explain GET /api/v1/analytics/x"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pingora-bff"));
        command.args(shown.split(' ')).current_dir(env!("CARGO_MANIFEST_DIR"));
        for default in ["BFF_LISTEN", "BFF_PUBLIC_URL", "ANALYTICS_URL", "CRUD_URL"] {
            command.env_remove(default);
        }
        let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let sample = format!("```\n$ pingora-bff {shown}\n{printed}```\n");
        assert!(readme.contains(&sample), "the README should show:\n{sample}");
    }
}

/// What is shown of `check` is what it prints of the shipped configuration with three slips.
#[test]
fn the_readme_shows_what_check_finds() {
    let folder = tempfile::tempdir().unwrap();
    let slips = [
        ("conf/settings.yaml", "  listen:", "  lisen:"),
        ("conf/settings.yaml", "shutdown_grace: 30", "shutdown_grace: soon"),
        ("routes/api.yaml", "order}\"\n    target_service: crud_service", "order}\"\n    target_service: crud_servce"),
    ];
    for file in
        ["conf/settings.yaml", "conf/idps.yaml", "conf/legacy_services.yaml", "routes/api.yaml", "routes/pages.yaml"]
    {
        let of_this_file = slips.iter().filter(|(place, ..)| *place == file);
        let text = of_this_file.fold(read(file), |text, (_, right, wrong)| {
            assert!(text.contains(right), "{file}: {right}");
            text.replacen(right, wrong, 1)
        });
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_pingora-bff"));
    let output = command.arg("check").current_dir(folder.path()).env_clear().output().unwrap();
    let sample = format!("```\n$ pingora-bff check\n{}```\n", String::from_utf8(output.stdout).unwrap());
    assert!(read("README.md").contains(&sample), "the README should show:\n{sample}");
}

/// What a link to this heading is called.
fn anchor_of(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words.chars().filter(|one| one.is_alphanumeric() || " -_".contains(*one)).collect::<String>().replace(' ', "-")
}

#[test]
fn every_file_that_a_document_points_at_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md"] {
        let text = read(document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let there = match target.strip_prefix('#') {
                Some(anchor) => text.lines().filter(|line| line.starts_with('#')).any(|line| anchor_of(line) == anchor),
                None => target.starts_with("https://") || root.join(target).exists(),
            };
            assert!(there, "{document}: {target}");
        }
    }
    let text = read("ARCHITECTURE.md");
    // Rooms are named below `src/`, other places from the root.
    let paths = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains('/') && Path::new(word).extension().is_some_and(|one| one == "rs"));
    for path in paths {
        let found = ["", "src/", "src/proxy/"].iter().any(|below| root.join(below).join(path).exists());
        assert!(found, "ARCHITECTURE.md: {path}");
    }
}

/// Every source of the program and of its tests.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("fuzz") {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_security_table_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for folder in ["src", "tests"] {
        sources(&root.join(folder), &mut code);
    }
    let security = read("SECURITY.md");
    let table = security.split("## Advisories of our peers").nth(1).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ") && line.contains('`')).collect();
    assert!(rows.len() > 60, "{} rows", rows.len());
    for row in rows {
        let tests = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2);
        let named: Vec<&str> = tests.collect();
        assert!(!named.is_empty(), "no test: {row}");
        for test in named {
            assert!(code.contains(&format!("fn {test}()")), "there is no test {test}");
        }
    }
    // And the other way round: what was written for an advisory is in the table.
    for test in code.split("async fn ").skip(1).filter_map(|rest| rest.split('(').next()) {
        let of_an_advisory = ["cve_", "ghsa_", "rustsec_"].iter().any(|start| test.starts_with(start));
        assert!(!of_an_advisory || table.contains(&format!("`{test}`")), "SECURITY.md does not name {test}");
    }
}
