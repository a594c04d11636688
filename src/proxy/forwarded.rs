//! What a trusted proxy in front says of the client: `X-Forwarded-*` or `Forwarded` (RFC 7239).

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::headers::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};

/// The client as a proxy in front saw it. Absent: nothing was said, or nothing readable.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Told {
    /// Addresses from the client on, separated by commas.
    pub(in crate::proxy) chain: Option<String>,
    /// `https` or `http`.
    pub(in crate::proxy) proto: Option<String>,
    /// Host, perhaps with a port.
    pub(in crate::proxy) host: Option<String>,
}

/// What `peer` says, if it is a trusted proxy; from anybody else these headers say nothing.
pub(in crate::proxy) fn believed(peer: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> Told {
    if is_trusted(trusted, peer) { told(headers) } else { Told::default() }
}

fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// Reads both spellings. Where both came, one of them may be the client's own, passed on by a proxy that
/// writes the other: only what both say is believed then.
pub(in crate::proxy) fn told(headers: &HeaderMap) -> Told {
    let (old, new) = (unregistered(headers), registered(headers));
    if old == Told::default() || !headers.contains_key(FORWARDED) {
        return if old == Told::default() { new } else { old };
    }
    let peer = |chain: &Option<String>| chain.as_ref()?.rsplit(',').next().map(|node| node.trim().to_owned());
    let same_peer = peer(&old.chain) == peer(&new.chain);
    Told {
        chain: old.chain.filter(|_| same_peer),
        proto: old.proto.filter(|proto| new.proto.as_ref() == Some(proto)),
        host: old.host.filter(|host| new.host.as_ref() == Some(host)),
    }
}

/// `X-Forwarded-*`. Of several lines, or of several members of one (RFC 9110 §5.3), the last one is the trusted proxy's
/// own: it adds behind what it was sent, which anybody may have written.
fn unregistered(headers: &HeaderMap) -> Told {
    let lines: Vec<_> = headers.get_all(&FORWARDED_FOR).iter().map(text).collect();
    let last = |name: &HeaderName| readable(text(headers.get_all(name).iter().next_back()?).rsplit(',').next()?.trim());
    Told {
        chain: chain(lines.iter().flat_map(|line| line.split(','))),
        proto: last(&FORWARDED_PROTO),
        host: last(&FORWARDED_HOST),
    }
}

/// `Forwarded`; the last element is the trusted proxy's own.
fn registered(headers: &HeaderMap) -> Told {
    let elements = elements(headers);
    let own = |name: &str| {
        let mut pairs = elements.last()?.iter();
        pairs.find_map(|(key, value)| if key == name { readable(value) } else { None })
    };
    let nodes = elements.iter().flatten().filter(|(key, _)| key == "for");
    Told {
        chain: chain(nodes.map(|(_, node)| address(node))),
        proto: own("proto").map(|proto| proto.to_ascii_lowercase()),
        host: own("host"),
    }
}

/// The client's own address: of the chain's end the first that is no trusted proxy. What is further on
/// anybody may have written.
pub(in crate::proxy) fn client(peer: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> IpAddr {
    let chain = believed(peer, trusted, headers).chain.unwrap_or_default();
    let mut known = peer;
    for hop in chain.rsplit(',') {
        let Ok(hop) = address(hop.trim()).parse::<IpAddr>() else { break };
        known = hop.to_canonical();
        if !is_trusted(trusted, known) {
            break;
        }
    }
    known
}

/// A line with a sign in place of each byte that nobody can read: the client's part of it must not take the rest along.
fn text(line: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(line.as_bytes())
}

/// What is there, and can be read.
fn readable(value: &str) -> Option<String> {
    (!value.trim().is_empty() && value.is_ascii()).then(|| value.to_owned())
}

/// The addresses as one line. What cannot be read keeps its place, by the word of RFC 7239 §6.2.
fn chain<'a>(hops: impl Iterator<Item = &'a str>) -> Option<String> {
    let hops = hops.map(str::trim).filter(|hop| !hop.is_empty());
    let hops: Vec<&str> = hops.map(|hop| if hop.is_ascii() { hop } else { "unknown" }).collect();
    (!hops.is_empty()).then(|| hops.join(", "))
}

/// RFC 7239 §4: elements between commas, pairs between semicolons, values as tokens or quoted.
fn elements(headers: &HeaderMap) -> Vec<Vec<(String, String)>> {
    let lines: Vec<_> = headers.get_all(FORWARDED).iter().map(text).collect();
    let elements = lines.iter().flat_map(|line| split(line, ','));
    elements.map(|element| split(element, ';').into_iter().filter_map(pair).collect()).collect()
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let plain = match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace('\\', ""),
        None => value.to_owned(),
    };
    Some((name.trim().to_ascii_lowercase(), plain))
}

/// Splits at `separator` outside of quotes. From the end, where the trusted proxy wrote: a quote that the client left
/// open must not take that into itself.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut end, mut quoted) = (Vec::new(), text.len(), false);
    for (at, one) in text.char_indices().rev() {
        if one == '"' && !is_escaped(text, at) {
            quoted = !quoted;
        } else if one == separator && !quoted {
            parts.push(text.get(at + 1..end).unwrap_or_default());
            end = at;
        }
    }
    parts.push(text.get(..end).unwrap_or_default());
    parts.reverse();
    parts
}

