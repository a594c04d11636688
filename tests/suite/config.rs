//! What `check` says about configurations: the shipped one is clean, and each wrong one of
//! `tests/fixtures/config/` gets the answer in its snapshot.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing helper fails the test that called it")]

use std::fs;
use std::path::{Path, PathBuf};

use pingora_bff::cli::check::check;
use pingora_bff::config::Config;
use proptest::prelude::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The good base, with the fixture's files over it; `remove` lists files to take away, `env` holds variables.
fn check_fixture(name: &str) -> (u8, String) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    copy(&fixtures().join("_base"), root);
    copy(&fixtures().join(name), root);
    for file in fs::read_to_string(root.join("remove")).unwrap_or_default().lines() {
        fs::remove_file(root.join(file)).unwrap();
    }
    let variables = fs::read_to_string(root.join("env")).unwrap_or_default();
    let env = |name: &str| {
        let mut pairs = variables.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let (code, text) = check(&root.join("conf"), &root.join("routes"), &env);
    (code, text.replace(&format!("{}/", root.display()), ""))
}

#[test]
fn the_base_of_the_fixtures_is_clean() {
    let text = "configuration is clean: 1 route, 1 service, 1 identity provider\n";
    assert_eq!(check_fixture("_base"), (0, text.to_owned()));
}

#[test]
fn a_warning_is_printed_and_lets_the_program_start() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("_base"), folder.path());
    fs::write(folder.path().join("conf/settings.yaml"), "session: { store: 'memory:' }\n").unwrap();
    let (code, text) = check(&folder.path().join("conf"), &folder.path().join("routes"), &|_| None);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("warning: no audience is mapped for `analytics_service`"), "{text}");
    assert!(text.contains("\n0 errors, 1 warning\nconfiguration is clean: 1 route, "), "{text}");
}

#[test]
fn every_wrong_configuration_is_explained() {
    let mut names: Vec<String> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "_base")
        .collect();
    names.sort();
    assert!(names.len() >= 25);
    for name in names {
        let (code, text) = check_fixture(&name);
        assert_eq!(code, 2, "{name}:\n{text}");
        for secret in ["do-not-print", "hunter2", "a-secret-nobody-may-see"] {
            assert!(!text.contains(secret), "{name} prints a secret:\n{text}");
        }
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn the_shipped_configuration_is_clean_without_any_environment() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (code, text) = check(&root.join("conf"), &root.join("routes"), &|_| None);
    insta::assert_snapshot!("shipped", text);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn what_the_shipped_files_say_is_the_default_or_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = Config::load(&root.join("conf"), &root.join("routes"), &|_| None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    copy(&root.join("conf"), &folder.path().join("conf"));
    fs::write(folder.path().join("conf/settings.yaml"), "auth: { idp: main }\n").unwrap();
    fs::remove_file(folder.path().join("conf/legacy_services.yaml")).unwrap();
    let bare = Config::load(&folder.path().join("conf"), &root.join("routes"), &|_| None).unwrap();
    let without_examples = |mut config: Config| {
        config.conf_dir = PathBuf::new();
        config.settings.service_audiences.clear();
        // They follow from those.
        config.idps.iter_mut().for_each(|idp| idp.trusted_audiences.clear());
        config.settings.service_scopes.clear();
        config.legacy.services.clear();
        format!("{config:#?}")
    };
    assert_eq!(without_examples(shipped), without_examples(bare));
}

#[test]
fn environment_variables_override_listed_legacy_services_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let env = |name: &str| match name {
        "LEGACY_SERVICE_RES_ADMIN_URL" => Some("http://elsewhere:1/x".to_owned()),
        "LEGACY_SERVICE_RES_ADMIN_TIMEOUT" => Some("1500ms".to_owned()),
        "LEGACY_SERVICE_OTHER_URL" => Some("http://other".to_owned()),
        _ => None,
    };
    let config = Config::load(&root.join("conf"), &root.join("routes"), &env).unwrap();
    let names: Vec<&String> = config.legacy.services.keys().collect();
    assert_eq!(names, ["res-admin"]);
    let service = &config.legacy.services["res-admin"];
    assert_eq!(service.base_url.as_str(), "http://elsewhere:1/x");
    assert_eq!(service.timeout.as_millis(), 1500);
}

