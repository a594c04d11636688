//! A program that does the same job as a session route, with the people who are logged in there; and the token endpoint that
//! its logins ask.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::json;

use crate::scenario::Target;
use crate::stand::message::head;
use crate::stand::process::Process;
use crate::stand::provider::Provider;
use crate::stand::upstream::answer as whole;

/// It runs, and these are logged in.
pub struct Peer {
    pub target: Target,
    pub process: Process,
    pub port: u16,
    pub cookies: Vec<String>,
    pub version: String,
}

/// What stands between `label`, in whatever case, and `end`.
pub fn field<'a>(text: &'a str, label: &str, end: &str) -> &'a str {
    let at = text.to_ascii_lowercase().find(label).unwrap_or_else(|| panic!("no {label} in {text}")) + label.len();
    text[at..].split(end).next().unwrap().lines().next().unwrap()
}

/// A token endpoint that takes every code for a nonce (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3), and the
/// metadata that names it: written into the configuration itself, an endpoint would have to be on https.
pub fn token_endpoint(provider: Arc<Provider>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, mut stream) in listener.incoming().flatten().enumerate() {
            let Some(request) = read(&mut stream) else { continue };
            let issuer = provider.issuer();
            let body = if request.starts_with("GET ") {
                json!({
                    "issuer": issuer, "jwks_uri": format!("{issuer}/jwks"), "response_types_supported": ["code"],
                    "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("http://{address}/token"),
                    "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
                })
            } else {
                let subject = format!("user-{number}");
                let id_token = provider.id_token(&subject, field(&request, "code=", "&"));
                json!({
                    "access_token": provider.access_token(&subject), "token_type": "Bearer", "expires_in": 86_400,
                    "id_token": id_token,
                })
            };
            let _ = stream.write_all(&whole("application/json", "no-store", body.to_string().as_bytes()));
        }
    });
    address
}

fn read(stream: &mut TcpStream) -> Option<String> {
    let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
    while head(&request).is_none_or(|(end, length)| request.len() < end + length) {
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&request).into_owned())
}
