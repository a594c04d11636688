//! The certified OpenID provider (`tests/oidc/provider.mjs`) as a child process. One is shared by all
//! tests: each edge registers a client of its own, and counters and misbehaviour are kept per client.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::http_client;

/// What the provider issues tokens for. The first is the edge's own audience.
pub(crate) const AUDIENCES: [&str; 4] = [
    "https://edge.example.test",
    "https://analytics.example.test",
    "https://crud.example.test",
    "https://reports.example.test",
];

/// A running provider. The child ends when its standard input closes, so also with this process.
pub(crate) struct Provider {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) issuer: String,
    control: String,
}

impl Provider {
    /// The one all tests share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Provider> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One of the test's own, for tests that stop it.
    pub(crate) fn start() -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc");
        let mut child = Command::new("node")
            .arg("provider.mjs")
            .current_dir(folder)
            .env("NODE_NO_WARNINGS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is needed; tests/run installs what is missing");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the provider did not start (was `npm ci` run in {folder}?): {line}"));
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self { issuer: text("issuer"), control: text("control"), child }
    }

    /// Registers a client; `metadata` is merged over a confidential client with HTTP Basic.
    pub(crate) async fn register(&self, client_id: &str, origin: &str, metadata: &Value) {
        let mut client = json!({
            "client_id": client_id,
            "client_secret": SECRET,
            "redirect_uris": [format!("{origin}/auth/callback")],
            "post_logout_redirect_uris": [origin, format!("{origin}/")],
            "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
            "backchannel_logout_uri": format!("{origin}/auth/backchannel-logout"),
        });
        for (key, value) in metadata.as_object().unwrap() {
            client[key] = value.clone();
        }
        self.post("/clients", &client).await;
    }

    /// How the token endpoint treats this client from now on: `ok`, `500`, `hang`, `reset`, `html`,
    /// `delay:MS` before anything is done, `late:MS` after everything is done.
    pub(crate) async fn set_mode(&self, client_id: &str, mode: &str) {
        self.post("/mode", &json!({"client": client_id, "token": mode})).await;
    }

    /// Token requests of this client: grants by `grant_type`, or `refused`, `faulted`, `revoked`.
    pub(crate) async fn count(&self, client_id: &str, what: &str) -> u64 {
        self.get("/counters", client_id).await[what].as_u64().unwrap_or(0)
    }

    /// `client_credentials`: a JWT for `audience`, or an opaque token.
    pub(crate) async fn client_token(&self, client_id: &str, audience: Option<&str>) -> String {
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(audience.map(|audience| ("resource", audience)));
        let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
        let request = http_client().post(format!("{}/token", self.issuer)).basic_auth(client_id, Some(encoded));
        let answer: Value = request.form(&form).send().await.unwrap().json().await.unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// How many refresh tokens of this client would still be accepted.
    pub(crate) async fn live_refresh_tokens(&self, client_id: &str) -> usize {
        self.refresh_tokens(client_id).await.len()
    }

    /// Those themselves.
    pub(crate) async fn refresh_tokens(&self, client_id: &str) -> Vec<String> {
        serde_json::from_value(self.get("/refresh-tokens", client_id).await).unwrap()
    }

    /// Makes every refresh of this client fail with `invalid_grant`.
    pub(crate) async fn forget_refresh_tokens(&self, client_id: &str) {
        let url = format!("{}/refresh-tokens?client={client_id}", self.control);
        http_client().delete(url).send().await.unwrap().error_for_status().unwrap();
    }

    async fn get(&self, path: &str, client_id: &str) -> Value {
        let url = format!("{}{path}?client={client_id}", self.control);
        http_client().get(url).send().await.unwrap().json().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) {
        let url = format!("{}{path}", self.control);
        http_client().post(url).json(body).send().await.unwrap().error_for_status().unwrap();
    }
}

/// The secret of every client: with the characters that form-encoding inside Basic has to survive.
pub(crate) const SECRET: &str = "a-secret:with %+& in it, long enough";

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
