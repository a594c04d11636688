//! Cookies and stored records for `tests/fuzz`.
#![allow(clippy::missing_panics_doc, reason = "a panic is a finding")]

use std::sync::LazyLock;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use url::Url;

use super::store::Record;
use super::{CookieToken, Cut, Reading, Sealer, SessionCookie, payload};
use crate::config::fuzzing::session;
use crate::resilience::UnixTime;

const SETTINGS: &str = "server: { public_url: \"http://localhost:8080\" }\n\
  session: { store: \"memory:\", secret: \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\", cookie_aliases: [_old] }\n";

/// `Cookie` fields, one a line: what is cut has nothing of ours left in it.
pub fn cookies(data: &[u8]) {
    static COOKIES: LazyLock<Option<SessionCookie>> = LazyLock::new(|| {
        let url = Url::parse("http://localhost:8080").ok()?;
        SessionCookie::new(&session(SETTINGS)?, &url).ok()
    });
    let Some(cookies) = COOKIES.as_ref() else { unreachable!("the settings are good") };
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(16) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(COOKIE, value);
        }
    }
    if let Reading::One(token) = cookies.read(&headers) {
        assert!(headers.iter().any(|(_, value)| contains(value.as_bytes(), token.expose().as_bytes())));
    }
    for id in cookies.flow_ids(&headers) {
        let _ = cookies.flow_read(&headers, id);
    }
    if let Cut::Replaced(rest) = cookies.cut(&headers) {
        let left = HeaderMap::from_iter([(COOKIE, rest)]);
        assert_eq!(cookies.read(&left), Reading::None);
        assert!(cookies.flow_ids(&left).is_empty());
        assert_eq!(cookies.cut(&left), Cut::Unchanged);
    }
    let _ = cookies.would_be_ours(data);
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// A cookie's value and what is found in the store under it: nothing opens that was not sealed here.
pub fn sealed(data: &[u8]) {
    static SEALER: LazyLock<Option<Sealer>> = LazyLock::new(|| Sealer::open(&session(SETTINGS)?).ok());
    let Some(sealer) = SEALER.as_ref() else { unreachable!("the settings are good") };
    let (value, rest) = data.split_at_checked(64).unwrap_or((data, b""));
    assert!(sealer.open_note("half", rest).is_err());
    let Some(token) = CookieToken::parse(value) else { return };
    assert_eq!(token.expose().as_bytes(), value, "one token, one spelling");
    let record = Record {
        version: 1,
        issuer: "https://idp.example".to_owned(),
        subject: "ada".to_owned(),
        idp_session: None,
        created_at: UnixTime(0),
        expires_at: UnixTime(1),
        ends_at: UnixTime(2),
        sealed: rest.to_vec(),
    };
    assert!(sealer.open_record(&token, &token.session_key(), &record).is_err());
}

/// What is inside a record, once it was opened: read, written and read it is the same.
pub fn record(data: &[u8]) {
    let Ok(read) = payload::read(data) else { return };
    let written = payload::write(&read.identity, read.authenticated_at, &read.tokens);
    let Ok(written) = written else { unreachable!("what was read can be written") };
    let again = payload::read(&written).map(|again| again.identity).ok();
    assert_eq!(again.as_ref(), Some(&read.identity));
}
