//! The configuration of one edge, written as a user would write it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::edge::Edge;
use super::provider::{AUDIENCES, Provider, SECRET};

/// What goes into `conf/` and `routes/`; every test starts from the same and adds to it.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    services: String,
    routes: String,
    audiences: Vec<(String, String)>,
    scopes: Vec<(String, String)>,
    oauth_scopes: String,
    server_lines: String,
    auth_lines: String,
    session_lines: String,
    top_lines: String,
    legacy: String,
    store: Option<String>,
    scheme: &'static str,
    /// `server.shutdown_grace`, seconds.
    grace: u64,
    /// `server.drain_delay`.
    drain_delay: &'static str,
    /// The browser's port, where that is a balancer's.
    public_port: Option<u16>,
    issuer: Option<String>,
    idp_audience: Option<String>,
    client_auth: String,
    /// Merged over the client's registration at the provider.
    client_metadata: Value,
    /// Environment of the program.
    env: Vec<(String, String)>,
    /// Nobody reads what it writes.
    silent: bool,
}

/// Where this edge listens and what it is called.
pub(super) struct Place<'a> {
    pub(super) dir: &'a Path,
    pub(super) port: u16,
    pub(super) admin_port: u16,
    pub(super) client_id: &'a str,
}

impl Setup {
    /// One client, its own audience, no service yet.
    pub(crate) fn new() -> Self {
        Self {
            services: String::new(),
            routes: String::new(),
            audiences: Vec::new(),
            scopes: Vec::new(),
            oauth_scopes: "openid profile email offline_access".to_owned(),
            server_lines: String::new(),
            auth_lines: String::new(),
            session_lines: String::new(),
            top_lines: String::new(),
            legacy: String::new(),
            store: None,
            scheme: "http",
            grace: 3,
            drain_delay: "0",
            public_port: None,
            issuer: None,
            idp_audience: Some(AUDIENCES[0].to_owned()),
            client_auth: format!("client_secret: \"{SECRET}\"\n    token_auth_method: client_secret_basic"),
            client_metadata: json!({}),
            env: Vec::new(),
            silent: false,
        }
    }

    /// A service `{name}_service` and its session route `/api/{name}/*`; `audience` as in `service_audiences`.
    pub(crate) fn service(self, name: &str, base_url: &str, audience: Option<&str>) -> Self {
        let route = format!(
            "{{ id: api-{name}, path: \"/api/{name}/*\", target_service: {name}_service, preserve_path: true, auth: session }}"
        );
        self.service_alone(name, base_url, audience, "timeout: 10").route(&route)
    }

    /// A service `{name}_service` without a route; `extra` is written into its flow mapping.
    pub(crate) fn service_alone(mut self, name: &str, base_url: &str, audience: Option<&str>, extra: &str) -> Self {
        writeln!(self.services, "  {name}_service: {{ base_url: \"{base_url}\", {extra} }}").unwrap();
        if let Some(audience) = audience {
            self.audiences.push((format!("{name}_service"), audience.to_owned()));
        }
        self
    }

    /// One more route, as a flow mapping.
    pub(crate) fn route(mut self, mapping: &str) -> Self {
        writeln!(self.routes, "  - {mapping}").unwrap();
        self
    }

    /// `service_scopes` of `{name}_service`, and nothing else.
    pub(crate) fn scope_of_service(mut self, name: &str, scope: &str) -> Self {
        self.scopes.push((format!("{name}_service"), scope.to_owned()));
        self
    }

    /// `service_scopes` of `{name}_service`; also asked for at login, or the provider would refuse it later.
    pub(crate) fn service_scope(mut self, name: &str, scope: &str) -> Self {
        self = self.scope_of_service(name, scope);
        write!(self.oauth_scopes, " {scope}").unwrap();
        self
    }

    /// A line under `server:`.
    pub(crate) fn server(mut self, line: &str) -> Self {
        writeln!(self.server_lines, "  {line}").unwrap();
        self
    }

    /// A line under `auth:`.
    pub(crate) fn auth(mut self, line: &str) -> Self {
        writeln!(self.auth_lines, "  {line}").unwrap();
        self
    }

    /// A line under `session:`.
    pub(crate) fn session(mut self, line: &str) -> Self {
        writeln!(self.session_lines, "  {line}").unwrap();
        self
    }

    /// A line at the top of `settings.yaml`.
    pub(crate) fn top(mut self, line: &str) -> Self {
        writeln!(self.top_lines, "{line}").unwrap();
        self
    }

    /// `session.store` instead of SQLite in the edge's own folder.
    pub(crate) fn store(mut self, url: &str) -> Self {
        self.store = Some(url.to_owned());
        self
    }

    /// How long requests in flight may take at the end.
    pub(crate) fn grace(mut self, seconds: u64) -> Self {
        self.grace = seconds;
        self
    }

    /// How long the listeners stay open at the end; none by default, so that tests end quickly.
    pub(crate) fn drain_delay(mut self, span: &'static str) -> Self {
        self.drain_delay = span;
        self
    }

    /// Behind a balancer that listens there.
    pub(crate) fn public_port(mut self, port: u16) -> Self {
        self.public_port = Some(port);
        self
    }

    /// Serves HTTPS with these PEM files.
    pub(crate) fn https(mut self, cert: &Path, key: &Path) -> Self {
        self.scheme = "https";
        self.server(&format!("tls: {{ cert: \"{}\", key: \"{}\" }}", cert.display(), key.display()))
    }