#[test]
fn a_name_with_a_dot_has_a_variable_that_a_shell_can_set() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("_base"), folder.path());
    let file = folder.path().join("conf/legacy_services.yaml");
    fs::write(file, "legacy_services: { crm-v1.2: 'http://crm' }\n").unwrap();
    let env = |name: &str| (name == "LEGACY_SERVICE_CRM_V1_2_URL").then(|| "http://elsewhere/".to_owned());
    let config = Config::load(&folder.path().join("conf"), &folder.path().join("routes"), &env).unwrap();
    assert_eq!(config.legacy.services["crm-v1.2"].base_url.as_str(), "http://elsewhere/");
}

#[test]
fn what_is_counted_in_seconds_is_at_least_one() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("_base"), folder.path());
    let (conf, routes) = (folder.path().join("conf"), folder.path().join("routes"));
    let policy = "    token_policy: { mode: service_token, cache_ttl: 1ms }\n";
    let file = routes.join("api.yaml");
    fs::write(&file, fs::read_to_string(&file).unwrap() + policy).unwrap();
    for (written, read) in [("0.2", 1), ("999ms", 1), ("0", 0), ("1500ms", 1)] {
        let settings =
            format!("session: {{ store: 'memory:', grace_seconds: {written} }}\ntoken_refresh_threshold: {written}\n");
        fs::write(conf.join("settings.yaml"), settings).unwrap();
        let config = Config::load(&conf, &routes, &|_| None).unwrap();
        let settings = config.settings;
        assert_eq!((settings.session.grace.as_secs(), settings.token_refresh_threshold.as_secs()), (read, read));
        let ttl = config.routes[0].token_policy.as_ref().unwrap().cache_ttl;
        assert_eq!(ttl.unwrap().as_secs(), 1);
    }
}

/// What `check` says with `content` as `conf/FILE`.
pub(crate) fn check_with(file: &str, content: &str) -> (u8, String) {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("_base"), folder.path());
    fs::write(folder.path().join("conf").join(file), content).unwrap();
    check(&folder.path().join("conf"), &folder.path().join("routes"), &|_| None)
}

#[test]
fn the_shorter_of_two_lifetimes_counts() {
    let settings = |lifetimes: &str| {
        let map = "service_audiences: { analytics_service: https://analytics.example.com }";
        check_with("settings.yaml", &format!("{map}\nsession: {{ store: 'memory:', {lifetimes} }}\n"))
    };
    let (code, text) = settings("max_lifetime_seconds: 600");
    assert_eq!((code, text.contains("warning")), (0, false), "the default of the other is nobody's mistake: {text}");
    for lifetimes in ["lifetime_seconds: 2h, max_lifetime_seconds: 1h", "lifetime_seconds: 24h"] {
        let (code, text) = settings(lifetimes);
        assert_eq!(code, 0, "{text}");
        assert!(text.starts_with("warning: `lifetime_seconds` is longer than `max_lifetime_seconds`"), "{text}");
    }
}

#[test]
fn tls_beside_a_public_url_of_plain_http_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = format!("tls: {{ cert: {}, key: {} }}", cert.display(), key.display());
    let (code, text) = check_with(
        "settings.yaml",
        &format!(
            "server: {{ public_url: 'http://localhost:8080', {tls} }}\nsession: {{ store: 'memory:' }}\n\
             service_audiences: {{ analytics_service: https://analytics.example.com }}\n"
        ),
    );
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("warning: `public_url` is http although `server.tls` is set"), "{text}");
}

/// A certificate and its key in `folder`, under this name.
fn certified(folder: &Path, name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let [cert, key] = ["crt", "key"].map(|kind| folder.join(name).with_extension(kind));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert.display().to_string(), key.display().to_string())
}

