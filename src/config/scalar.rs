//! Readers of single values: texts, words, numbers, durations, URLs, addresses, secrets.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use super::diagnostic::{Collector, Diagnostic};
use super::mask::holds_secret;
use super::node::{Node, Value};
use super::reader::{one_or_many, refuse, scalar, suggest};
use super::secret::Secret;
use super::source::Spot;
use super::unit::{DURATION_FORMS, SIZE_FORMS, parse_duration, parse_size};

/// Of what would be right without them.
const UNQUOTE: &str = "it is quoted: remove the quotes";

/// `` `text` ``, which stands at `spot`, for a message; a secret is not repeated.
pub(super) fn quote(spot: &Spot, text: &str) -> String {
    if spot.is_hidden() { "this value".to_owned() } else { quote_text(text) }
}

/// As [`quote`], for what does not stand in a file.
pub(super) fn quote_text(text: &str) -> String {
    if holds_secret(text) {
        return "this value".to_owned();
    }
    let short: String =
        text.chars().take(80).map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("`{short}{more}`")
}

/// Any text; may be empty.
pub(super) fn any_text(node: &Node, found: &Collector) -> Option<String> {
    scalar(node, "a text", found).map(|scalar| scalar.text.clone())
}

/// A text with something in it.
pub(super) fn text(node: &Node, found: &Collector) -> Option<String> {
    let text = any_text(node, found)?;
    if text.trim().is_empty() { refuse(node, found, "expected a text, found an empty one", "") } else { Some(text) }
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node, found: &Collector) -> Option<bool> {
    let scalar = scalar(node, "true or false", found)?;
    match (scalar.plain, scalar.text.as_str()) {
        (true, "true") => Some(true),
        (true, "false") => Some(false),
        (plain, text) => {
            let label = match text.to_lowercase().as_str() {
                "true" | "false" if !plain => UNQUOTE,
                "true" | "yes" | "on" => "did you mean `true`?",
                "false" | "no" | "off" => "did you mean `false`?",
                _ => "",
            };
            refuse(node, found, format!("expected true or false, found {}", quote(&node.spot, text)), label)
        }
    }
}

/// A whole number within `range`.
pub(super) fn whole(range: std::ops::RangeInclusive<u64>) -> impl Fn(&Node, &Collector) -> Option<u64> {
    move |node, found| {
        let scalar = scalar(node, "a whole number", found)?;
        let number = scalar.text.parse().ok().filter(|number| range.contains(number));
        let quoted = number.is_some() && !scalar.plain;
        number.filter(|_| !quoted).or_else(|| {
            let (low, high) = (range.start(), range.end());
            refuse(
                node,
                found,
                format!("expected a whole number from {low} to {high}, found {}", quote(&node.spot, &scalar.text)),
                if quoted { UNQUOTE } else { "" },
            )
        })
    }
}

/// One of some words, each with its meaning.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Node, &Collector) -> Option<T> {
    move |node, found| {
        let scalar = scalar(node, "a word", found)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == scalar.text) {
            return Some(*meaning);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let error =
            Diagnostic::error(&node.spot, format!("{} is not a word known here", quote(&node.spot, &scalar.text)));
        let label = suggest(&scalar.text, names.iter().copied());
        found.push(error.label(label).note(format!("allowed here: {}", names.join(", "))));
        None
    }
}

/// A duration, zero included.
pub(super) fn duration(node: &Node, found: &Collector) -> Option<Duration> {
    let scalar = scalar(node, "a duration", found)?;
    parse_duration(&scalar.text).or_else(|| {
        let error = Diagnostic::error(&node.spot, format!("{} is not a duration", quote(&node.spot, &scalar.text)));
        found.push(error.note(format!("allowed: {DURATION_FORMS}, at most ten years")));
        None
    })
}

/// A duration above zero.
pub(super) fn positive_duration(node: &Node, found: &Collector) -> Option<Duration> {
    let read = duration(node, found)?;
    if read.is_zero() { refuse(node, found, "this duration must be above zero", "") } else { Some(read) }
}

