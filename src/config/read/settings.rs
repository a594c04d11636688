//! `conf/settings.yaml`.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderValue;
use url::{Position, Url};

use super::server::read_server;
use super::session::read_session;
use crate::config::diagnostic::{Collector, Diagnostic};
use crate::config::node::Node;
use crate::config::reader::{Located, MapReader, one_or_many, refuse, table};
use crate::config::scalar::{quote, scopes, secret, text, word, zero_or_seconds};
use crate::config::source::Spot;
use crate::config::{AuthConfig, CsrfMode, LogConfig, LogFormat, Secret, ServerConfig, SessionConfig};

/// What was written, with the places that other files decide about.
pub(in crate::config) struct WrittenSettings {
    /// `None`: already reported.
    pub(in crate::config) server: Option<ServerConfig>,
    /// `None`: already reported.
    pub(in crate::config) session: Option<SessionConfig>,
    pub(in crate::config) auth: AuthConfig,
    /// `auth.idp`, where it was written.
    pub(in crate::config) idp: Option<Located<String>>,
    /// Where the absence of `auth.idp` is reported.
    pub(in crate::config) auth_spot: Spot,
    pub(in crate::config) token_refresh_threshold: Duration,
    pub(in crate::config) service_audiences: Vec<(Located<String>, String)>,
    pub(in crate::config) service_scopes: Vec<(Located<String>, Vec<String>)>,
    pub(in crate::config) cors_allow_origins: Vec<String>,
    pub(in crate::config) csrf_mode: CsrfMode,
    pub(in crate::config) empowerid_api_key: Option<Secret>,
    pub(in crate::config) log: LogConfig,
}

const CSRF_MODES: &[(&str, CsrfMode)] = &[("fetch_metadata", CsrfMode::FetchMetadata), ("token", CsrfMode::Token)];
const LOG_LEVELS: &[(&str, &str)] =
    &[("error", "error"), ("warn", "warn"), ("info", "info"), ("debug", "debug"), ("trace", "trace")];
const LOG_FORMATS: &[(&str, LogFormat)] = &[("json", LogFormat::Json), ("pretty", LogFormat::Pretty)];

/// Reads the whole file; `None` only where it is no map.
pub(in crate::config) fn read_settings(node: &Node, found: &Collector) -> Option<WrittenSettings> {
    let mut map = MapReader::new(node, found)?;
    let empty = Node { spot: node.spot.clone(), value: crate::config::node::Value::Null };
    let server = read_server(map.node("server").unwrap_or(&empty), found);
    let auth_spot = map.key_spot("auth").unwrap_or(&map.spot).clone();
    let https = server.as_ref().is_none_or(|server| server.public_url.scheme() == "https");
    let auth = map.field("auth", |node, found| read_auth(node, https, found));
    let session = read_session(map.node("session").unwrap_or(&empty), https, found);
    let token_refresh_threshold =
        map.field("token_refresh_threshold", zero_or_seconds).unwrap_or(Duration::from_secs(300));
    let service_audiences = map.field("service_audiences", |node, found| table(node, found, text)).unwrap_or_default();
    let service_scopes = map.field("service_scopes", |node, found| table(node, found, scopes)).unwrap_or_default();
    let cors_allow_origins = map.field("cors", read_cors).unwrap_or_default();
    let csrf_mode = map.field("csrf", read_csrf).unwrap_or(CsrfMode::FetchMetadata);
    let empowerid_api_key = map.field("empowerid_api_key", header_value);
    let log = map.field("log", read_log).unwrap_or_else(default_log);
    map.finish();
    let (idp, oauth_scopes, allowed_redirect_hosts) = auth.unwrap_or_else(|| (None, default_scopes(), Vec::new()));
    let auth = AuthConfig { idp: String::new(), oauth_scopes, allowed_redirect_hosts };
    Some(WrittenSettings {
        server,
        session,
        auth,
        idp,
        auth_spot,
        token_refresh_threshold,
        service_audiences,
        service_scopes,
        cors_allow_origins,
        csrf_mode,
        empowerid_api_key,
        log,
    })
}

type Auth = (Option<Located<String>>, Vec<String>, Vec<String>);

fn read_auth(node: &Node, https: bool, found: &Collector) -> Option<Auth> {
    let mut map = MapReader::new(node, found)?;
    let idp = map.located("idp", text);
    let oauth_scopes = map.field("oauth_scopes", login_scopes).unwrap_or_else(default_scopes);
    let hosts = map.field("allowed_redirect_hosts", |node, found| one_or_many(node, found, redirect_host(https)));
    map.finish();
    Some((idp, oauth_scopes, hosts.unwrap_or_default()))
}

