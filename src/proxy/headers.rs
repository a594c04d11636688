//! Which request headers say who somebody is, in whatever spelling, and which we set ourselves.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request, response};
use pingora::http::{RequestHeader, ResponseHeader};

// Names that every request is asked for, read once: a `&str` is parsed at each look-up.
pub(super) static CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
pub(super) static FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
pub(super) static FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
pub(super) static ORIGINAL_USER: HeaderName = HeaderName::from_static("x-original-user");
pub(super) static API_KEY: HeaderName = HeaderName::from_static("x-empowerid-api-key");
pub(super) static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub(super) static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Fields that an answer usually gets on its way: the correlation id, `Date`, `Connection`, and what a cache tells.
const ANSWERED: usize = 5;

/// Which of the fields that every request is asked for it brings, or may bring. One walk past all of them says so: it
/// costs what two look-ups do, and most of what is looked for is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Presence(u16);

impl Presence {
    /// Nobody has looked.
    pub(super) const UNKNOWN: Self = Self(u16::MAX);
    pub(super) const ACCEPT: Self = Self(1);
    pub(super) const COOKIE: Self = Self(1 << 1);
    pub(super) const CORRELATION_ID: Self = Self(1 << 2);
    pub(super) const EXPECT: Self = Self(1 << 3);
    pub(super) const FETCH_MODE: Self = Self(1 << 4);
    pub(super) const ORIGIN: Self = Self(1 << 5);
    pub(super) const TRACEPARENT: Self = Self(1 << 6);
    pub(super) const TRACESTATE: Self = Self(1 << 7);
    pub(super) const TRANSFER_ENCODING: Self = Self(1 << 8);
    pub(super) const UPGRADE: Self = Self(1 << 9);
    pub(super) const AUTHORIZATION: Self = Self(1 << 10);
    pub(super) const CONNECTION: Self = Self(1 << 11);

    /// None of these fields is added later on.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |seen, name| seen | Self::named(name.as_str()).0))
    }

    pub(super) fn may_have(self, field: Self) -> bool {
        self.0 & field.0 != 0
    }

    fn named(name: &str) -> Self {
        match name {
            "accept" => Self::ACCEPT,
            "authorization" => Self::AUTHORIZATION,
            "connection" => Self::CONNECTION,
            "cookie" => Self::COOKIE,
            "x-correlation-id" => Self::CORRELATION_ID,
            "expect" => Self::EXPECT,
            "sec-fetch-mode" => Self::FETCH_MODE,
            "origin" => Self::ORIGIN,
            "traceparent" => Self::TRACEPARENT,
            "tracestate" => Self::TRACESTATE,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "upgrade" => Self::UPGRADE,
            _ => Self(0),
        }
    }
}

/// Exact names, folded.
pub(crate) const IDENTITY: &[&str] = &[
    "x-original-user",
    "x-user",
    "x-session-id",
    "x-auth-time",
    "x-empowerid-api-key",
    "forwarded",
    "x-real-ip",
    "x-correlation-id",
    "x-csrf-token",
    // Some frameworks serve this path instead of the one that was authorised.
    "x-original-url",
    "x-rewrite-url",
    // Read as an environment variable by CGI programs (httpoxy).
    "proxy",
];

/// Families, folded.
pub(crate) const IDENTITY_PREFIXES: &[&str] = &["x-user-", "x-forwarded-"];

/// How an inbound `Authorization` is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authorization {
    /// The caller's own credential is the route's business (`auth: none`, `auth: bearer`).
    Pass,
    /// We speak for the caller.
    Remove,
}

/// Forgets how the client spelt its fields' names: the engine keeps, copies and writes a second map of that. So
/// a service reads them in lower case (RFC 9110 §5.1), as it does of every HTTP/2 client.
pub(super) fn forget_spelling(request: &mut RequestHeader) {
    // A target of another form is kept beside the parts.
    if request.has_case() && request.raw_path_is_utf8() && request.raw_path().first() == Some(&b'/') {
        let parts = take_parts(request);
        *request = RequestHeader::from(parts);
    }
}

/// The same of an answer, of which `change` is made on the way: while it is in parts, a field costs a quarter of what it
/// does later. Clients, too, read lower case, but for the names that the engine writes as usual.
pub(super) fn forget_answer_spelling(
    response: &mut ResponseHeader,
    change: impl FnOnce(&mut HeaderMap),
) -> pingora::Result<()> {
    let canonical = response.status.canonical_reason();
    let phrase = response.get_reason_phrase().filter(|phrase| Some(*phrase) != canonical).map(str::to_owned);
    let (nothing, ()) = Response::new(()).into_parts();
    let mut parts: response::Parts = std::mem::replace(response, ResponseHeader::from(nothing)).into();
    // Ours and the engine's: the map grows once.
    let _ = parts.headers.try_reserve(ANSWERED);
    change(&mut parts.headers);
    *response = ResponseHeader::from(parts);
    if phrase.is_some() { response.set_reason_phrase(phrase.as_deref()) } else { Ok(()) }
}

/// The parts of `request`, which is empty until they are put back.
pub(super) fn take_parts(request: &mut RequestHeader) -> request::Parts {
    let (nothing, ()) = Request::new(()).into_parts();
    std::mem::replace(request, RequestHeader::from(nothing)).into()
}

/// Makes one field of the crumbs of `Cookie` (RFC 9113 §8.2.3), in a map without the room that they took: HPACK lets
/// a client say each in one byte, and each takes 72 here.
pub(super) fn join_crumbs(request: &mut RequestHeader) {
    let mut parts = take_parts(request);
    let crumbs: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        parts.headers.insert(COOKIE, cookie);
    }
    let mut lean = HeaderMap::new();
    lean.extend(parts.headers);
    parts.headers = lean;
    *request = RequestHeader::from(parts);
}

