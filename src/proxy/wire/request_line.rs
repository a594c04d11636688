//! The request line (RFC 9112 §3): one method, one target in one of the four forms, one version.

use std::net::Ipv6Addr;

use crate::config::is_token;
use crate::reply::ProxyError;

/// What later lines are held against.
#[derive(Debug)]
pub(super) struct RequestLine {
    /// Tunnels are not opened here.
    pub(super) is_connect: bool,
    /// The host of an absolute-form target.
    pub(super) authority: Option<Vec<u8>>,
    /// The digit after `HTTP/1.`
    pub(super) minor: u8,
}

impl RequestLine {
    pub(super) fn parse(line: &[u8]) -> Result<Self, ProxyError> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return bad("the request line is not METHOD TARGET VERSION with one space between");
        };
        if !is_token(method) || target.is_empty() {
            return bad("the request line has no method or no target");
        }
        if target.contains(&b'#') {
            return bad("the request target contains a fragment");
        }
        if !is_uri_text(target) {
            return bad("the request target contains a character that must be percent-encoded");
        }
        let minor = match version {
            b"HTTP/1.1" => 1,
            b"HTTP/1.0" => 0,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(ProxyError::VersionNotSupported);
            }
            _ => return bad("the request line does not end in an HTTP version"),
        };
        let authority = authority_of(method, target)?;
        Ok(Self { is_connect: method == b"CONNECT", authority, minor })
    }
}

/// Whether the engine can read it: some of the characters that no URI may carry (RFC 3986 §2) it answers without a
/// word. What else is wrong with a path is found with the path.
fn is_uri_text(target: &[u8]) -> bool {
    let mark = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at_checked(mark).unwrap_or((target, b""));
    let fits = |text: &[u8], wrong: &[u8]| !text.iter().any(|byte| wrong.contains(byte));
    fits(path, b"<>`") && fits(query, b"<>\"") && (query.is_ascii() || std::str::from_utf8(query).is_ok())
}

/// RFC 9112 §3.2: each form with the methods it is for.
fn authority_of(method: &[u8], target: &[u8]) -> Result<Option<Vec<u8>>, ProxyError> {
    let allowed = match target {
        [b'/', ..] => true,
        b"*" => method == b"OPTIONS",
        _ => method == b"CONNECT",
    };
    if allowed {
        return Ok(None);
    }
    let Some(rest) = after_scheme(target) else { return bad("the request target is neither a path nor an http URL") };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    if !valid_authority(authority) {
        return bad("the request target's host is not a host name with at most one port");
    }
    Ok(Some(authority.to_vec()))
}

/// What follows the scheme of an absolute-form target (RFC 9112 §3.2.2).
pub(in crate::proxy) fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// `host` or `host:port`: a name, an IPv4 address or an IPv6 address in brackets. No user, no list.
pub(in crate::proxy) fn valid_authority(text: &[u8]) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix(b"[") {
        let Some((address, port)) = split_once(rest, b']') else { return false };
        let port = match port {
            [] => None,
            [b':', port @ ..] => Some(port),
            _ => return false,
        };
        (std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()), port)
    } else {
        let (name, port) = split_once(text, b':').map_or((text, None), |(name, port)| (name, Some(port)));
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        (!name.is_empty() && name.iter().all(plain), port)
    };
    // A number may be read with a sign.
    let digits = |port: &[u8]| !port.is_empty() && port.iter().all(u8::is_ascii_digit);
    let number = |port: &[u8]| std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok());
    host && port.is_none_or(|port| digits(port) && number(port))
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(text.iter().position(|byte| *byte == at)?)?;
    Some((before, after.get(1..)?))
}

pub(super) fn bad<T>(why: &str) -> Result<T, ProxyError> {
    Err(ProxyError::BadRequest(why.to_owned()))
}
