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
