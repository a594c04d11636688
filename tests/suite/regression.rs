//! One small test for each kind of advisory that our peers had, named by its identifier where it has one.
//! All share one running edge; SECURITY.md has the table.

mod browser;
mod cache;
mod cookies;
mod headers;
mod paths;
mod tokens;

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::harness::liar::{Liar, logged_in};
use crate::harness::{Browser, Edge, Say, Setup, Upstream, raw};

const APP: &str = "https://app.example.com";
const API: &str = "https://api.example.test";
const ADA: &str = "auth:account:testidp:ada";

/// What every test here uses. It runs on a runtime of its own, which outlives each test's.
struct World {
    edge: &'static Edge,
    /// Echoes what it was sent.
    upstream: Upstream,
    /// Calls its answers good for everybody for a minute.
    cacheable: Upstream,
    /// The provider: it signs whatever it is given.
    liar: Liar,
    login: tokio::sync::Mutex<()>,
    ada: Browser,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let build = || {
            let runtime = Box::leak(Box::new(tokio::runtime::Runtime::new().unwrap()));
            runtime.block_on(World::build())
        };
        std::thread::spawn(build).join().unwrap()
    })
}

impl World {
    async fn build() -> Self {
        let (upstream, cacheable) = (Upstream::start().await, Upstream::start().await);
        cacheable.behave(Say::cache_control("max-age=60", ""));
        let liar = Liar::start().await;
        let route = |id: &str, more: &str| {
            format!("{{ id: {id}, path: \"/{id}/*\", target_service: any_service, preserve_path: true, {more} }}")
        };
        let setup = Setup::new()
            .service_alone("any", &upstream.url(), None, "timeout: 5")
            .route(&route("open", "auth: none"))
            .route(&route("robots", "auth: bearer"))
            .route(&route("reads", "auth: none, methods: [GET]"))
            .route(&route("pass", "auth: session, token_policy: { mode: session_passthrough }"))
            .legacy(&format!("legacy_services: {{ svc: \"{}\" }}\n", cacheable.url()))
            .auth("allowed_redirect_hosts: [app.example.com]")
            .top(&format!("cors: {{ allow_origins: [\"{APP}\"] }}"));
        let edge = setup.provider_at(&liar.base).own_audience(API).start().await.lend();
        let ada = logged_in(edge, &liar, &json!({ "access_token": "at-ada" })).await;
        Self { edge, upstream, cacheable, liar, login: tokio::sync::Mutex::new(()), ada }
    }

    /// A new session of its own, with this login token.
    async fn login(&self, access_token: &str) -> Browser {
        let _one_at_a_time = self.login.lock().await;
        logged_in(self.edge, &self.liar, &json!({ "access_token": access_token })).await
    }

    /// The `Cookie` line of ada's session.
    fn cookie(&self) -> String {
        format!("Cookie: {}\r\n", self.ada.cookie_header(&self.edge.origin))
    }

    /// Whether a request whose target contains this has arrived at the service.
    fn arrived(&self, mark: &str) -> bool {
        self.upstream.all().iter().any(|received| received.target().contains(mark))
    }
}

/// What came of one request.
struct Answer {
    status: u16,
    head: crate::harness::Head,
    /// The echo, or our problem document.
    body: Value,
    text: String,
}

impl Answer {
    /// All values that the service received under this name.
    fn received(&self, name: &str) -> Vec<String> {
        let fields = self.body["headers"].as_array().unwrap_or_else(|| panic!("no echo: {}", self.text));
        let named = fields.iter().filter(|field| field[0].as_str().unwrap().eq_ignore_ascii_case(name));
        named.map(|field| field[1].as_str().unwrap().to_owned()).collect()
    }
}

/// Sends a request on a connection of its own. `lines` are header lines, each ending in CRLF; `Host` is added.
async fn ask(start: &str, lines: &str) -> Answer {
    let edge = world().edge;
    let request = format!("{start} HTTP/1.1\r\nHost: localhost:{}\r\n{lines}\r\n", edge.port);
    let (head, body) = raw(edge.address(), request).await;
    let text = String::from_utf8_lossy(&body.start).into_owned();
    Answer { status: head.status(), head, body: serde_json::from_str(&text).unwrap_or_default(), text }
}

/// The status of such a request.
async fn status(start: &str, lines: &str) -> u16 {
    ask(start, lines).await.status
}
