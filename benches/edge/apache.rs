//! Apache with `mod_auth_openidc` where Debian's packages of both are installed: the same job as a session
//! route, sessions in shared memory or in Redis. One process, in the foreground, so that its CPU time is all there is.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::peer::{Peer, field, token_endpoint};
use crate::scenario::Target;
use crate::stand::client::once;
use crate::stand::process::Process;
use crate::stand::provider::Provider;
use crate::stand::request::get;
use crate::stand::{free_port, installed};

const MODULES: &str = "/usr/lib/apache2/modules";
/// Where its sessions are.
#[derive(Debug, Clone, Copy)]
pub enum Cache {
    /// Shared memory, a list that every look-up walks: a hundred sessions are few.
    Memory,
    /// Redis on a port of loopback.
    Redis(u16),
}

/// Starts it and logs in; `None` where it is not installed.
pub fn start(folder: &Path, provider: &Arc<Provider>, service: SocketAddr, cache: Cache) -> Option<Peer> {
    if !installed("apache2") || !Path::new(MODULES).join("mod_auth_openidc.so").exists() {
        return None;
    }
    let (port, tokens) = (free_port(), token_endpoint(Arc::clone(provider)));
    let file = folder.join("apache.conf");
    let (target, sessions, keys) = match cache {
        Cache::Memory => (Target::Apache, 100, "OIDCCacheType shm\nOIDCCacheShmEntrySizeMax 65536".to_owned()),
        Cache::Redis(port) => {
            (Target::ApacheRedis, 1_000, format!("OIDCCacheType redis\nOIDCRedisCacheServer 127.0.0.1:{port}"))
        }
    };
    std::fs::write(&file, conf(folder, port, tokens, service, &keys)).unwrap();
    let mut process = Process::start(&["apache2", "-X", "-f", &file.display().to_string()], 0);
    process.wait_for(port);
    let cookies = (0..sessions).map(|_| log_in(port)).collect();
    Some(Peer { target, process, port, cookies, version: version() })
}

fn conf(folder: &Path, port: u16, tokens: SocketAddr, service: SocketAddr, cache: &str) -> String {
    let dir = folder.display();
    let mut text = String::new();
    for name in
        ["mpm_event", "authn_core", "authz_core", "authz_user", "headers", "proxy", "proxy_http", "auth_openidc"]
    {
        writeln!(text, "LoadModule {name}_module {MODULES}/mod_{name}.so").unwrap();
    }
    let path = "/redirect";
    text + &format!(
        "ServerRoot {dir}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {dir}/pid\nErrorLog {dir}/error.log\n\
         LogLevel error\nUser www-data\nGroup www-data\nStartServers 1\nServerLimit 1\nThreadLimit 64\nThreadsPerChild 64\n\
         MaxRequestWorkers 64\nKeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 60\n\
         OIDCProviderMetadataURL http://{tokens}/metadata\nOIDCProviderTokenEndpointAuth client_secret_post\n\
         OIDCClientID bench\nOIDCClientSecret secret\nOIDCRedirectURI http://localhost{path}\nOIDCCryptoPassphrase bench\n\
         {cache}\nOIDCSessionInactivityTimeout 86400\nOIDCSessionMaxDuration 86400\n\
         <Location />\n  AuthType openid-connect\n  Require valid-user\n\
         \x20 RequestHeader set Authorization \"expr=Bearer %{{reqenv:OIDC_access_token}}\"\n\
         \x20 ProxyPass http://{service}/ keepalive=On\n</Location>\n\
         <Location {path}>\n  ProxyPass !\n</Location>\n"
    )
}

/// One login, as a browser goes through it; the session's cookie. Apache sends the nonce with the request
/// to the provider; it comes back as the code, so that the token endpoint learns of it.
fn log_in(port: u16) -> String {
    let begun = once(port, &get("/api/x", &["Accept: text/html", "Connection: close"]));
    let location = field(&begun, "location: ", "\r\n");
    let (state, nonce) = (field(location, "state=", "&"), field(location, "nonce=", "&"));
    let flow = format!("Cookie: {}", field(&begun, "set-cookie: ", ";"));
    let back = get(&format!("/redirect?code={nonce}&state={state}"), &[&flow, "Connection: close"]);
    let answer = once(port, &back);
    let at = answer.find("mod_auth_openidc_session=").unwrap_or_else(|| panic!("no session came of a login: {answer}"));
    answer[at..].split([';', '\r']).next().unwrap().to_owned()
}

fn version() -> String {
    let words = ["-W", "-f", "${Package} ${Version}  ", "apache2", "libapache2-mod-auth-openidc"];
    let told = Command::new("dpkg-query").args(words).output();
    told.map_or_else(|_| "Apache".to_owned(), |told| String::from_utf8_lossy(&told.stdout).trim().to_owned())
}
