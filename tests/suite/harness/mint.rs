//! A provider that is nothing but fast: whoever brings a code is who the code says, refresh tokens work once, and
//! the token endpoint fails as it is told to. It remembers who asked for a refresh, and when.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use url::form_urlencoded;

use crate::harness::liar::{jwk, now};

/// How the token endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    Well,
    Status(u16),
    Hang,
    Reset,
}

/// Somebody asked for a refresh.
#[derive(Debug, Clone)]
pub(crate) struct Try {
    pub(crate) user: String,
    pub(crate) at: Instant,
    pub(crate) served: bool,
}

/// Threads of its own; they end with their connections, the one that accepts with this.
pub(crate) struct Mint {
    pub(crate) issuer: String,
    address: SocketAddr,
    house: Arc<House>,
}

struct House {
    issuer: String,
    key: EncodingKey,
    jwks: String,
    /// Seconds that the login's token of this user lives; those of refreshes live long.
    lifetime: fn(&str) -> u64,
    mood: Mutex<Mood>,
    /// The only refresh token of each user that works, by its number.
    current: Mutex<HashMap<String, u64>>,
    tries: Mutex<Vec<Try>>,
    over: AtomicBool,
}

/// The first access token of this user.
pub(crate) fn first_token(user: &str) -> String {
    format!("token-of-{user}-0")
}

impl Mint {
    pub(crate) fn start(lifetime: fn(&str) -> u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (issuer, pair) = (format!("http://{address}"), rcgen::KeyPair::generate().unwrap());
        let house = Arc::new(House {
            issuer: issuer.clone(),
            key: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(),
            jwks: serde_json::json!({ "keys": [jwk(&pair, "k1")] }).to_string(),
            lifetime,
            mood: Mutex::new(Mood::Well),
            current: Mutex::default(),
            tries: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let open = Arc::clone(&house);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if open.over.load(Ordering::SeqCst) {
                    return;
                }
                let house = Arc::clone(&open);
                std::thread::Builder::new().stack_size(512 * 1024).spawn(move || house.serve(stream)).unwrap();
            }
        });
        Self { issuer, address, house }
    }

    /// From now on.
    pub(crate) fn be(&self, mood: Mood) {
        *self.house.mood.lock().unwrap() = mood;
    }

    /// Refreshes asked for so far.
    pub(crate) fn tries(&self) -> Vec<Try> {
        self.house.tries.lock().unwrap().clone()
    }
}

impl Drop for Mint {
    fn drop(&mut self) {
        self.house.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl House {
    fn serve(&self, mut stream: TcpStream) {
        let (mut seen, mut chunk) = (Vec::new(), [0; 8192]);
        let _ = stream.set_nodelay(true);
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            seen.extend_from_slice(&chunk[..count]);
            let text = String::from_utf8_lossy(&seen).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let fields = head.lines().filter_map(|line| line.split_once(':'));
            let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            if body.len() < lengths.next().map_or(0, |(_, value)| value.trim().parse().unwrap()) {
                continue;
            }
            let path = head.split(' ').nth(1).and_then(|target| target.split('?').next()).unwrap_or_default();
            let Some((status, answer)) = self.answer(path, body) else {
                if *self.mood.lock().unwrap() == Mood::Reset {
                    reset(&stream);
                    return;
                }
                // Until whoever asked gives up.
                while let Ok(1..) = stream.read(&mut chunk) {}
                return;
            };
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            if stream.write_all((head + &answer).as_bytes()).is_err() {
                return;
            }
            seen.clear();
        }
    }

    /// `None`: no answer.
    fn answer(&self, path: &str, body: &str) -> Option<(u16, String)> {
        let at = |path: &str| format!("{}{path}", self.issuer);
        match path {
            "/.well-known/openid-configuration" => {
                let document = serde_json::json!({
                    "issuer": self.issuer, "authorization_endpoint": at("/auth"), "token_endpoint": at("/token"),
                    "jwks_uri": at("/jwks"),
                });
                Some((200, document.to_string()))
            }
            "/jwks" => Some((200, self.jwks.clone())),
            "/token" => {
                let form: HashMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
                let mood = *self.mood.lock().unwrap();
                let presented = form.get("refresh_token").and_then(|token| token.rsplit_once('.'));
                if let Some((user, _)) = presented {
                    let served = mood == Mood::Well;
                    self.tries.lock().unwrap().push(Try { user: user.to_owned(), at: Instant::now(), served });
                }
                match (mood, presented) {
                    (Mood::Hang | Mood::Reset, _) => None,
                    (Mood::Status(status), _) => Some((status, "{}".to_owned())),
                    (Mood::Well, Some((user, number))) => Some(self.refresh(user, number)),
                    (Mood::Well, None) => Some(self.redeem(&form["code"])),
                }
            }
            _ => Some((404, "{}".to_owned())),
        }
    }

    /// A code is `{user}.{nonce}.{client_id}`.
    fn redeem(&self, code: &str) -> (u16, String) {
        let [user, nonce, client] = code.splitn(3, '.').collect::<Vec<_>>()[..] else { panic!("{code}") };
        let (now, lifetime) = (now(), (self.lifetime)(user));
        let claims = format!(
            "{{\"iss\":\"{}\",\"aud\":\"{client}\",\"sub\":\"{user}\",\"iat\":{now},\"exp\":{},\"nonce\":\"{nonce}\"}}",
            self.issuer,
            now + 300
        );
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"k1"}"#), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, Algorithm::ES256).unwrap();
        self.current.lock().unwrap().insert(user.to_owned(), 0);
        let answer = format!(
            "{{\"access_token\":\"{}\",\"token_type\":\"Bearer\",\"expires_in\":{lifetime},\
             \"refresh_token\":\"{user}.0\",\"id_token\":\"{message}.{signature}\"}}",
            first_token(user)
        );
        (200, answer)
    }

    fn refresh(&self, user: &str, number: &str) -> (u16, String) {
        let mut current = self.current.lock().unwrap();
        let held = current.get_mut(user).filter(|held| number.parse() == Ok(**held));
        let Some(held) = held else { return (400, "{\"error\":\"invalid_grant\"}".to_owned()) };
        *held += 1;
        let answer = format!(
            "{{\"access_token\":\"token-of-{user}-{held}\",\"token_type\":\"Bearer\",\"expires_in\":3600,\
             \"refresh_token\":\"{user}.{held}\"}}"
        );
        (200, answer)
    }
}

/// Closing is then a reset.
fn reset(stream: &TcpStream) {
    let now = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &now).unwrap();
}
