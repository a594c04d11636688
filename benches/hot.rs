//! The steps of a request that are ours, each by itself: the cookie, the session, its bearer, a
//! caller's token. `cargo bench --bench hot`; with `SCALE=full` up to a million sessions.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, dead_code, missing_docs)]

#[path = "edge/stand/mod.rs"]
mod stand;

use std::hint::black_box;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use futures::FutureExt as _;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use pingora_bff::Config;
use pingora_bff::oidc::{BearerValidator, RelyingParty};
use pingora_bff::resilience::{Clock, SystemClock};
use pingora_bff::session::{CookieToken, SessionCookie, Sessions};
use pingora_bff::telemetry::Metrics;
use pingora_bff::token::{TokenBroker, TokenPolicy};
use stand::conf::Ports;
use stand::logins::login;
use stand::provider::Provider;
use stand::upstream;
use tokio::runtime::Runtime;

/// A configuration with a memory store, and its provider's documents being served.
struct Parts {
    config: Config,
    provider: Provider,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Parts {
    fn new(dir: &Path) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = Provider::new(&format!("http://{}", listener.local_addr().unwrap()));
        let mut answers = upstream::usual();
        provider.publish(&mut answers);
        let service = upstream::start(listener, answers);
        let ports = Ports { public: stand::free_port(), admin: stand::free_port() };
        stand::conf::write(dir, ports, "memory:", provider.issuer(), service);
        let config = Config::load(&dir.join("conf"), &dir.join("routes"), &|_| None).unwrap();
        Self { config, provider, clock: Arc::new(SystemClock), metrics: Arc::new(Metrics::new().unwrap()) }
    }

    fn sessions(&self) -> Sessions {
        let settings = &self.config.settings.session;
        Sessions::open(settings, Arc::clone(&self.clock), Arc::clone(&self.metrics)).unwrap()
    }

    fn relying_party(&self) -> RelyingParty {
        let (idp, settings) = (&self.config.idps[0], &self.config.settings);
        let (clock, metrics) = (Arc::clone(&self.clock), Arc::clone(&self.metrics));
        let (url, scopes) = (&settings.server.public_url, &settings.auth.oauth_scopes);
        RelyingParty::new(idp, url, scopes, None, clock, metrics).unwrap()
    }
}

fn bench_cookie(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let parts = Parts::new(dir.path());
    let settings = &parts.config.settings;
    let cookie = SessionCookie::new(&settings.session, &settings.server.public_url).unwrap();
    let sent = format!("theme=dark; bff_session={}; lang=de", CookieToken::generate().unwrap().expose());
    let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(sent).unwrap())]);
    criterion.bench_function("cookie/read", |bencher| bencher.iter(|| cookie.read(black_box(&headers))));
    criterion.bench_function("cookie/cut", |bencher| bencher.iter(|| cookie.cut(black_box(&headers))));
}

/// The near cache holds 100 000 sessions: beyond that a look-up asks the store and opens a record.
fn bench_session(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let full = std::env::var("SCALE").is_ok_and(|scale| scale == "full");
    let counts: &[usize] = if full { &[100, 10_000, 100_000, 1_000_000] } else { &[100, 10_000] };
    let mut group = criterion.benchmark_group("session");
    for &count in counts {
        let dir = tempfile::tempdir().unwrap();
        let parts = Parts::new(dir.path());
        let sessions = parts.sessions();
        let token = parts.provider.access_token("somebody");
        let made = |number| sessions.create(login(parts.provider.issuer(), number, &token, parts.clock.as_ref()));
        let tokens: Vec<_> = (0..count).map(|number| runtime.block_on(made(number)).unwrap().0).collect();
        // 7919 is prime: the next one asked for is far away.
        let mut turn = (0..count).map(|number| &tokens[number * 7919 % count]).cycle();
        group.bench_function(BenchmarkId::new("find", count), |bencher| {
            bencher.iter(|| sessions.find(turn.next().unwrap()).now_or_never().unwrap().unwrap().unwrap());
        });
    }
    group.finish();
}

fn bench_bearer_of_session(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let parts = Parts::new(dir.path());
    let (settings, sessions) = (&parts.config.settings, Arc::new(parts.sessions()));
    let provider = Arc::new(parts.relying_party());
    let (clock, metrics) = (Arc::clone(&parts.clock), Arc::clone(&parts.metrics));
    let broker = TokenBroker::new(Arc::clone(&sessions), provider, settings, clock, metrics);
    let token = parts.provider.access_token("somebody");
    let new = login(parts.provider.issuer(), 1, &token, parts.clock.as_ref());
    let (_, session) = runtime.block_on(sessions.create(new)).unwrap();
    let policy = TokenPolicy::of("api", None, settings);
    criterion.bench_function("bearer/of session", |bencher| {
        bencher.iter(|| broker.bearer(black_box(&session), &policy).now_or_never().unwrap().unwrap().unwrap());
    });
}

fn bench_callers_token(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let parts = Parts::new(dir.path());
    let (clock, metrics) = (Arc::clone(&parts.clock), Arc::clone(&parts.metrics));
    let logins = parts.relying_party();
    let Ok(bearers) = BearerValidator::new(&parts.config.idps, &logins, None, clock, metrics) else {
        panic!("the entry works")
    };
    let known = parts.provider.access_token("known");
    runtime.block_on(bearers.validate(&known)).unwrap();
    criterion.bench_function("bearer/seen before", |bencher| {
        bencher.iter(|| bearers.validate(black_box(&known)).now_or_never().unwrap().unwrap());
    });
    let mut number = 0;
    criterion.bench_function("bearer/first sight", |bencher| {
        let fresh = || {
            number += 1;
            parts.provider.access_token(&format!("caller-{number}"))
        };
        bencher.iter_batched(fresh, |token| runtime.block_on(bearers.validate(&token)).unwrap(), BatchSize::SmallInput);
    });
}

criterion_group!(benches, bench_cookie, bench_session, bench_bearer_of_session, bench_callers_token);
criterion_main!(benches);
