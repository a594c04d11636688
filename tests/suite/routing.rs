//! What `routes` and `explain` print, for a configuration with one of everything.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in `#[test]` functions, not in what they call")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use http::Method;
use pingora_bff::cli::{explain, routes};
use pingora_bff::config::{
    AuthConfig, AuthMode, Config, CsrfMode, LegacyConfig, LegacyServiceConfig, LogConfig, LogFormat, Place,
    RateLimitConfig, RateLimitKey, RouteConfig, ServerConfig, ServiceConfig, ServiceTlsConfig, SessionConfig, Settings,
    StoreConfig, TokenMode, TokenPolicyConfig,
};

fn settings() -> Settings {
    let audience = |service: &str| (format!("{service}_service"), format!("https://{service}.example.com"));
    Settings {
        server: ServerConfig {
            listen: vec!["127.0.0.1:8080".parse().unwrap()],
            admin_listen: "127.0.0.1:9090".parse().unwrap(),
            public_url: "http://localhost:8080".parse().unwrap(),
            tls: None,
            trusted_proxies: vec![],
            shutdown_grace: Duration::from_secs(30),
            drain_delay: Duration::from_secs(5),
            upgrade_sock: "upgrade.sock".into(),
            websocket_idle_timeout: None,
            threads: 1,
            idle_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            min_body_rate: 240,
            max_connections: None,
            max_memory: None,
        },
        auth: AuthConfig { idp: "main".into(), oauth_scopes: vec!["openid".into()], allowed_redirect_hosts: vec![] },
        session: SessionConfig { store: StoreConfig::Memory, ..SessionConfig::default() },
        token_refresh_threshold: Duration::from_secs(300),
        service_audiences: BTreeMap::from([audience("analytics"), audience("crud")]),
        service_scopes: BTreeMap::from([("analytics_service".into(), vec!["application.all".into()])]),
        cors_allow_origins: vec![],
        csrf_mode: CsrfMode::Token,
        empowerid_api_key: None,
        log: LogConfig { level: "info".into(), format: LogFormat::Json },
    }
}

fn service(base_url: &str) -> ServiceConfig {
    ServiceConfig {
        base_url: base_url.parse().unwrap(),
        timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_millis(1500),
        tls: ServiceTlsConfig::default(),
        written_at: Place { file: "routes/api.yaml".into(), line: 2, column: 3 },
    }
}

fn route(line: usize, id: &str, path: &str, service: &str) -> RouteConfig {
    RouteConfig {
        id: id.into(),
        path: path.into(),
        target_service: service.into(),
        upstream_path: None,
        preserve_path: false,
        methods: vec![],
        auth: AuthMode::Session,
        streaming: false,
        websocket: false,
        max_body_size: None,
        token_policy: None,
        rate_limit: None,
        written_at: Place { file: "routes/api.yaml".into(), line, column: 5 },
    }
}

fn policy(mode: TokenMode, audience: Option<&str>) -> TokenPolicyConfig {
    TokenPolicyConfig { mode: Some(mode), audience: audience.map(Into::into), scopes: None, cache_ttl: None }
}

fn written_routes() -> Vec<RouteConfig> {
    let mut all = route(10, "page", "*", "page_service");
    (all.auth, all.methods) = (AuthMode::None, vec![Method::GET]);
    let mut analytics = route(14, "api-analytics", "/api/v1/analytics/*", "analytics_service");
    (analytics.upstream_path, analytics.methods) = (Some("/v2/{path}".into()), vec![Method::GET, Method::POST]);
    let mut report = route(20, "report", "/api/v1/analytics/{id}/report", "analytics_service");
    report.methods = vec![Method::GET];
    let mut import = route(26, "import", "/api/v1/analytics/import", "crud_service");
    (import.methods, import.token_policy) =
        (vec![Method::PUT], Some(policy(TokenMode::ServiceToken, Some("https://bulk.example.com"))));
    let mut raw = route(32, "crud-raw", "/crud/{tenant}/*", "crud_service");
    (raw.token_policy, raw.upstream_path) =
        (Some(policy(TokenMode::SessionPassthrough, None)), Some("/{path}/{tenant}".into()));
    let mut machine = route(38, "machine", "/machine", "crud_service");
    (machine.auth, machine.streaming) = (AuthMode::Bearer, true);
    let (period, burst, key) = (Duration::from_secs(60), Some(20), RateLimitKey::Identity);
    machine.rate_limit = Some(RateLimitConfig { requests: 100, period, burst, key });
    let orders = route(44, "orders", "/orders/*", "orders_service");
    let mut silent = route(50, "silent", "/silent", "page_service");
    silent.token_policy = Some(policy(TokenMode::None, None));
    vec![all, analytics, report, import, raw, machine, orders, silent]
}