#[test]
fn a_key_of_another_certificate_and_broken_files_are_refused_where_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path();
    let ((cert, key), (_, other)) = (certified(files, "one"), certified(files, "two"));
    let broken = files.join("broken.crt").display().to_string();
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let server = |cert: &str, key: &str| {
        let server = format!("server: {{ public_url: 'https://a.example', tls: {{ cert: {cert}, key: {key} }} }}");
        check_with("settings.yaml", &format!("{server}\nsession: {{ store: 'memory:' }}\n"))
    };
    let redis = |more: &str| {
        let secret = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        let store = format!("session: {{ store: 'rediss://r', secret: {secret}, redis: {{ {more} }} }}\n");
        check_with("settings.yaml", &store)
    };
    let service = |more: &str| {
        let service = format!("services:\n  analytics_service: {{ base_url: 'https://a:1', tls: {{ {more} }} }}\n");
        check_with("../routes/api.yaml", &service)
    };
    for (code, text) in [
        server(&cert, &key),
        service(&format!("ca: {cert}, client_cert: {cert}, client_key: {key}")),
        redis(&format!("ca: {cert}, client_cert: {cert}, client_key: {key}")),
    ] {
        assert_eq!(code, 0, "{text}");
    }
    let pair = format!("client_cert: {cert}, client_key: {other}");
    for ((code, text), file, at, why) in [
        (server(&cert, &other), "settings.yaml:1:", &other, "is not the key of"),
        (server(&broken, &key), "settings.yaml:1:", &broken, "cannot be read"),
        (service(&pair), "api.yaml:2:", &other, "is not the key of"),
        (service(&format!("ca: {broken}")), "api.yaml:2:", &broken, "cannot be read"),
        (redis(&pair), "settings.yaml:1:", &other, "is not the key of"),
        (redis(&format!("ca: {broken}")), "settings.yaml:1:", &broken, "cannot be read"),
    ] {
        assert_eq!(code, 2, "{text}");
        let error = format!("error: `{at}` cannot be used: it ");
        assert!(text.contains(&error) && text.contains(why) && text.contains(file), "{text}");
    }
    for half in [&format!("client_cert: {cert}"), &format!("client_cert: {cert}, client_key:")] {
        for (_, text) in [service(half), redis(half)] {
            assert!(text.contains("the key `client_key` is missing beside this one\n"), "{text}");
        }
    }
    let wrong = format!("client_cert: {broken}, client_key: {key}");
    for (_, text) in [service(&wrong), redis(&wrong)] {
        assert!(text.contains("\n1 error, "), "a wrong one is not a missing one:\n{text}");
    }
}

#[test]
fn a_store_that_other_programs_would_read_otherwise_is_refused() {
    for (store, instead) in [
        ("sqlite::memory:", "write `memory:`"),
        ("sqlite://data/x.db", "write `sqlite:data/x.db` or `sqlite:/data/x.db`"),
    ] {
        let (code, text) = check_with("settings.yaml", &format!("session: {{ store: '{store}' }}\n"));
        assert_eq!(code, 2, "{store}");
        assert!(text.contains("is not the path of a file") && text.contains(instead), "{text}");
    }
    let (code, text) = check_with("settings.yaml", "session: { store: 'sqlite:///var/lib/x.db' }\n");
    assert_eq!(code, 0, "{text}");
}

#[test]
fn who_somebody_is_cannot_be_mapped() {
    let idp = "name: main, issuer: https://login.example.com, client_id: bff, client_secret: x";
    let with = |mapping: &str| check_with("idps.yaml", &format!("idps: [{{ {idp}, claims_mapping: {mapping} }}]\n"));
    let (code, text) = with("{ sub: oid, email: upn }");
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("warning: `sub` cannot be mapped"), "{text}");
    assert!(!with("{ sub: sub, id: oid }").1.contains("warning"));
}

