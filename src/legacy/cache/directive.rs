//! What an answer says about caching: `Cache-Control` (RFC 9111 §5.2.2) and, in its place where it is
//! present and valid, `CDN-Cache-Control` (RFC 9213).

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, ListEntry, Parser};

/// For shared caches, which then read `Cache-Control` no more (RFC 9213 §2.1).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The largest number of seconds there is (RFC 9111 §1.2.2).
const FOREVER: u32 = 1 << 31;

/// Which fields a directive with an optional list is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// The directive is not there.
    #[default]
    Absent,
    /// The whole answer.
    Whole,
    /// These fields only.
    Fields(Vec<HeaderName>),
}

/// The directives of one answer that a shared cache heeds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// Seconds; an unreadable value is 0 (§4.2.1: consider it stale).
    pub max_age: Option<u32>,
    /// Seconds, for shared caches.
    pub s_maxage: Option<u32>,
    /// Not to be stored.
    pub no_store: bool,
    /// Not to be used without asking.
    pub no_cache: Scope,
    /// For one user.
    pub private: Scope,
    /// For everybody, also where the request had `Authorization`.
    pub public: bool,
    /// Never stale.
    pub must_revalidate: bool,
    /// Never stale in a shared cache.
    pub proxy_revalidate: bool,
    /// `no-store` counts only where the status code is not understood.
    pub must_understand: bool,
    /// Seconds (RFC 5861 §3).
    pub stale_while_revalidate: Option<u32>,
    /// Seconds (RFC 5861 §4).
    pub stale_if_error: Option<u32>,
    /// They come from the targeted field: `Expires` and `Cache-Control` say nothing (RFC 9213 §2.1).
    pub targeted: bool,
}

impl Directives {
    /// Reads an answer's fields.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        Self::targeted(headers).unwrap_or_else(|| {
            let mut found = Self::default();
            for (name, argument) in cache_control(headers) {
                found.note(&name, argument.as_deref());
            }
            found
        })
    }

    /// Those of the targeted field. RFC 9213 §2.2: one that does not parse, or is empty, is ignored as a whole.
    pub fn targeted(headers: &HeaderMap) -> Option<Self> {
        let lines: Vec<&[u8]> = headers.get_all(CDN_CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
        let members = Parser::parse_dictionary(&lines.join(&b","[..])).ok()?;
        if members.is_empty() {
            return None;
        }
        let mut found = Self { targeted: true, ..Self::default() };
        for (name, member) in &members {
            let value = match member {
                ListEntry::Item(item) => Some(&item.bare_item),
                ListEntry::InnerList(_) => None,
            };
            match (name.as_str(), value) {
                ("max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error", value) => {
                    let seconds = value?.as_int()?.max(0);
                    found.note(name, Some(&seconds.to_string()));
                }
                (_, Some(BareItem::Boolean(false))) => {}
                (_, Some(BareItem::String(list) | BareItem::Token(list))) => found.note(name, Some(list)),
                (_, _) => found.note(name, None),
            }
        }
        Some(found)
    }

    fn note(&mut self, name: &str, argument: Option<&str>) {
        let seconds = || Some(argument.and_then(delta_seconds).unwrap_or(0));
        let first = |known: Option<u32>| known.or_else(seconds);
        match name {
            "max-age" => self.max_age = first(self.max_age),
            "s-maxage" => self.s_maxage = first(self.s_maxage),
            "stale-while-revalidate" => self.stale_while_revalidate = first(self.stale_while_revalidate),
            "stale-if-error" => self.stale_if_error = first(self.stale_if_error),
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache.widen(argument),
            "private" => self.private.widen(argument),
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            _ => {}
        }
    }

    /// Whether the answer may never be used once stale (§4.2.4).
    #[must_use]
    pub fn forbid_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some() || self.no_cache == Scope::Whole
    }
}

impl Scope {
    fn widen(&mut self, argument: Option<&str>) {
        let names: Option<Vec<HeaderName>> = argument.map(|list| {
            list.split(',').filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok()).collect()
        });
        match (&mut *self, names) {
            (Self::Whole, _) => {}
            (Self::Fields(known), Some(names)) if !names.is_empty() => known.extend(names),
            (Self::Absent, Some(names)) if !names.is_empty() => *self = Self::Fields(names),
            _ => *self = Self::Whole,
        }
    }
}

/// §1.2.2: digits only; what does not fit is as large as can be.
pub(super) fn delta_seconds(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse::<u32>().unwrap_or(FOREVER).min(FOREVER))
}

