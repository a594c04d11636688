//! Whatever is sent as a target: it is refused, or what was matched is what is forwarded.

use std::time::Duration;

use tokio::time::timeout;

use crate::harness::{RawClient, Setup, Upstream};

const PIECES: [&str; 44] = [
    "open",
    "secret",
    "a",
    "B",
    "~",
    ".",
    "..",
    "...",
    "/",
    "/",
    "/",
    "//",
    "\\",
    ";",
    ";a=b",
    "%2e",
    "%2E%2e",
    "%2f",
    "%2F",
    "%5c",
    "%5C",
    "%00",
    "%0a",
    "%61",
    "%73ecret",
    "secre%74",
    "%7e",
    "%25",
    "%252e",
    "%252f",
    "%c0%ae",
    "%e2%82%ac",
    "%zz",
    "%",
    "%2",
    "?",
    "?x=/open/secret/",
    "#",
    "&",
    "+",
    "@",
    ":",
    " ",
    "\t",
];

/// A repeatable stream of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// RFC 3986 §6.2.2.2: only escapes of letters that need none are read.
fn plain(path: &str) -> String {
    let mut left = path;
    let mut out = String::new();
    while let Some(at) = left.find('%') {
        out.push_str(&left[..at]);
        let escape = &left[at..at + 3];
        let byte = u8::from_str_radix(&escape[1..], 16).unwrap();
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(escape);
        }
        left = &left[at + 3..];
    }
    out + left
}

#[tokio::test]
async fn what_is_matched_is_what_is_forwarded_or_it_is_refused() {
    let (open, secret) = (Upstream::start().await, Upstream::start().await);
    let route = |path: &str, service: &str| {
        format!(
            "{{ id: {service}, path: \"{path}\", target_service: {service}_service, preserve_path: true, auth: none }}"
        )
    };
    let setup = Setup::new()
        .service_alone("open", &open.url(), None, "timeout: 10")
        .service_alone("secret", &secret.url(), None, "timeout: 10")
        .route(&route("/open/*", "open"))
        .route(&route("/open/secret/*", "secret"));
    let edge = setup.start().await;
    let full = std::env::var("SCALE").is_ok_and(|scale| scale == "full");
    let (mut numbers, mut forwarded) = (Numbers(0x9e37_79b9_7f4a_7c15), 0);
    let mut client = RawClient::connect(edge.address()).await;
    for _ in 0..if full { 50_000 } else { 2_500 } {
        let pieces: String = (0..=numbers.below(7)).map(|_| PIECES[numbers.below(PIECES.len())]).collect();
        let target = format!("/open/{pieces}");
        let before = (open.count(), secret.count());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let answer = timeout(Duration::from_secs(10), client.reader.head()).await.expect("an answer at once");
        let head = answer.unwrap().unwrap_or_else(|| panic!("no answer to {target:?}"));
        client.reader.body(&head).await.unwrap();
        if head.status() == 200 {
            forwarded += 1;
            let path = target.split('?').next().unwrap();
            let wanted = plain(path) + &target[path.len()..];
            let is_secret = wanted.starts_with("/open/secret/");
            let service = if is_secret { &secret } else { &open };
            assert_eq!(service.last().target(), wanted, "{target:?}");
            let after = (before.0 + usize::from(!is_secret), before.1 + usize::from(is_secret));
            assert_eq!((open.count(), secret.count()), after, "{target:?}");
        } else {
            assert!((400..=414).contains(&head.status()), "{target:?}: {}", head.start_line());
            assert_eq!((open.count(), secret.count()), before, "{target:?}");
        }
        if head.one("connection").as_deref() == Some("close") {
            client = RawClient::connect(edge.address()).await;
        }
    }
    assert!(forwarded > 100, "{forwarded}: most of them were refused; the test tells little");
}
