//! Our cookies: the session's, and one for each login under way. Read by exact bytes, set with
//! attributes that no sibling host can imitate.

use http::HeaderMap;
use http::header::HeaderValue;

use super::cookie_pairs::{Cut, cut, pairs};
use super::cookie_token::CookieToken;
use super::flow::FLOW_LIFETIME;
use crate::config::{SameSite, SessionConfig, is_token};

/// What the `Cookie` header says about the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// No session cookie.
    None,
    /// One, well-formed; whether its session lives is for the store to say.
    One(CookieToken),
    /// One whose value we never wrote.
    Malformed,
    /// Two of one name: somebody planted one of them (RFC 6265 §8.6), and we cannot know which.
    Duplicate,
}

/// A name or value that cannot stand in a cookie (RFC 6265 §4.1.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCookie {
    /// The configured name, or a flow's id.
    #[error("`{0}` cannot be a cookie name")]
    Name(String),
    /// The value of a flow cookie; not shown.
    #[error("the value of cookie `{0}` has bytes a cookie cannot carry")]
    Value(String),
}

/// Reads, cuts and writes our cookies.
#[derive(Debug, Clone)]
pub struct SessionCookie {
    name: String,
    aliases: Vec<String>,
    flow_prefix: String,
    /// `; Path=/; HttpOnly[; Secure]`
    scope: &'static str,
    same_site: &'static str,
    max_age: u64,
}

impl SessionCookie {
    /// The cookies of the site that the browser sees as `public_url` (only its scheme counts).
    pub fn new(config: &SessionConfig, public_url: &url::Url) -> Result<Self, InvalidCookie> {
        let https = public_url.scheme() == "https";
        // `__Host-Http-` (RFC 6265bis §4.1.3): only this host, over TLS, by a response header could have set it.
        let prefix = if https { "__Host-Http-" } else { "" };
        let name = match config.cookie_name.as_str() {
            "" => format!("{prefix}bff_session"),
            written => written.to_owned(),
        };
        for name in config.cookie_aliases.iter().chain([&name]) {
            if !is_token(name.as_bytes()) {
                return Err(InvalidCookie::Name(name.clone()));
            }
        }
        Ok(Self {
            name,
            aliases: config.cookie_aliases.clone(),
            flow_prefix: format!("{prefix}bff_flow_"),
            scope: if https { "; Path=/; HttpOnly; Secure" } else { "; Path=/; HttpOnly" },
            same_site: match config.same_site {
                SameSite::Lax => "Lax",
                SameSite::Strict => "Strict",
            },
            max_age: config.max_lifetime.as_secs(),
        })
    }

