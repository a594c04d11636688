//! Where a browser may be sent after login or logout: our own origin, or a host that is listed.
//! Anything doubtful becomes `/`: an open redirect helps only an attacker.

use percent_encoding::percent_decode_str;
use url::{Position, Url};

/// Bytes of an address, as it is written and as it is sent.
pub(crate) const MOST: usize = 2048;

/// `wanted` if it is safe, else `/`. A path on our origin stays a path; a listed host stays absolute.
#[must_use]
pub(super) fn safe(wanted: &str, public_url: &Url, allowed_hosts: &[String]) -> String {
    // Percent-encoded it is up to three times as long: what is too long then would not be taken a second time.
    let target = resolve(wanted, public_url, allowed_hosts).filter(|target| target.len() <= MOST);
    target.unwrap_or_else(|| "/".to_owned())
}

fn resolve(wanted: &str, public_url: &Url, allowed_hosts: &[String]) -> Option<String> {
    // Browsers drop tabs and newlines and read `\` as `/`: what they would rewrite is refused.
    // A blank inside is encoded by whoever reads the address, here as there; around it, it would be cut off.
    let rewritten = wanted.contains('\\') || wanted.chars().any(char::is_control) || wanted.trim_matches(' ') != wanted;
    if wanted.len() > MOST || rewritten {
        return None;
    }
    if wanted.starts_with('/') {
        let joined = public_url.join(wanted).ok()?;
        return (joined.origin() == public_url.origin()).then(|| path_of_ours(&joined)).flatten();
    }
    let url = Url::parse(wanted).ok()?;
    if !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    if url.origin() == public_url.origin() {
        return path_of_ours(&url);
    }
    let host = url.host_str()?;
    let with_port = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let listed = allowed_hosts.contains(&with_port);
    // Never down from https to http.
    (listed && (url.scheme() == "https" || url.scheme() == public_url.scheme())).then(|| url.to_string())
}

/// Path, query and fragment of an URL of our own origin.
fn path_of_ours(url: &Url) -> Option<String> {
    // `/.//host` is `//host` once its dot is gone, and without an origin in front that names a host
    // (RFC 3986 §4.2).
    let names_a_host = url.path().starts_with("//");
    (!names_a_host && !is_login_path(url.path())).then(|| url[Position::BeforePath..].to_owned())
}

/// Returning into the login would loop.
fn is_login_path(path: &str) -> bool {
    matches!(&*percent_decode_str(path).decode_utf8_lossy(), "/auth/login" | "/auth/callback" | "/auth/logout")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe_on_app(wanted: &str) -> String {
        safe(wanted, &Url::parse("https://app.example.com").unwrap(), &["other.example.com".to_owned()])
    }

    #[test]
    fn our_own_paths_and_listed_hosts_pass() {
        assert_eq!(safe_on_app("/a/b?c=d&e=%2F#f"), "/a/b?c=d&e=%2F#f");
        assert_eq!(safe_on_app("https://app.example.com/x"), "/x");
        assert_eq!(safe_on_app("https://other.example.com/x"), "https://other.example.com/x");
    }

    #[test]
    fn a_blank_inside_is_encoded() {
        assert_eq!(safe_on_app("/search for/it?q=a b#c d"), "/search%20for/it?q=a%20b#c%20d");
        assert_eq!(safe_on_app("https://other.example.com/?q=a b"), "https://other.example.com/?q=a%20b");
    }

    #[test]
    fn what_is_too_long_when_it_is_sent_becomes_the_front_page() {
        let path = |letters: usize| format!("/{}", "\u{20ac}".repeat(letters));
        assert_eq!(safe_on_app(&path(200)), format!("/{}", "%E2%82%AC".repeat(200)));
        assert_eq!(safe_on_app(&path(228)), "/", "1 + 228 * 9 bytes");
    }

    #[test]
    fn whatever_leads_elsewhere_becomes_the_front_page() {
        for evil in [
            "//evil.com",
            "/\\evil.com",
            "\\\\evil.com",
            "https://evil.com",
            "http://other.example.com/",
            "https://other.example.com.evil.com/",
            "https://other.example.com:444/",
            "https://u@other.example.com/",
            "https://app.example.com@evil.com/",
            "javascript:alert(1)",
            "data:text/html,x",
            "/\t/evil.com",
            "/\n/evil.com",
            " /x",
            "/x ",
            "https://other.example .com/",
            "/ //evil.com\\",
            "",
            "x",
            "evil.com",
            "/%00\0",
            "https:evil.com",
            "///evil.com",
            "/auth/login",
            "/auth/logout?x",
            "https:///evil.com",
            "/.//evil.com\\",
            "/.//evil.com",
            "/x/..//evil.com",
            "/%2e//evil.com",
            "/%2e%2e//evil.com/x",
            "https://app.example.com//evil.com",
            "https://app.example.com/.//evil.com",
            "/auth/%6cogout",
        ] {
            assert_eq!(safe_on_app(evil), "/", "{evil:?}");
        }
    }
}