fn config() -> Config {
    let services = [
        ("analytics_service", "http://analytics:8100/base/"),
        ("crud_service", "https://crud.internal"),
        ("orders_service", "http://127.0.0.1:8300"),
        ("page_service", "http://127.0.0.1:8400"),
    ];
    let res_admin = LegacyServiceConfig {
        base_url: "http://res-admin:5000/api".parse().unwrap(),
        timeout: Duration::from_secs(20),
    };
    Config {
        settings: settings(),
        idps: vec![],
        services: services.map(|(name, url)| (name.to_owned(), service(url))).into(),
        routes: written_routes(),
        legacy: LegacyConfig {
            services: [("res-admin".to_owned(), res_admin)].into(),
            breaker_threshold: 5,
            breaker_reset_time: Duration::from_secs(60),
            cache_enabled: false,
            cache_default_ttl: Duration::ZERO,
            cache_max_entries: 0,
            cache_max_bytes: 0,
            max_body_size: 10 << 20,
            max_concurrent: 256,
        },
        conf_dir: "conf".into(),
        routes_dir: "routes".into(),
    }
}

#[test]
fn routes_are_listed_in_order_of_precedence() {
    insta::assert_snapshot!("routes", routes::render(&config()).unwrap());
}

#[test]
fn a_token_exchange_without_a_session_is_impossible() {
    for auth in [AuthMode::Bearer, AuthMode::None] {
        let mut config = config();
        let mut exchanged = route(60, "exchanged", "/exchanged", "crud_service");
        (exchanged.auth, exchanged.token_policy) = (auth, Some(policy(TokenMode::OnBehalfOf, None)));
        config.routes = vec![exchanged];
        let (page, status) = explain::render(&config, &Method::GET, "/exchanged").unwrap();
        assert!(status == 1 && page.contains("none possible: 401 no_token_available"), "{auth:?}: {page}");
    }
}

#[test]
fn every_request_is_explained() {
    let mut config = config();
    let mut text = String::new();
    let mut ask = |config: &Config, method: Method, target: &str| {
        let (page, status) = explain::render(config, &method, target).unwrap();
        writeln!(text, "$ pingora-bff explain {method} {target}\n{page}(exit {status})\n").unwrap();
    };
    ask(&config, Method::GET, "/api/v1/analytics/42/report?from=1&to=%2F");
    ask(&config, Method::POST, "http://localhost:8080/api/v1/analytics/%61/");
    ask(&config, Method::PUT, "/api/v1/analytics/import");
    ask(&config, Method::GET, "/api/v1/analytics/import");
    ask(&config, Method::DELETE, "/crud/acme/");
    ask(&config, Method::GET, "/machine");
    ask(&config, Method::GET, "/orders/7");
    ask(&config, Method::GET, "/silent");
    ask(&config, Method::GET, "/style.css");
    ask(&config, Method::DELETE, "/api/v1/analytics/x");
    ask(&config, Method::GET, "/auth/session");
    ask(&config, Method::DELETE, "/auth/logout");
    ask(&config, Method::GET, "/a/%2e%2e/b");
    // The façade comes before every route, also before one that takes every path.
    ask(&config, Method::POST, "/api/v1/proxy/res-admin/users?x=1");
    ask(&config, Method::GET, "/api/v1/proxy/nobody/x");
    ask(&config, Method::TRACE, "/api/v1/proxy/res-admin/users");
    ask(&config, Method::TRACE, "/api/v1/proxy/nobody/x");
    // What the door refuses, and what it answers, is no route's.
    ask(&config, Method::OPTIONS, "*");
    ask(&config, Method::CONNECT, "/machine");
    ask(&config, Method::GET, "https://elsewhere.example/machine");
    ask(&config, Method::GET, "/silent?return_to=https://ada@elsewhere.example/");
    ask(&config, Method::GET, "/machine?a#b");
    ask(&config, Method::GET, "/machine?a b");
    ask(&config, Method::GET, "http://localhost:8080?from=/machine");
    ask(&config, Method::from_bytes(b"get").unwrap(), "/machine");
    ask(&config, Method::from_bytes(&[b'A'; 100]).unwrap(), "/machine");
    let (page, status) =
        explain::render(&config, &Method::GET, &format!("/machine?{}", "a".repeat(16 * 1024))).unwrap();
    assert!(status == 1 && page.contains("414 bad_request"), "{page}");
    config.routes.remove(0);
    ask(&config, Method::GET, "/api/v1/analitics/x");
    ask(&config, Method::GET, "/orders");
    ask(&config, Method::GET, "/quite/different");
    insta::assert_snapshot!("explain", text);
}
