//! What `check` lets pass and has a word about: it works, and hardly as it was meant.

use crate::config::check_with;

const SERVICES: &str = "services: { analytics_service: { base_url: 'http://analytics:8100' } }\n";

/// The only warning says this.
fn assert_warns((code, text): (u8, String), words: &[&str]) {
    assert_eq!((code, text.matches("warning: ").count()), (0, 1), "{text}");
    for word in words {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
}

fn assert_clean((code, text): (u8, String)) {
    assert!(code == 0 && !text.contains("warning"), "{text}");
}

/// One error that says this, and no warning.
fn assert_one_error((code, text): (u8, String), words: &str) {
    let found = ["error: ", "warning: "].map(|kind| text.matches(kind).count());
    assert_eq!((code, found), (2, [1, 0]), "{text}");
    assert!(text.contains(words), "{words} is missing:\n{text}");
}

#[test]
fn two_legacy_services_of_one_variable() {
    let named = |names: &str| check_with("legacy_services.yaml", &format!("legacy_services: {{ {names} }}\n"));
    let words = ["legacy_services.yaml:1:39", "`a-b` and `A.b` are overridden", "LEGACY_SERVICE_A_B_URL moves both"];
    assert_warns(named("a-b: 'http://one', A.b: 'http://two', c: 'http://x'"), &words);
    assert_clean(named("a-b: 'http://one', ab: 'http://two'"));
}

#[test]
fn a_websocket_route_that_takes_no_handshake() {
    let route = |more: &str| {
        let route = format!("{{ id: a, path: /a, target_service: analytics_service, auth: none, {more} }}");
        check_with("../routes/api.yaml", &format!("{SERVICES}routes: [{route}]\n"))
    };
    assert_warns(route("websocket: true, methods: [POST]"), &["api.yaml:2:", "a handshake is a GET"]);
    assert_clean(route("websocket: true, methods: [POST, GET]"));
    assert_clean(route("websocket: true"));
    assert_clean(route("websocket: false, methods: [POST]"));
}

#[test]
fn https_that_nobody_here_ends_and_nobody_in_front_is_named_for() {
    let server = |written: &str| {
        let map = "service_audiences: { analytics_service: https://analytics.example.com }";
        let server = format!("server: {{ {written} }}\nsession: {{ store: 'memory:' }}\n{map}\n");
        check_with("settings.yaml", &server)
    };
    let words = ["settings.yaml:1:", "in `trusted_proxies`", "X-Forwarded-Proto: http"];
    assert_warns(server("public_url: 'https://a.example'"), &words);
    assert_warns(server("public_url: 'https://a.example', trusted_proxies: []"), &words);
    assert_clean(server("public_url: 'https://a.example', trusted_proxies: 10.0.0.0/8"));
    assert_clean(server("public_url: 'http://localhost:8080'"));
    assert_one_error(server("public_url: 'https://a.example', trusted_proxies: [nonsense]"), "is not a network");
}

#[test]
fn a_misspelt_mode_is_no_missing_one() {
    for auth in ["none", "session"] {
        let policy = "token_policy: { mode: service_tokn, cache_ttl: 5 }";
        let route = format!("{{ id: a, path: /a, target_service: analytics_service, auth: {auth}, {policy} }}");
        let found = check_with("../routes/api.yaml", &format!("{SERVICES}routes: [{route}]\n"));
        assert_one_error(found, "did you mean `service_token`?");
    }
}

#[test]
fn a_redis_of_which_no_store_is_made() {
    let map = "service_audiences: { analytics_service: https://analytics.example.com }";
    let session = |written: &str| check_with("settings.yaml", &format!("session: {{ {written} }}\n{map}\n"));
    let redis = "redis: { key_prefix: 'x:' }";
    let words = ["settings.yaml:1:", "`session.redis` is written although `session.store` is no Redis"];
    assert_warns(session(redis), &words);
    assert_warns(session(&format!("store: 'memory:', {redis}")), &words);
    let (code, text) = session(&format!("store: rediss, {redis}"));
    assert!(code == 2 && !text.contains("warning: "), "the store is wrong, and said to be:\n{text}");
}

const ENTRY: &str = "{ name: main, audience: 'https://bff.example.com', client_id: bff";

#[test]
fn a_variable_as_a_shell_writes_it() {
    let idps = |secret: &str| {
        let issuer = "issuer: 'https://login.example.com'";
        check_with("idps.yaml", &format!("idps: [{ENTRY}, {issuer}, client_secret: '{secret}' }}]\n"))
    };
    assert_warns(idps("$MY_SECRET"), &["idps.yaml:1:", "is not replaced", "a variable is written `${NAME}`", "`$$`"]);
    for taken_as_it_is in ["$$MY_SECRET", "$mine", "$5", "$A-B", "x$A"] {
        assert_clean(idps(taken_as_it_is));
    }
}

#[test]
fn the_address_of_a_discovery_document_is_no_issuer() {
    let issuer = "issuer: 'https://login.example.com/a/.well-known/openid-configuration'";
    let (code, text) = check_with("idps.yaml", &format!("idps: [{ENTRY}, {issuer}, client_secret: x }}]\n"));
    assert!(code == 2 && text.contains("`https://login.example.com/a`"), "{text}");
}

#[test]
fn files_that_nobody_reads() {
    for (name, near) in [
        ("legacy_services.yml", "did you mean `legacy_services.yaml`?"),
        ("legacy-services.yaml", "did you mean `legacy_services.yaml`?"),
        ("routing.yaml", "settings.yaml, idps.yaml, legacy_services.yaml"),
    ] {
        assert_warns(check_with(name, "x: 1\n"), &[&format!("conf/{name}"), "nobody reads this file", near]);
    }
    assert_clean(check_with(".hidden.yaml", "x: 1\n"));
    assert_clean(check_with("notes.txt", "x: 1\n"));
}

#[test]
fn a_certificate_that_is_not_valid_today() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let server = |years: [i32; 2]| {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        [params.not_before, params.not_after] = years.map(|year| rcgen::date_time_ymd(year, 1, 1));
        let pair = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        let files = format!("cert: '{}', key: '{}'", cert.display(), key.display());
        let server = format!("server: {{ public_url: 'https://localhost:8080', tls: {{ {files} }} }}\n");
        let map = "service_audiences: { analytics_service: https://analytics.example.com }";
        check_with("settings.yaml", &format!("{server}session: {{ store: 'memory:' }}\n{map}\n"))
    };
    assert_warns(server([2019, 2020]), &["settings.yaml:1:", "the certificate has expired on Wed, 01 Jan 2020"]);
    assert_warns(server([2199, 2200]), &["the certificate is not valid before Tue, 01 Jan 2199"]);
    assert_clean(server([2019, 2200]));
}

