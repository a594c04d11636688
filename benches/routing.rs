//! The claim that a look-up costs the same however many routes there are: 10, 1 000 and 10 000 of
//! them, exact, wildcard and placeholder mixed, asked for paths that hit and paths that miss.
//! `cargo bench --bench routing`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::Method;
use pingora_bff::config::{AuthMode, Place, RouteConfig};
use pingora_bff::routing::{CanonicalPath, RouteTable};

/// The route of this number, and a path it answers.
fn write_route(number: usize) -> (RouteConfig, String) {
    let (path, request) = match number % 4 {
        0 => (format!("/api/v1/service{number}/status"), format!("/api/v1/service{number}/status")),
        1 => (format!("/api/v1/service{number}/*"), format!("/api/v1/service{number}/reports/2024/q3")),
        2 => (format!("/api/v1/service{number}/users/{{id}}/roles"), format!("/api/v1/service{number}/users/42/roles")),
        _ => (format!("/t/{{tenant}}/service{number}/*"), format!("/t/acme/service{number}/a/b")),
    };
    let route = RouteConfig {
        id: format!("route-{number}"),
        path,
        target_service: "service".into(),
        upstream_path: None,
        preserve_path: true,
        methods: vec![Method::GET],
        auth: AuthMode::Session,
        streaming: false,
        websocket: false,
        max_body_size: None,
        token_policy: None,
        rate_limit: None,
        written_at: Place { file: "routes/bench.yaml".into(), line: number, column: 1 },
    };
    (route, request)
}

/// As many for every size, so that only the table differs.
const REQUESTS: usize = 1_000;

/// Asks for one path after the other, all over the table: the answer is not still in the nearest cache.
fn measure(criterion: &mut Criterion, name: &str, vary: impl Fn(&str) -> String) {
    let mut group = criterion.benchmark_group(name);
    for count in [10, 1_000, 10_000] {
        let (routes, answered): (Vec<_>, Vec<_>) = (0..count).map(write_route).unzip();
        let Ok(table) = RouteTable::build(&routes) else { continue };
        // 7919 is prime: every kind of route gets its share.
        let asked = (0..REQUESTS).filter_map(|turn| answered.get(turn * 7919 % count));
        let paths: Vec<_> = asked.filter_map(|path| CanonicalPath::parse(vary(path).as_bytes()).ok()).collect();
        let mut turn = paths.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| turn.next().map(|path| black_box(table.find(&Method::GET, black_box(path)))));
        });
    }
    group.finish();
}

fn bench_find(criterion: &mut Criterion) {
    measure(criterion, "hit", str::to_owned);
    measure(criterion, "miss", |path| format!("/no{path}"));
    measure(criterion, "near_miss", |path| path.replace("service", "server"));
}

fn bench_parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("canonical_path");
    for (name, path) in [("plain", "/api/v1/analytics/reports/2024/q3"), ("escaped", "/api/v1/caf%C3%A9/%61/a%20b/q3")]
    {
        group.bench_function(name, |bencher| bencher.iter(|| CanonicalPath::parse(black_box(path.as_bytes()))));
    }
    group.finish();
}

criterion_group!(benches, bench_find, bench_parse);
criterion_main!(benches);