/// Lets go of the fields, and of the room for them.
pub(super) fn forget_fields(request: &mut RequestHeader) {
    let mut parts = take_parts(request);
    parts.headers = HeaderMap::new();
    *request = RequestHeader::from(parts);
}

/// Whether a field is one that goes no further than to us (RFC 9110 §7.6.1) and that the engine has to take away. A
/// `Connection` that names no other field is not: every browser sends it, and `forward` leaves it out.
pub(super) fn ends_here(name: &HeaderName, value: &HeaderValue) -> bool {
    match name.as_str() {
        "connection" => ![&b"keep-alive"[..], b"close"].iter().any(|word| value.as_bytes().eq_ignore_ascii_case(word)),
        "http2-settings"
        | "keep-alive"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "proxy-connection"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade" => true,
        _ => false,
    }
}

/// Removes every header that a service could take for our word about the caller.
pub(super) fn scrub(headers: &mut HeaderMap, authorization: Authorization) {
    let doomed: Vec<HeaderName> =
        headers.keys().filter(|name| is_identity(name.as_str(), authorization)).cloned().collect();
    for name in doomed {
        headers.remove(&name);
    }
}

fn is_identity(name: &str, authorization: Authorization) -> bool {
    // Every name of ours begins with one of these letters, folded or not.
    if !matches!(name.as_bytes().first(), Some(b'a' | b'f' | b'p' | b'x' | b'A' | b'F' | b'P' | b'X')) {
        return false;
    }
    // Names arrive in lower case; services behind CGI-like interfaces read `_` and `.` as `-`.
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return is_folded_identity(name, authorization);
    }
    let folded: String =
        name.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '-' }).collect();
    // A spelling that needs folding is never the plain `Authorization` a caller may send.
    is_folded_identity(&folded, Authorization::Remove)
}

fn is_folded_identity(name: &str, authorization: Authorization) -> bool {
    match name.as_bytes().first() {
        Some(b'a') => name == "authorization" && authorization == Authorization::Remove,
        Some(b'x' | b'f' | b'p') => {
            IDENTITY.contains(&name) || IDENTITY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        }
        _ => false,
    }
}

/// Bytes in lower-case hex. By hand: it runs thrice on every request, and a formatter costs several times as much.
pub(super) struct Digits<const TWICE: usize>(pub(super) [u8; TWICE]);

impl<const TWICE: usize> Digits<TWICE> {
    /// Of `N` bytes, where `TWICE` is twice that.
    pub(super) fn of<const N: usize>(bytes: [u8; N]) -> Self {
        const { assert!(TWICE == 2 * N) };
        // Without a branch, so that the compiler does many at once.
        let digit = |half: u8| half + b'0' + u8::from(half > 9) * (b'a' - b'0' - 10);
        let mut text = [b'0'; TWICE];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        Self(text)
    }
}

impl<const TWICE: usize> AsRef<[u8]> for Digits<TWICE> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_identity_header_is_known() {
        for name in [
            "x-original-user",
            "x_original_user",
            "x-original_user",
            "x-user-id",
            "x_user_roles",
            "x.user.id",
            "x-forwarded-for",
            "x_forwarded_host",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "x-session-id",
            "x-auth-time",
            "x-empowerid-api-key",
            "x_empowerid_api_key",
            "proxy",
            "x-original-url",
            "x_rewrite_url",
            "x-correlation_id",
            "authorization",
        ] {
            assert!(is_identity(name, Authorization::Remove), "{name}");
        }
        for name in ["accept", "x-request-id", "x-users", "content-type", "x-username", "proxy-status", "x-csrf"] {
            assert!(!is_identity(name, Authorization::Remove), "{name}");
        }
        assert!(!is_identity("authorization", Authorization::Pass));
    }

    #[test]
    fn what_is_not_seen_on_the_walk_is_not_there() {
        let names = [
            ("accept", Presence::ACCEPT),
            ("authorization", Presence::AUTHORIZATION),
            ("connection", Presence::CONNECTION),
            ("cookie", Presence::COOKIE),
            ("x-correlation-id", Presence::CORRELATION_ID),
            ("expect", Presence::EXPECT),
            ("sec-fetch-mode", Presence::FETCH_MODE),
            ("origin", Presence::ORIGIN),
            ("traceparent", Presence::TRACEPARENT),
            ("tracestate", Presence::TRACESTATE),
            ("transfer-encoding", Presence::TRANSFER_ENCODING),
            ("upgrade", Presence::UPGRADE),
        ];
        for (name, field) in names {
            let mut headers = HeaderMap::new();
            headers.append("host", HeaderValue::from_static("h"));
            assert!(!Presence::of(&headers).may_have(field), "{name}");
            headers.append(name, HeaderValue::from_static("a"));
            headers.append(name, HeaderValue::from_static("b"));
            let seen = names.map(|(_, other)| Presence::of(&headers).may_have(other));
            assert_eq!(seen, names.map(|(_, other)| other == field), "{name}");
            assert!(Presence::UNKNOWN.may_have(field), "{name}");
        }
    }

    #[test]
    fn hex_keeps_leading_zeroes() {
        assert_eq!(&Digits::of(0x00ff_10ab_cd00_0001_u64.to_be_bytes()).0, b"00ff10abcd000001");
        assert_eq!(&Digits::of((u128::from(u64::MAX) + 1).to_be_bytes()).0, b"00000000000000010000000000000000");
    }
}