#[test]
fn a_segment_as_other_routers_write_it() {
    let route = |path: &str| {
        let route = format!("{{ id: a, path: '{path}', target_service: analytics_service, auth: none }}");
        check_with("../routes/api.yaml", &format!("{SERVICES}routes: [{route}]\n"))
    };
    assert_warns(route("/users/:user/x"), &["api.yaml:2:", "`:user` is taken to the letter", "`{user}`"]);
    assert_clean(route("/users/{user}/x"));
    assert_clean(route("/users/a:b/:"));
}

#[test]
fn a_timeout_in_milliseconds() {
    let service = |timeout: &str| {
        let service = format!("{{ base_url: 'http://analytics:8100', timeout: {timeout} }}");
        check_with("../routes/api.yaml", &format!("services: {{ analytics_service: {service} }}\nroutes: []\n"))
    };
    assert_warns(service("30000"), &["api.yaml:1:", "8 hours", "a number counts seconds"]);
    assert_clean(service("30000ms"));
    assert_clean(service("2h"));
}

#[test]
fn a_public_port_that_nobody_listens_on() {
    let server = |written: &str| {
        let map = "service_audiences: { analytics_service: https://analytics.example.com }";
        let server = format!("server: {{ public_url: 'http://localhost:3000'{written} }}\n");
        check_with("settings.yaml", &format!("{server}session: {{ store: 'memory:' }}\n{map}\n"))
    };
    assert_warns(server(""), &["settings.yaml:1:", "`public_url` has port 3000", "`trusted_proxies`"]);
    assert_warns(server(", listen: ['127.0.0.1:8080', '127.0.0.1:8081']"), &["port 3000"]);
    assert_clean(server(", listen: ['127.0.0.1:8080', '127.0.0.1:3000']"));
    assert_clean(server(", listen: '127.0.0.1:0'"));
    assert_clean(server(", trusted_proxies: 127.0.0.1"));
}