    /// `session.same_site: strict`: not sent along a navigation that another site began.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.same_site == "Strict"
    }

    /// The session cookie of a request. Our own name beats the aliases, an earlier alias a later one.
    #[must_use]
    pub fn read(&self, headers: &HeaderMap) -> Reading {
        for name in std::iter::once(&self.name).chain(&self.aliases) {
            let mut values = pairs(headers).filter(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value);
            let Some(value) = values.next() else { continue };
            if values.next().is_some() {
                return Reading::Duplicate;
            }
            return CookieToken::parse(value).map_or(Reading::Malformed, Reading::One);
        }
        Reading::None
    }

    /// The `Cookie` header for an upstream: everything but our own.
    #[must_use]
    pub fn cut(&self, headers: &HeaderMap) -> Cut {
        cut(headers, |name| self.is_ours(name))
    }

    /// Whether a `Set-Cookie` would make a browser send what [`Self::read`] or [`Self::flow_read`] takes
    /// for ours. Aliases are not counted: they are another program's to set.
    #[must_use]
    pub fn would_be_ours(&self, set_cookie: &[u8]) -> bool {
        let pair = set_cookie.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        // A cookie without a name is sent as its bare value, which may look like a pair (RFC 6265bis §5.6).
        let pair = pair.strip_prefix(b"=").unwrap_or(pair).trim_ascii();
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        name == self.name.as_bytes() || name.starts_with(self.flow_prefix.as_bytes())
    }

    fn is_ours(&self, name: &[u8]) -> bool {
        name == self.name.as_bytes()
            || name.starts_with(self.flow_prefix.as_bytes())
            || self.aliases.iter().any(|alias| alias.as_bytes() == name)
    }

    /// `Set-Cookie` for a new session.
    #[must_use]
    pub fn set(&self, token: &CookieToken) -> HeaderValue {
        self.session_field(&token.expose(), self.max_age)
    }

    /// `Set-Cookie` that takes the session cookie away.
    #[must_use]
    pub fn expire(&self) -> HeaderValue {
        self.session_field("", 0)
    }

    fn session_field(&self, value: &str, age: u64) -> HeaderValue {
        let text = format!("{}={value}{}; SameSite={}; Max-Age={age}", self.name, self.scope, self.same_site);
        // The name was checked in `new` and a token is base64url: always a header value.
        sensitive(text).unwrap_or_else(|| HeaderValue::from_static(""))
    }

    /// `Set-Cookie` that binds the login flow `id` to this browser. Always Lax: the provider's
    /// redirect back to us is a cross-site navigation.
    pub fn flow_set(&self, id: &str, value: &str) -> Result<HeaderValue, InvalidCookie> {
        self.flow_field(id, value, FLOW_LIFETIME.as_secs())
    }

    /// `Set-Cookie` that ends the login flow `id` in this browser.
    pub fn flow_expire(&self, id: &str) -> Result<HeaderValue, InvalidCookie> {
        self.flow_field(id, "", 0)
    }

    fn flow_field(&self, id: &str, value: &str, age: u64) -> Result<HeaderValue, InvalidCookie> {
        let name = format!("{}{id}", self.flow_prefix);
        if !is_token(id.as_bytes()) {
            return Err(InvalidCookie::Name(name));
        }
        if !value.bytes().all(is_cookie_octet) {
            return Err(InvalidCookie::Value(name));
        }
        let text = format!("{name}={value}{}; SameSite=Lax; Max-Age={age}", self.scope);
        sensitive(text).ok_or(InvalidCookie::Value(name))
    }

    /// The value of the flow cookie `id`; `None` also when there are two of them.
    #[must_use]
    pub fn flow_read<'a>(&self, headers: &'a HeaderMap, id: &str) -> Option<&'a str> {
        let name = format!("{}{id}", self.flow_prefix);
        let mut values = pairs(headers).filter(|(found, _)| *found == name.as_bytes());
        let (_, value) = values.next()?;
        if values.next().is_some() { None } else { std::str::from_utf8(value).ok() }
    }

    /// The logins under way in this browser, the oldest first as browsers send them (RFC 6265 §5.4).
    #[must_use]
    pub fn flow_ids<'a>(&self, headers: &'a HeaderMap) -> Vec<&'a str> {
        pairs(headers)
            .filter_map(|(name, _)| name.strip_prefix(self.flow_prefix.as_bytes()))
            .filter(|id| is_token(id))
            .filter_map(|id| std::str::from_utf8(id).ok())
            .collect()
    }
}