/// A duration that is counted in whole seconds: a part of one, which would be none, counts as one.
pub(super) fn zero_or_seconds(node: &Node, found: &Collector) -> Option<Duration> {
    let read = duration(node, found)?;
    Some(if read.is_zero() { read } else { read.max(Duration::from_secs(1)) })
}

/// A duration of at least a second.
pub(super) fn seconds(node: &Node, found: &Collector) -> Option<Duration> {
    let read = positive_duration(node, found)?;
    let counts = read >= Duration::from_secs(1);
    if counts { Some(read) } else { refuse(node, found, "this duration must be at least one second", "") }
}

/// Bytes.
pub(super) fn size(node: &Node, found: &Collector) -> Option<u64> {
    let scalar = scalar(node, "a size", found)?;
    parse_size(&scalar.text).or_else(|| {
        let error = Diagnostic::error(&node.spot, format!("{} is not a size", quote(&node.spot, &scalar.text)));
        found.push(error.note(format!("allowed: {SIZE_FORMS}")));
        None
    })
}

/// `127.0.0.1:8080`, `[::]:443`, `localhost:8080` (IPv4 loopback).
pub(super) fn socket_address(node: &Node, found: &Collector) -> Option<SocketAddr> {
    let scalar = scalar(node, "an address such as `127.0.0.1:8080`", found)?;
    let written = scalar.text.replace("localhost:", "127.0.0.1:");
    written.parse().ok().or_else(|| {
        let error = Diagnostic::error(
            &node.spot,
            format!("{} is not an address to listen on", quote(&node.spot, &scalar.text)),
        );
        let label =
            match scalar.text.strip_prefix(':').or(Some(&*scalar.text)).filter(|rest| rest.parse::<u16>().is_ok()) {
                Some(port) => format!("`0.0.0.0:{port}` is every IPv4 interface, `127.0.0.1:{port}` this machine only"),
                None => String::new(),
            };
        found.push(
            error.label(label).note("allowed: an IP address and a port: `127.0.0.1:8080`, `0.0.0.0:443`, `[::]:443`"),
        );
        None
    })
}

/// `10.0.0.0/8`, or one address.
pub(super) fn network(node: &Node, found: &Collector) -> Option<IpNet> {
    let scalar = scalar(node, "a network such as `10.0.0.0/8`", found)?;
    let one = || scalar.text.parse::<IpAddr>().ok().map(IpNet::from);
    scalar.text.parse::<IpNet>().ok().or_else(one).map(canonical).or_else(|| {
        let error = Diagnostic::error(&node.spot, format!("{} is not a network", quote(&node.spot, &scalar.text)));
        found.push(error.note("allowed: CIDR notation or one address: `10.0.0.0/8`, `fd00::/8`, `192.0.2.7`"));
        None
    })
}

/// `::ffff:192.0.2.7` is how a listener on `[::]` names an IPv4 address: addresses are compared as IPv4.
fn canonical(net: IpNet) -> IpNet {
    let mapped = |net: Ipv6Net| {
        let length = net.prefix_len().checked_sub(96)?;
        Ipv4Net::new(net.addr().to_ipv4_mapped()?, length).ok()
    };
    match net {
        IpNet::V6(six) => mapped(six).map_or(net, IpNet::V4),
        IpNet::V4(_) => net,
    }
}

/// Scopes: words between spaces, or a list of words.
pub(super) fn scopes(node: &Node, found: &Collector) -> Option<Vec<String>> {
    let lists = one_or_many(node, found, any_text)?;
    let words = lists.iter().flat_map(|words| words.split_whitespace());
    let mut seen = Vec::new();
    for word in words.map(str::to_owned) {
        // scope-token of RFC 6749 §3.3
        if !word.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
            return refuse(
                node,
                found,
                format!("{} is not a scope", quote(&node.spot, &word)),
                "RFC 6749 §3.3: printable ASCII",
            );
        }
        if !seen.contains(&word) {
            seen.push(word);
        }
    }
    Some(seen)
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && token_length(text) == text.len()
}

