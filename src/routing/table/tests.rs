//! The table by example, and against a reading of the rule that is too slow to be wrong.

use proptest::prelude::*;

use super::*;
use crate::config::{AuthMode, Place};
use crate::routing::Methods;

fn config(number: usize, path: &str, methods: &[Method]) -> RouteConfig {
    RouteConfig {
        id: format!("r{number}"),
        path: path.into(),
        target_service: "service".into(),
        upstream_path: None,
        preserve_path: false,
        methods: methods.to_vec(),
        auth: AuthMode::Session,
        streaming: false,
        websocket: false,
        max_body_size: None,
        token_policy: None,
        rate_limit: None,
        written_at: Place { file: "routes/api.yaml".into(), line: number, column: 5 },
    }
}

fn table(routes: &[(&str, &[Method])]) -> RouteTable {
    let routes: Vec<_> = routes.iter().enumerate().map(|(n, (path, methods))| config(n, path, methods)).collect();
    RouteTable::build(&routes).unwrap()
}

fn canonical(path: &str) -> CanonicalPath {
    CanonicalPath::parse(path.as_bytes()).unwrap()
}

/// `r3`, `405 GET,HEAD` or `404`.
fn find(table: &RouteTable, method: &Method, path: &str) -> String {
    match table.find(method, &canonical(path)) {
        Lookup::Found(route) => route.id.to_string(),
        Lookup::MethodNotAllowed { allow } => format!("405 {}", Methods::new(&allow)),
        Lookup::NotFound => "404".into(),
    }
}

#[test]
fn the_most_specific_route_wins() {
    let table = table(&[
        ("*", &[Method::GET]),
        ("/api/*", &[]),
        ("/api/{name}", &[]),
        ("/api/v1/*", &[]),
        ("/api/v1/users", &[]),
        ("/api/v1/{kind}/all", &[]),
    ]);
    for (path, route) in [
        ("/api/v1/users", "r4"),
        ("/api/v1/users/", "r3"),
        ("/api/v1/", "r3"),
        ("/api/v1", "r1"),
        ("/api/v1/x/all", "r3"),
        ("/api/", "r1"),
        ("/api", "r0"),
        ("/", "r0"),
    ] {
        assert_eq!(find(&table, &Method::GET, path), route, "{path}");
    }
    assert_eq!(find(&table, &Method::POST, "/api"), "405 GET,HEAD");
    let order: Vec<_> = table.in_order().iter().map(|route| route.id.to_string()).collect();
    assert_eq!(order, ["r4", "r3", "r5", "r1", "r2", "r0"]);
    let matching: Vec<_> = table.matching(&canonical("/api/v1/users")).iter().map(|r| r.id.to_string()).collect();
    assert_eq!(matching, ["r4", "r3", "r1", "r0"]);
}

#[test]
fn a_method_falls_through_to_a_less_specific_route() {
    let table =
        table(&[("/a/b", &[Method::POST]), ("/a/*", &[Method::GET, Method::PUT]), ("/{x}/b", &[Method::DELETE])]);
    assert_eq!(find(&table, &Method::POST, "/a/b"), "r0");
    assert_eq!(find(&table, &Method::HEAD, "/a/b"), "r1");
    assert_eq!(find(&table, &Method::DELETE, "/a/b"), "r2");
    assert_eq!(find(&table, &Method::OPTIONS, "/a/b"), "405 DELETE,GET,HEAD,POST,PUT");
    assert_eq!(find(&table, &Method::GET, "/b/b"), "405 DELETE");
}

#[test]
fn an_escape_does_not_slip_past_a_literal() {
    let table = table(&[("*", &[]), ("/@me/caf%C3%A9", &[]), ("/%40you/{x}", &[])]);
    for (path, route) in [("/@me/caf%c3%a9", "r1"), ("/%40me/caf%C3%A9", "r1"), ("/@you/1", "r2"), ("/@yo/1", "r0")] {
        assert_eq!(find(&table, &Method::GET, path), route, "{path}");
    }
}

