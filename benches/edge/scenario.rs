//! What is measured: which program gets which requests.

use crate::stage::Stage;
use crate::stand::request::{BROWSER, each, get, post};

/// A measured program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The engine alone.
    Bare,
    /// nginx.
    Nginx,
    /// Our program with the embedded store.
    Ours,
    /// Our program with Redis.
    OursRedis,
    /// Apache with `mod_auth_openidc`.
    Apache,
    /// The same with Redis.
    ApacheRedis,
    /// Envoy.
    Envoy,
    /// The same with its OAuth 2 filter.
    EnvoyOauth2,
}

/// One line of the table.
pub struct Scenario {
    /// Also the name of its profile.
    pub name: &'static str,
    pub target: Target,
    /// The line of the same group whose CPU is 1.0: name of the engine's, name of nginx's.
    pub against: (&'static str, &'static str),
    /// The ratio to the engine that is aimed at.
    pub aim: Option<f64>,
    pub requests: Vec<String>,
}

/// All of them, in the order of the table.
pub fn all(stage: &Stage) -> Vec<Scenario> {
    let Stage { cookies, redis_cookies, provider, .. } = stage;
    let line = |name, target, against, aim, requests| Scenario { name, target, against, aim, requests };
    let small = ("bare", "nginx");
    let browser = ("bare-browser", "");
    let (large, upload) = (("bare-1MiB", "nginx-1MiB"), ("bare-upload", "nginx-upload"));
    let token = format!("Authorization: Bearer {}", provider.access_token("machine"));
    let one = cookies.get(..1).unwrap_or_default();
    let mut all = vec![
        line("bare", Target::Bare, small, None, vec![get("/x", &[])]),
        line("nginx", Target::Nginx, small, None, vec![get("/x", &[])]),
        line("public", Target::Ours, small, Some(1.05), vec![get("/public/x", &[])]),
        line("session", Target::Ours, small, Some(1.15), each("/api/x", cookies)),
        line("bearer", Target::Ours, small, Some(1.20), vec![get("/machine/x", &[&token])]),
        line("bare-browser", Target::Bare, browser, None, vec![get("/x", &BROWSER)]),
        line("browser", Target::Ours, browser, None, vec![get("/public/x", &BROWSER)]),
        line("verify", Target::Ours, small, None, each("/auth/verify", cookies)),
        line("legacy-miss", Target::Ours, small, None, each("/api/v1/proxy/old/x", one)),
        line("legacy-hit", Target::Ours, small, None, each("/api/v1/proxy/old/kept", one)),
        line("nginx-hit", Target::Nginx, small, None, vec![get("/kept", &[])]),
        line("bare-1MiB", Target::Bare, large, None, vec![get("/large", &[])]),
        line("nginx-1MiB", Target::Nginx, large, None, vec![get("/large", &[])]),
        line("public-1MiB", Target::Ours, large, Some(1.05), vec![get("/public/large", &[])]),
        line("bare-upload", Target::Bare, upload, None, vec![post("/x", 64 * 1024)]),
        line("nginx-upload", Target::Nginx, upload, None, vec![post("/x", 64 * 1024)]),
        line("public-upload", Target::Ours, upload, Some(1.05), vec![post("/public/x", 64 * 1024)]),
    ];
    if !redis_cookies.is_empty() {
        let redis = line("session-redis", Target::OursRedis, small, Some(1.20), each("/api/x", redis_cookies));
        all.insert(4, redis);
    }
    for peer in &stage.peers {
        let name = match peer.target {
            Target::Apache => "mod_auth_openidc",
            Target::ApacheRedis => "mod_auth_openidc-redis",
            Target::EnvoyOauth2 => "envoy-oauth2",
            _ => {
                all.insert(2, line("envoy", peer.target, small, None, vec![get("/x", &[])]));
                all.push(line("envoy-1MiB", peer.target, large, None, vec![get("/large", &[])]));
                continue;
            }
        };
        all.insert(4, line(name, peer.target, small, None, each("/api/x", &peer.cookies)));
    }
    all
}