    /// Seconds an access token of this edge lives.
    pub(crate) fn access_ttl(mut self, seconds: u64) -> Self {
        self.client_metadata["access_ttl"] = json!(seconds);
        self
    }

    /// Seconds an access token of this edge has lived when it is minted.
    pub(crate) fn access_age(mut self, seconds: u64) -> Self {
        self.client_metadata["access_age"] = json!(seconds);
        self
    }

    /// Another provider than the shared one; without an audience of our own.
    pub(crate) fn provider_at(mut self, issuer: &str) -> Self {
        self.issuer = Some(issuer.to_owned());
        self.idp_audience = None;
        self
    }

    /// The entry's own `audience`: callers' access tokens are for it.
    pub(crate) fn own_audience(mut self, audience: &str) -> Self {
        self.idp_audience = Some(audience.to_owned());
        self
    }

    /// One more environment variable of the program.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its access lines go nowhere: for so many requests that nobody could keep them.
    pub(crate) fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// How many files the program may have open at most.
    pub(crate) fn open_files(self, most: usize) -> Self {
        self.env("OPEN_FILES", &most.to_string())
    }

    pub(super) fn env_vars(&self) -> &[(String, String)] {
        &self.env
    }

    /// One more field of the client's registration at the provider.
    pub(crate) fn registered(mut self, field: &str, value: Value) -> Self {
        self.client_metadata[field] = value;
        self
    }

    /// How the client authenticates: the lines of `idps.yaml`, and what the provider has to know.
    pub(crate) fn client_auth(mut self, lines: &[&str], metadata: &Value) -> Self {
        self.client_auth = lines.join("\n    ");
        for (key, value) in metadata.as_object().unwrap() {
            self.client_metadata[key] = value.clone();
        }
        self
    }

    /// The whole of `conf/legacy_services.yaml`.
    pub(crate) fn legacy(mut self, text: &str) -> Self {
        text.clone_into(&mut self.legacy);
        self
    }

    /// Starts the program with it, at the shared provider.
    pub(crate) async fn start(self) -> Edge {
        Edge::start(self, Provider::shared()).await
    }

    /// Starts one more with it: a replica of `first`, which registered the client.
    pub(crate) async fn start_beside(self, first: &Edge) -> Edge {
        Edge::start_as(self, first.provider, first.client_id.clone()).await
    }

    pub(super) fn origin(&self, port: u16) -> String {
        format!("{}://localhost:{}", self.scheme, self.public_port.unwrap_or(port))
    }

    pub(super) fn client_metadata(&self) -> &Value {
        &self.client_metadata
    }

    /// Writes `conf/` and `routes/` below `place.dir`.
    pub(super) fn write(&self, place: &Place<'_>, issuer: &str) {
        let (conf, routes) = (place.dir.join("conf"), place.dir.join("routes"));
        fs::create_dir_all(&conf).unwrap();
        fs::create_dir_all(&routes).unwrap();
        fs::write(conf.join("settings.yaml"), self.settings(place)).unwrap();
        fs::write(conf.join("idps.yaml"), self.idps(place, issuer)).unwrap();
        if !self.legacy.is_empty() {
            fs::write(conf.join("legacy_services.yaml"), &self.legacy).unwrap();
        }
        let mut text = String::new();
        if !self.services.is_empty() {
            write!(text, "services:\n{}", self.services).unwrap();
        }
        if !self.routes.is_empty() {
            write!(text, "routes:\n{}", self.routes).unwrap();
        }
        fs::write(routes.join("all.yaml"), text).unwrap();
    }

    fn settings(&self, place: &Place<'_>) -> String {
        let store = self.store.clone().unwrap_or_else(|| format!("sqlite:{}/sessions.db", place.dir.display()));
        let mapping = |pairs: &[(String, String)]| {
            let written: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}: \"{value}\"")).collect();
            format!("{{ {} }}", written.join(", "))
        };
        format!(
            "server:\n  listen: 127.0.0.1:{port}\n  admin_listen: 127.0.0.1:{admin}\n  public_url: {origin}\n  shutdown_grace: {grace}\n  drain_delay: {drain_delay}\n  \
             upgrade_sock: {dir}/handover/upgrade.sock\n{server}\
             auth:\n  idp: main\n  oauth_scopes: \"{oauth_scopes}\"\n{auth}\
             session:\n  store: \"{store}\"\n  secret: \"{SESSION_SECRET}\"\n{session}\
             service_audiences: {audiences}\nservice_scopes: {scopes}\n\
             log: {{ level: info, format: json }}\n{top}",
            port = place.port,
            admin = place.admin_port,
            origin = self.origin(place.port),
            grace = self.grace,
            drain_delay = self.drain_delay,
            dir = place.dir.display(),
            server = self.server_lines,
            oauth_scopes = self.oauth_scopes,
            auth = self.auth_lines,
            session = self.session_lines,
            audiences = mapping(&self.audiences),
            scopes = mapping(&self.scopes),
            top = self.top_lines,
        )
    }

    fn idps(&self, place: &Place<'_>, issuer: &str) -> String {
        let issuer = self.issuer.as_deref().unwrap_or(issuer);
        let audience = self.idp_audience.as_ref().map_or(String::new(), |one| format!("    audience: {one}\n"));
        format!(
            "idps:\n  - name: main\n    provider: testidp\n    issuer: {issuer}\n{audience}\
             \x20   client_id: {}\n    {}\n    audience_parameter: resource\n",
            place.client_id, self.client_auth,
        )
    }
}

/// 32 bytes.
pub(crate) const SESSION_SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