/// Never into a compression table (RFC 7541 §7.1.3).
fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `cookie-octet` of RFC 6265 §4.1.1.
fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    fn cookies(url: &str, aliases: &[&str]) -> SessionCookie {
        let config = SessionConfig {
            cookie_aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            ..SessionConfig::default()
        };
        SessionCookie::new(&config, &url.parse().unwrap()).unwrap()
    }

    fn headers(fields: &[String]) -> HeaderMap {
        fields.iter().map(|field| (COOKIE, field.parse().unwrap())).collect()
    }

    #[test]
    fn reads_by_exact_bytes() {
        let cookies = cookies("http://localhost:8080", &["_eid_sid"]);
        let token = CookieToken::generate().unwrap();
        let (text, one) = (token.expose(), Reading::One(token));
        let other = CookieToken::generate().unwrap().expose();
        for (fields, expected) in [
            (vec![], Reading::None),
            (vec!["a=1; b".to_owned()], Reading::None),
            (vec![format!("a=1; bff_session={text}; b=2")], one.clone()),
            (vec!["a=1".to_owned(), format!("bff_session={text}")], one.clone()),
            (vec![format!("bff_session={text};a=1")], one.clone()),
            (vec![format!("_eid_sid={text}")], one.clone()),
            (vec![format!("_eid_sid={other}; bff_session={text}")], one.clone()),
            (vec![format!("_eid_sid=x; _eid_sid=y; bff_session={text}")], one),
            (vec![format!("BFF_SESSION={text}; bff_session2={text}; xbff_session={text}")], Reading::None),
            (vec![format!("a=1;  bff_session={text}; bff_session ={text};\tbff_session={text}")], Reading::None),
            (vec![format!("bff_session=\"{text}\"")], Reading::Malformed),
            (vec![format!("bff_session= {text}")], Reading::Malformed),
            (vec!["bff_session=".to_owned()], Reading::Malformed),
            (vec![format!("bff_session={text}; bff_session={text}")], Reading::Duplicate),
            (vec![format!("bff_session={text}"), "a=1; bff_session=x".to_owned()], Reading::Duplicate),
            (vec![format!("_eid_sid={text}"), format!("_eid_sid={text}")], Reading::Duplicate),
        ] {
            assert_eq!(cookies.read(&headers(&fields)), expected, "{fields:?}");
        }
    }

    #[test]
    fn cuts_session_aliases_and_flows() {
        let cookies = cookies("http://localhost:8080", &["_eid_sid"]);
        let cut = cookies
            .cut(&headers(&["a=1; bff_session=x; _eid_sid=y; bff_flow_abc=z; Bff_session=2; bff_flow=3".to_owned()]));
        assert_eq!(cut, Cut::Replaced(HeaderValue::from_static("a=1; Bff_session=2; bff_flow=3")));
    }

    #[test]
    fn knows_who_else_would_set_ours() {
        let cookies = cookies("http://localhost:8080", &["_eid_sid"]);
        for ours in ["bff_session=x", " bff_session = x; Path=/", "=bff_session=x", "bff_flow_a=1", "bff_session"] {
            assert!(cookies.would_be_ours(ours.as_bytes()), "{ours}");
        }
        for other in ["a=1; bff_session=x", "bff_session2=x", "Bff_session=x", "_eid_sid=x", "", "="] {
            assert!(!cookies.would_be_ours(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn sets_every_attribute() {
        let token = CookieToken::generate().unwrap();
        let text = token.expose();
        let (plain, tls) = (cookies("http://localhost:8080", &[]), cookies("https://app.example.com", &[]));
        assert_eq!(plain.set(&token), format!("bff_session={text}; Path=/; HttpOnly; SameSite=Lax; Max-Age=43200"));
        assert_eq!(
            tls.set(&token),
            format!("__Host-Http-bff_session={text}; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=43200")
        );
        assert_eq!(tls.expire(), "__Host-Http-bff_session=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0");
        assert!(tls.set(&token).is_sensitive());
    }

    #[test]
    fn flows_live_side_by_side() {
        let cookies = cookies("https://app.example.com", &[]);
        assert_eq!(
            cookies.flow_set("a-1", "v").unwrap(),
            "__Host-Http-bff_flow_a-1=v; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=600"
        );
        assert_eq!(
            cookies.flow_expire("a-1").unwrap(),
            "__Host-Http-bff_flow_a-1=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0"
        );
        let sent =
            headers(&["__Host-Http-bff_flow_a=1; x=2".to_owned(), "__Host-Http-bff_flow_b=3; bff_flow_c=4".to_owned()]);
        assert_eq!(cookies.flow_ids(&sent), ["a", "b"]);
        assert_eq!(cookies.flow_read(&sent, "b"), Some("3"));
        assert_eq!(cookies.flow_read(&sent, "c"), None);
        let twice = headers(&["__Host-Http-bff_flow_a=1; __Host-Http-bff_flow_a=1".to_owned()]);
        assert_eq!(cookies.flow_read(&twice, "a"), None);
        assert!(
            cookies.flow_set("a;b", "v").is_err()
                && cookies.flow_set("a", "v; x").is_err()
                && cookies.flow_set("", "v").is_err()
        );
    }
}