#[test]
fn captures_are_as_sent() {
    let table = table(&[("/t/{tenant}/*", &[])]);
    let path = canonical("/t/a%20b/c/%40d/");
    let Lookup::Found(route) = table.find(&Method::GET, &path) else { panic!("not found") };
    let captured = |name| route.pattern().capture(name).and_then(|capture| capture.of(&path));
    assert_eq!([captured("tenant"), captured("path"), captured("other")], [Some("a%20b"), Some("c/%40d/"), None]);
    assert_eq!(route.upstream_path(&path), "/t/a%20b/c/%40d/");
}

#[test]
fn every_bad_route_is_reported() {
    let mut bad = config(7, "/a", &[]);
    bad.upstream_path = Some("/b/{path}".into());
    let errors = RouteTable::build(&[config(3, "/a*", &[]), config(4, "/ok", &[]), bad]).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "routes/api.yaml:3:5: route `r3`: path `/a*`: `*` is allowed only as the whole last segment\n\
         routes/api.yaml:7:5: route `r7`: upstream_path `/b/{path}`: `{path}` is not captured by the route's `path`\n"
    );
}

/// The rule, literally: does this pattern match, segment by segment?
fn matches(pattern: &str, path: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let pattern: Vec<_> = pattern.split('/').collect();
    let path: Vec<_> = path.split('/').collect();
    let fits = |(want, have): (&&str, &&str)| want == have || (want.starts_with('{') && !have.is_empty());
    match pattern.split_last() {
        Some((&"*", start)) => path.len() > start.len() && start.iter().zip(&path).all(fits),
        _ => pattern.len() == path.len() && pattern.iter().zip(&path).all(fits),
    }
}

fn reference(routes: &[(String, Vec<Method>)], method: &Method, path: &str) -> String {
    let takes = |methods: &[Method]| {
        methods.is_empty() || methods.contains(method) || (method == Method::HEAD && methods.contains(&Method::GET))
    };
    let matching: Vec<_> = routes.iter().enumerate().filter(|(_, (pattern, _))| matches(pattern, path)).collect();
    let rank = |pattern: &str, number: usize| match pattern.find(['{', '*']) {
        None => (0, 0, number),
        Some(literal) => (1, usize::MAX - literal, number),
    };
    let taking = matching.iter().filter(|(_, (_, methods))| takes(methods));
    if let Some((number, _)) = taking.min_by_key(|(number, (pattern, _))| rank(pattern, *number)) {
        return format!("r{number}");
    }
    let mut allow: Vec<&str> = matching.iter().flat_map(|(_, (_, methods))| methods).map(Method::as_str).collect();
    if allow.contains(&"GET") {
        allow.push("HEAD");
    }
    allow.sort_unstable();
    allow.dedup();
    if allow.is_empty() { "404".into() } else { format!("405 {}", allow.join(",")) }
}

/// Also two that share a bit in the index.
fn every_method() -> Vec<Method> {
    ["GET", "HEAD", "POST", "PURGE", "BREW"].map(|name| name.parse().unwrap()).into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn finds_what_the_rule_says(
        routes in prop::collection::vec(("(/(a|b|ab|\\{x\\})){0,3}(/\\*|/)?|\\*", prop::sample::subsequence(every_method(), 0..4)), 1..12),
        path in "(/(a|b|ab)){0,4}/?",
        method in prop::sample::select(every_method()),
    ) {
        // Names within a pattern must differ; the empty pattern is `/`.
        let mut routes = routes;
        for (pattern, _) in &mut routes {
            let mut number = 0;
            while pattern.contains("{x}") {
                *pattern = pattern.replacen("{x}", &format!("{{p{number}}}"), 1);
                number += 1;
            }
            if pattern.is_empty() {
                pattern.push('/');
            }
        }
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let list: Vec<(&str, &[Method])> = routes.iter().map(|(p, m)| (p.as_str(), m.as_slice())).collect();
        prop_assert_eq!(find(&table(&list), &method, &path), reference(&routes, &method, &path));
    }
}