/// How many bytes a token at the beginning of `text` has.
pub(crate) fn token_length(text: &[u8]) -> usize {
    // Asked of each name of each field, which is letters and hyphens: those first halve what that costs.
    let usual = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'-');
    // `!#$%&'*+.^_`|~` and digits, in ranges.
    let other =
        |byte: u8| matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'.' | b'0'..=b'9' | b'^'..=b'`' | b'|' | b'~');
    text.iter().position(|byte| !usual(*byte) && !other(*byte)).unwrap_or(text.len())
}

/// Whether only this machine can be meant, where plain `http` is acceptable: `localhost`,
/// `*.localhost` (RFC 6761 §6.3), 127.0.0.0/8 and `[::1]`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// An `http` or `https` URL with a host, without credentials, query and fragment.
pub(super) fn url(node: &Node, found: &Collector) -> Option<Url> {
    url_by(parse_url, node, found)
}

fn url_by(parse: fn(&str) -> Result<Url, String>, node: &Node, found: &Collector) -> Option<Url> {
    let text = text(node, found)?;
    match parse(&text) {
        Ok(url) => Some(url),
        Err(reason) => refuse(node, found, format!("{} is not a usable URL: {reason}", quote(&node.spot, &text)), ""),
    }
}

/// As [`url`], for texts that come from the environment.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let url = parse_endpoint(text)?;
    if url.query().is_some() { Err("it must not have a query (`?`)".to_owned()) } else { Ok(url) }
}

fn parse_endpoint(text: &str) -> Result<Url, String> {
    if !text.contains("://") {
        return Err("it must begin with `http://` or `https://`".to_owned());
    }
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the scheme must be http or https, not `{}`", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not carry a user or password".to_owned());
    }
    if url.fragment().is_some() {
        return Err("it must not have a fragment (`#`)".to_owned());
    }
    if text.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == '\\') {
        return Err("it must not hold spaces, control characters or backslashes".to_owned());
    }
    Ok(url)
}

/// As [`url`]; plain `http` only for this machine: tokens and keys travel there.
pub(super) fn secure_url(node: &Node, found: &Collector) -> Option<Url> {
    secure(url(node, found)?, node, found)
}

/// As [`secure_url`]; may have a query, which stays (RFC 6749 §3.1, §3.2).
pub(super) fn endpoint_url(node: &Node, found: &Collector) -> Option<Url> {
    secure(url_by(parse_endpoint, node, found)?, node, found)
}

fn secure(url: Url, node: &Node, found: &Collector) -> Option<Url> {
    if url.scheme() == "https" || is_loopback(&url) {
        return Some(url);
    }
    refuse(node, found, "this URL must be https", "plain http is accepted for localhost, 127.0.0.0/8 and [::1] only")
}

/// A secret: as written, or `file:/path`, whose content loses one trailing newline. Empty reads as `None`.
pub(super) fn secret(node: &Node, found: &Collector) -> Option<Secret> {
    if matches!(node.value, Value::Null) {
        return None;
    }
    let scalar = scalar(node, "a text", found)?;
    let Some(path) = scalar.text.strip_prefix("file:") else {
        return (!scalar.text.is_empty()).then(|| Secret::new(scalar.text.clone()));
    };
    match std::fs::read_to_string(path) {
        Ok(content) => {
            let trimmed = content.strip_suffix('\n').unwrap_or(&content);
            let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
            if trimmed.is_empty() {
                return refuse(node, found, format!("the secret's file {} is empty", quote_text(path)), "");
            }
            Some(Secret::new(trimmed))
        }
        Err(error) => {
            let reason = if error.kind() == std::io::ErrorKind::InvalidData {
                "it is not text".to_owned()
            } else {
                error.to_string()
            };
            refuse(node, found, format!("cannot read the secret's file {}: {reason}", quote_text(path)), "")
        }
    }
}