fn is_escaped(text: &str, at: usize) -> bool {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// RFC 7239 §6: a node without its port; IPv6 stands in brackets there, and bare in `X-Forwarded-For`.
fn address(node: &str) -> &str {
    if let Some((inside, _port)) = node.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inside;
    }
    match node.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&'static str, &str)]) -> [Option<String>; 3] {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let told = told(&headers);
        [told.chain, told.proto, told.host]
    }

    #[test]
    fn both_spellings_say_the_same() {
        let some = |chain: &str, proto: &str, host: &str| [chain, proto, host].map(|one| Some(one.to_owned()));
        let old = [
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
        ];
        let wanted = some("203.0.113.7, 10.0.0.1", "https", "shop.example");
        assert_eq!(read(&old), wanted);
        let one_line = [
            ("x-forwarded-for", "203.0.113.7, 10.0.0.1"),
            ("x-forwarded-proto", "http,https"),
            ("x-forwarded-host", "evil.example, shop.example"),
        ];
        assert_eq!(read(&one_line), wanted, "Apache adds its own behind a comma");
        for line in [
            "for=203.0.113.7;host=evil.example, for=10.0.0.1;proto=https;host=shop.example",
            "For=\"203.0.113.7:4711\",for=10.0.0.1; Proto=HTTPS ;by=\"a,b;c\";Host=\"shop.example\"",
        ] {
            assert_eq!(read(&[("forwarded", line)]), wanted, "{line}");
        }
        let six = read(&[("forwarded", "for=\"[2001:db8::1]:80\""), ("forwarded", "for=unknown, for=_hidden")]);
        assert_eq!(six, [Some("2001:db8::1, unknown, _hidden".to_owned()), None, None]);
    }

    #[test]
    fn the_client_is_the_last_whom_no_trusted_proxy_is() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "127.0.0.1/32".parse().unwrap()];
        let client = |peer: &str, chain: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", HeaderValue::from_str(chain).unwrap());
            client(peer.parse().unwrap(), &trusted, &headers).to_string()
        };
        assert_eq!(client("192.0.2.1", "203.0.113.7"), "192.0.2.1", "a stranger's word counts nothing");
        assert_eq!(client("127.0.0.1", "203.0.113.7"), "203.0.113.7");
        assert_eq!(client("127.0.0.1", "1.1.1.1, 203.0.113.7, 10.1.2.3"), "203.0.113.7", "nor what it sent along");
        assert_eq!(client("127.0.0.1", "203.0.113.7:4711,10.1.2.3"), "203.0.113.7");
        assert_eq!(client("127.0.0.1", "[2001:db8::1]:80"), "2001:db8::1");
        assert_eq!(client("127.0.0.1", "10.9.9.9, 10.1.2.3"), "10.9.9.9");
        assert_eq!(client("127.0.0.1", "1.1.1.1, unknown, 10.1.2.3"), "10.1.2.3");
        assert_eq!(client("127.0.0.1", ""), "127.0.0.1");
    }

    #[test]
    fn what_the_spellings_disagree_on_is_not_believed_and_nonsense_says_nothing() {
        let older = read(&[("forwarded", "for=a;host=evil.example;proto=https, for=b")]);
        assert_eq!(older, [Some("a, b".to_owned()), None, None], "only the last element is the proxy's own");
        let clients_own = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("forwarded", "for=198.51.100.1;proto=http"),
        ];
        assert_eq!(read(&clients_own), [None, None, None]);
        let both = [
            ("x-forwarded-for", "10.9.9.9, 198.51.100.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("forwarded", "for=198.51.100.1;proto=https;host=shop.example"),
        ];
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read(&both), [some("10.9.9.9, 198.51.100.1"), some("https"), some("shop.example")]);
        for nonsense in ["", ",", ";;", "=", "for", "\"", "for=\"", "\\\"=;,"] {
            assert_eq!(read(&[("forwarded", nonsense)])[1..], [None, None], "{nonsense}");
        }
    }

    #[test]
    fn what_the_client_wrote_unreadably_takes_nothing_else_along() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let client = |name: &'static str, line: &[u8]| {
            let headers = [(HeaderName::from_static(name), HeaderValue::from_bytes(line).unwrap())];
            client("10.0.0.1".parse().unwrap(), &trusted, &headers.into_iter().collect()).to_string()
        };
        assert_eq!(client("x-forwarded-for", b"\xff, 203.0.113.7, 10.1.2.3"), "203.0.113.7");
        assert_eq!(client("x-forwarded-for", b"203.0.113.9, \xc3\xa9, 10.1.2.3"), "10.1.2.3");
        assert_eq!(client("x-forwarded-for", b"203.0.113.9, , 10.1.2.3"), "203.0.113.9");
        assert_eq!(client("forwarded", b"for=\xff, for=203.0.113.7;host=\xff"), "203.0.113.7");
        assert_eq!(client("forwarded", b"for=\"x, for=203.0.113.7"), "203.0.113.7");
        assert_eq!(client("forwarded", b"for=\"x\\\", for=\"203.0.113.7:80\";by=\"a,b\""), "203.0.113.7");
        let lines = [
            ("x-forwarded-for", "\u{e9}, 203.0.113.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "\u{e9}"),
        ];
        assert_eq!(read(&lines), [Some("unknown, 203.0.113.7".to_owned()), Some("https".to_owned()), None]);
    }

    #[test]
    fn an_empty_line_says_nothing() {
        let empty = [("x-forwarded-for", ""), ("x-forwarded-proto", ""), ("x-forwarded-host", " ")];
        assert_eq!(read(&empty), [None, None, None]);
        let then = [("x-forwarded-for", " , "), ("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "")];
        assert_eq!(read(&then), [Some("203.0.113.7".to_owned()), None, None]);
    }
}