/// The directives of `Cache-Control` (see [`split`]).
pub fn cache_control(headers: &HeaderMap) -> impl Iterator<Item = (String, Option<String>)> {
    headers.get_all(CACHE_CONTROL).iter().flat_map(|line| split(&String::from_utf8_lossy(line.as_bytes())))
}

/// Directives in order: lower-case name, argument without its quotes. Commas inside quotes do not split.
/// White space around `=` makes an argument that no number parser takes.
pub(super) fn split(line: &str) -> Vec<(String, Option<String>)> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for one in line.chars() {
        match one {
            ',' if !quoted => {
                parts.push(String::new());
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && one == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(one);
        }
    }
    let named = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    named
        .map(|part| match part.split_once('=') {
            None => (part.to_ascii_lowercase(), None),
            Some((name, argument)) => {
                let spaced = name.ends_with([' ', '\t']);
                let argument = if spaced { format!(" {argument}") } else { unquote(argument) };
                (name.trim().to_ascii_lowercase(), Some(argument))
            }
        })
        .collect()
}

fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return text.to_owned() };
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(one) = chars.next() {
        plain.extend(if one == '\\' { chars.next() } else { Some(one) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&str, &str)]) -> Directives {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Directives::of(&headers)
    }

    fn max_age(value: &str) -> Option<u32> {
        read(&[("cache-control", value)]).max_age
    }

    #[test]
    fn numbers_are_read_strictly() {
        for (value, seconds) in [
            ("max-age=10", Some(10)),
            ("Max-AGE=10", Some(10)),
            ("max-age=\"10\"", Some(10)),
            ("max-age=0010", Some(10)),
            ("max-age=99999999999999999999", Some(1 << 31)),
            ("max-age='10'", Some(0)),
            ("max-age=10.5", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age =10", Some(0)),
            ("max-age= 10", Some(0)),
            ("max-age", Some(0)),
            ("max-age=10, max-age=20", Some(10)),
            ("extension=\"max-age=3600\", max-age=1", Some(1)),
            ("x=\"a\\\", max-age=3600\", max-age=1", Some(1)),
            ("x-max-age=10", None),
        ] {
            assert_eq!(max_age(value), seconds, "{value}");
        }
    }

    #[test]
    fn lists_of_fields_narrow_a_directive() {
        let narrow = read(&[("cache-control", "no-cache=\"Set-Cookie, X-A\", private=X-B")]);
        assert_eq!(narrow.no_cache, Scope::Fields(vec!["set-cookie".parse().unwrap(), "x-a".parse().unwrap()]));
        assert_eq!(narrow.private, Scope::Fields(vec!["x-b".parse().unwrap()]));
        for whole in ["private", "private=\"\"", "private=\"X-A\", private", "private, private=\"X-A\""] {
            assert_eq!(read(&[("cache-control", whole)]).private, Scope::Whole, "{whole}");
        }
    }

    #[test]
    fn the_targeted_field_replaces_the_other() {
        let both = |cdn: &str| read(&[("cache-control", "no-store, max-age=1"), ("cdn-cache-control", cdn)]);
        assert_eq!((both("max-age=9").max_age, both("max-age=9").no_store), (Some(9), false));
        assert_eq!(both("foobar, max-age=9").max_age, Some(9));
        assert_eq!(both("private").private, Scope::Whole);
        assert_eq!(both("max-age=99999999999").max_age, Some(1 << 31));
        assert_eq!(both("max-age=9;a=1;b, x=1.5, y=(a \"b\";c ?0), z=:YQ==:").max_age, Some(9));
        // Of a key told twice the last counts (RFC 9651 §4.2.2).
        assert_eq!(both("max-age=8, no-store, max-age=9, no-store=?0"), both("max-age=9"));
        assert_eq!(both("private=\"X-A\"").private, Scope::Fields(vec!["x-a".parse().unwrap()]));
        assert_eq!(both("private=(a b)").private, Scope::Whole);
        for ignored in [
            "",
            "max-age=\"9\"",
            "max-age=9, &&&",
            "MAX-AGE=9",
            "max-age =9",
            "max-age",
            "max-age=(9)",
            "max-age=9,",
            "max-age=9.5",
            "max-age=9 x",
            "max-age=9, a=\"x",
            "max-age=9, a=?2",
            "max-age=9;",
            "max-age=9, a=(b",
        ] {
            assert_eq!((both(ignored).max_age, both(ignored).no_store), (Some(1), true), "{ignored}");
        }
    }
}