fn default_scopes() -> Vec<String> {
    ["openid", "profile", "email", "offline_access"].map(str::to_owned).to_vec()
}

/// Scopes of a login: without `openid` there is no `id_token` (OpenID Connect Core §3.1.2.1).
pub(super) fn login_scopes(node: &Node, found: &Collector) -> Option<Vec<String>> {
    let scopes = scopes(node, found)?;
    if scopes.iter().any(|scope| scope == "openid") {
        return Some(scopes);
    }
    refuse(node, found, "the scopes of a login must contain `openid`", "without it there is no id_token: add `openid`")
}

/// A host as it looks in an address that was read (punycode, the short form of an IPv6 address), for it is compared with
/// one. A port that the scheme implies is in neither. `https`: so are we, and never lead down to http.
fn redirect_host(https: bool) -> impl Fn(&Node, &Collector) -> Option<String> {
    move |node, found| {
        let host = text(node, found)?;
        let strange = |letter: char| letter.is_whitespace() || letter.is_control() || "/?#@*\\".contains(letter);
        let plain = !host.contains(strange) && !host.ends_with(':');
        let read = Url::parse(&format!("https://{host}")).ok().filter(|url| plain && url.has_host());
        let Some(url) = read else {
            let message = format!("{} is not a host", quote(&node.spot, &host));
            let label = "write `app.example.com` or `app.example.com:8443`, without scheme, path or wildcard";
            return refuse(node, found, message, label);
        };
        let entry = &url[Position::BeforeHost..Position::AfterPort];
        Some(if https { entry } else { entry.strip_suffix(":80").unwrap_or(entry) }.to_owned())
    }
}

fn read_cors(node: &Node, found: &Collector) -> Option<Vec<String>> {
    let mut map = MapReader::new(node, found)?;
    let origins = map.field("allow_origins", |node, found| one_or_many(node, found, origin));
    map.finish();
    origins
}

/// `https://app.example.com`: exactly what a browser sends as `Origin` (RFC 6454 §6.2).
fn origin(node: &Node, found: &Collector) -> Option<String> {
    let origin = text(node, found)?;
    let url = Url::parse(&origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let exact = url.map(|url| url.origin().ascii_serialization());
    if exact.as_deref() == Some(&origin) && !origin.contains('*') {
        return Some(origin);
    }
    let label = match exact {
        _ if origin.contains('*') => "a wildcard cannot be combined with cookies: list each origin".to_owned(),
        Some(exact) if !origin.contains('@') => format!("write `{exact}`"),
        _ => String::new(),
    };
    let error =
        Diagnostic::error(&node.spot, format!("{} is not an exact origin", quote(&node.spot, &origin))).label(label);
    found.push(
        error.note("allowed: scheme, host and, where unusual, port, with nothing behind: `https://app.example.com`"),
    );
    None
}

/// A secret that is sent in a header field (RFC 9110 §5.5).
fn header_value(node: &Node, found: &Collector) -> Option<Secret> {
    let secret = secret(node, found)?;
    if HeaderValue::from_str(secret.expose()).is_ok() {
        return Some(secret);
    }
    refuse(node, found, "this secret cannot be sent in a header", "one line of printable ASCII")
}

fn read_csrf(node: &Node, found: &Collector) -> Option<CsrfMode> {
    let mut map = MapReader::new(node, found)?;
    let mode = map.field("mode", word(CSRF_MODES));
    map.finish();
    mode
}

fn default_log() -> LogConfig {
    LogConfig { level: "info".to_owned(), format: LogFormat::Json }
}

fn read_log(node: &Node, found: &Collector) -> Option<LogConfig> {
    let mut map = MapReader::new(node, found)?;
    let level = map.field("level", word(LOG_LEVELS)).map_or_else(|| default_log().level, str::to_owned);
    let format = map.field("format", word(LOG_FORMATS)).unwrap_or(LogFormat::Json);
    map.finish();
    Some(LogConfig { level, format })
}

/// Turns located names into the map of the model.
pub(in crate::config) fn by_name<T>(table: Vec<(Located<String>, T)>) -> BTreeMap<String, T> {
    table.into_iter().map(|(name, value)| (name.value, value)).collect()
}
