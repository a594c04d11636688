//! The public cases of `http_desync_guardian` (`tests/fixtures/desync`), each sent as it is written.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use crate::harness::{RawClient, Setup, Upstream};
use crate::request_framing::refusal;

#[derive(Deserialize)]
struct Case {
    name: String,
    /// `Compliant`, `Acceptable`, `Ambiguous`, `Severe`.
    tier: String,
    method: String,
    uri: String,
    version: String,
    headers: Vec<(String, String)>,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.method.as_str(), &self.uri].map(latin).join(&b' ');
        if !self.version.is_empty() {
            bytes.extend([b" ", &*latin(&self.version)].concat());
        }
        bytes.extend(b"\r\n");
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            bytes.extend(b"Host: h\r\n");
        }
        for (name, value) in &self.headers {
            bytes.extend([&*latin(name), b": ", &latin(value), b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        let length = self.header("content-length").and_then(|value| value.parse::<usize>().ok());
        match (self.header("transfer-encoding"), length) {
            (Some(_), _) => bytes.extend(b"0\r\n\r\n"),
            (None, Some(length)) if length < 10_000_000 => bytes.resize(bytes.len() + length, b'x'),
            _ => {}
        }
        bytes
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))?;
        Some(found.1.trim())
    }

    /// What the cases take and this edge does not: codings that it would have to undo, and targets that two
    /// readers take for two things.
    fn is_refused_by_choice(&self) -> bool {
        let coded = self.header("transfer-encoding").is_some_and(|value| !value.eq_ignore_ascii_case("chunked"));
        let escaped_control = ["%09", "%0D", "%0A"].iter().any(|escape| self.uri.contains(escape));
        coded || escaped_control || self.uri.is_empty() || self.uri.contains('#') || !self.uri.is_ascii()
    }
}

/// One byte a character where there is one, as the cases mean it.
fn latin(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for one in text.chars() {
        match u8::try_from(u32::from(one)) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend(one.to_string().bytes()),
        }
    }
    bytes
}

#[tokio::test]
async fn severe_cases_are_refused_and_closed_and_compliant_ones_are_served() {
    let upstream = Upstream::start().await;
    let all = "{ id: all, path: \"/*\", target_service: own_service, preserve_path: true, auth: none }";
    let edge = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 10").route(all).start().await;
    let cases: Vec<Case> = serde_json::from_str(include_str!("../fixtures/desync/cases.json")).unwrap();
    let mut seen = [0, 0, 0];
    for case in &cases {
        let (bytes, before) = (case.bytes(), upstream.heads());
        if case.tier == "Severe" {
            seen[0] += 1;
            assert_eq!(refusal(&edge, &bytes, &case.name).await / 100, 4, "{}", case.name);
            assert_eq!(upstream.heads(), before, "{}", case.name);
            continue;
        }
        let mut client = RawClient::connect(edge.address()).await;
        client.send(&bytes).await;
        let answer = timeout(Duration::from_secs(10), client.reader.head()).await.expect(&case.name);
        let status = answer.unwrap().unwrap_or_else(|| panic!("no answer: {}", case.name)).status();
        match (case.tier.as_str(), status) {
            ("Compliant", 200) => seen[1] += 1,
            ("Compliant", 400) if case.is_refused_by_choice() => seen[2] += 1,
            ("Ambiguous" | "Acceptable", 200 | 400 | 505) => {}
            _ => panic!("{}: {status} is not for {} cases", case.name, case.tier),
        }
        assert_eq!(upstream.heads(), before + usize::from(status == 200), "{}", case.name);
    }
    assert_eq!((cases.len(), seen), (159, [58, 15, 13]));
}