#[test]
fn a_host_to_return_to_is_taken_as_addresses_write_it() {
    for (public_url, hosts) in [
        ("https://edge.example.com", ["app.example.com", "app.example.com:8443", "xn--bcher-kva.example", "app:80"]),
        ("http://localhost:8080", ["app.example.com", "app.example.com:8443", "xn--bcher-kva.example", "app"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        copy(&fixtures().join("_base"), folder.path());
        let written =
            "[App.example.com:443, 'app.example.com:8443', 'b\u{fc}cher.example', 'app:80', '[2001:DB8::0:1]']";
        let settings = format!(
            "server: {{ public_url: '{public_url}' }}\nsession: {{ store: 'memory:' }}\n\
             auth: {{ allowed_redirect_hosts: {written} }}\n"
        );
        fs::write(folder.path().join("conf/settings.yaml"), settings).unwrap();
        let config = Config::load(&folder.path().join("conf"), &folder.path().join("routes"), &|_| None).unwrap();
        let (last, others) = config.settings.auth.allowed_redirect_hosts.split_last().unwrap();
        assert_eq!((others, last.as_str()), (hosts.map(str::to_owned).as_slice(), "[2001:db8::1]"));
    }
}

#[test]
fn a_secret_that_cannot_be_had_is_not_missing_as_well() {
    let idp = "name: main, issuer: https://login.example.com, client_id: bff";
    for (secret, why) in [("${NOT_THERE}", "`NOT_THERE` is not set"), ("file:/not/there", "No such file")] {
        let (code, text) = check_with("idps.yaml", &format!("idps: [{{ {idp}, client_secret: \"{secret}\" }}]\n"));
        assert_eq!(code, 2);
        assert!(text.contains(why) && text.contains("\n1 error, "), "{text}");
    }
}

#[test]
fn a_variable_can_be_a_number_and_a_secret_a_file() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("_base"), folder.path());
    let key = folder.path().join("key");
    fs::write(&key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n").unwrap();
    let settings = "server: { threads: \"${THREADS}\" }\nsession: { store: 'memory:', secret: \"file:${KEY}\" }\n";
    fs::write(folder.path().join("conf/settings.yaml"), settings).unwrap();
    let env = |name: &str| match name {
        "THREADS" => Some("3".to_owned()),
        "KEY" => Some(key.to_str().unwrap().to_owned()),
        _ => None,
    };
    let config = Config::load(&folder.path().join("conf"), &folder.path().join("routes"), &env).unwrap();
    assert_eq!(config.settings.server.threads, 3);
    assert_eq!(config.settings.session.secrets[0].expose(), "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    assert!(!format!("{config:?}").contains("MDEy"));
}

/// Loads with `content` in the place of one of the four files.
fn load_with(file: usize, content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join("_base"), folder.path());
    let files = ["conf/settings.yaml", "conf/idps.yaml", "conf/legacy_services.yaml", "routes/api.yaml"];
    fs::write(folder.path().join(files[file]), content).unwrap();
    let found = Config::load(&folder.path().join("conf"), &folder.path().join("routes"), &|_| None);
    found.map_or_else(|findings| findings.to_string(), |config| format!("{config:?}"))
}

#[test]
fn what_is_no_text_is_pointed_at_and_covers_its_secrets() {
    let text = load_with(0, b"auth: { idp: main }\nempowerid_api_key: a-secret-nobody-may-see\xff\n");
    assert!(text.contains("error: this file is not UTF-8 text") && text.contains("conf/settings.yaml:2:43"), "{text}");
    assert!(!text.contains("nobody-may-see"), "{text}");
}

#[test]
fn a_link_that_leads_nowhere_is_not_the_absence_of_a_file() {
    for to in ["/no/such/file", "legacy_services.yaml"] {
        let folder = tempfile::tempdir().unwrap();
        copy(&fixtures().join("_base"), folder.path());
        let link = folder.path().join("conf/legacy_services.yaml");
        std::os::unix::fs::symlink(to, link).unwrap();
        let (code, text) = check(&folder.path().join("conf"), &folder.path().join("routes"), &|_| None);
        assert!(code == 2 && text.contains("conf/legacy_services.yaml"), "{to}: {text}");
    }
}

/// Texts that look enough like the real files to get past the first reader.
fn mangled() -> impl Strategy<Value = String> {
    let shipped = ["conf/settings.yaml", "conf/idps.yaml", "conf/legacy_services.yaml", "routes/api.yaml"]
        .map(|file| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap());
    let pieces = ["{", "}", "[", "]", "${", "&a ", "*a", "\t", "\"", "é", "\u{0}", "- ", ": ", "!t ", "~", "|", "\r\n"];
    (
        prop::sample::select(shipped.to_vec()),
        prop::collection::vec((0usize..8000, 0usize..pieces.len(), 0usize..20), 1..6),
    )
        .prop_map(move |(text, edits)| {
            let mut letters: Vec<char> = text.chars().collect();
            for (at, piece, cut) in edits {
                let at = at.min(letters.len());
                let end = (at + cut).min(letters.len());
                letters.splice(at..end, pieces[piece].chars());
            }
            letters.into_iter().collect()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(file in 0usize..4, content in prop::collection::vec(any::<u8>(), 0..400)) {
        load_with(file, &content);
    }

    #[test]
    fn mangled_files_never_panic_nor_print_the_secret_of_another_file(file in 0usize..4, content in mangled()) {
        let text = load_with(file, content.as_bytes());
        prop_assert!(!text.contains("nobody-may-see"));
    }
}
