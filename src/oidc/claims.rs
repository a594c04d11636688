//! The claims of a JWT: a JSON object in which no name occurs twice (RFC 7519 §4 lets a reader
//! refuse those, and two readers that disagree about which one counts are a hole).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use crate::resilience::UnixTime;

/// How far the provider's clock and ours may differ.
pub(super) const LEEWAY: Duration = Duration::from_secs(60);
/// OpenID Connect Core §2: `sub` has at most 255 ASCII characters.
const MAX_SUBJECT: usize = 255;
/// 9999-12-31T23:59:59Z, the last second RFC 3339 can write.
const LATEST: i64 = 253_402_300_799;

/// The claims by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Claims(BTreeMap<String, Value>);

impl Claims {
    /// The claim as it is.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The claim if it is a text that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The claim if it can be the name of a person or a client.
    pub(super) fn subject_in(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|subject| subject.len() <= MAX_SUBJECT && !subject.chars().any(char::is_control))
    }

    /// The claim as a `NumericDate` (RFC 7519 §2), which may have a fraction. `None` too for what is
    /// no date: before 1970, or after the year 9999 (milliseconds, most often, that never expire).
    pub(super) fn time(&self, name: &str) -> Option<UnixTime> {
        let value = self.get(name)?;
        let seconds = value.as_i64().or_else(|| whole_seconds(value.as_f64()?))?;
        (0..=LATEST).contains(&seconds).then_some(UnixTime(seconds))
    }

    /// The same of a claim that may be absent. `Err`: it is there, and no date.
    pub(super) fn date(&self, name: &'static str) -> Result<Option<UnixTime>, &'static str> {
        match (self.get(name), self.time(name)) {
            (Some(_), None) => Err(name),
            (_, found) => Ok(found),
        }
    }

    /// `aud`: one text or several; `None` when absent or anything else.
    pub(super) fn audience(&self) -> Option<Vec<String>> {
        match self.get("aud")? {
            Value::String(one) => Some(vec![one.clone()]),
            Value::Array(several) => several.iter().map(|entry| entry.as_str().map(str::to_owned)).collect(),
            _ => None,
        }
    }

    /// `scope` (RFC 9068 §2.2.3), or `scp` as some providers name it.
    pub(super) fn scopes(&self) -> Vec<String> {
        self.get("scope").or_else(|| self.get("scp")).map(words).unwrap_or_default()
    }
}

/// A space-separated text or an array of texts, as words.
pub(super) fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        Value::Array(several) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Whole seconds, rounded down; `None` beyond the year 33 000 000 or so.
#[allow(clippy::cast_possible_truncation)] // the range is checked
pub(super) fn whole_seconds(number: f64) -> Option<i64> {
    (number.is_finite() && number.abs() < 1e15).then(|| number.floor() as i64)
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Unique)
    }
}

struct Unique;

impl<'de> Visitor<'de> for Unique {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object without repeated names")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Claims, M::Error> {
        let mut claims = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if claims.insert(name, value).is_some() {
                return Err(M::Error::custom("a name occurs twice"));
            }
        }
        Ok(Claims(claims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Claims {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused() {
        assert!(serde_json::from_str::<Claims>(r#"{"sub":"a","sub":"b"}"#).is_err());
        assert!(serde_json::from_str::<Claims>("[1]").is_err());
    }

    #[test]
    fn audience_is_one_or_several_texts() {
        assert_eq!(claims(r#"{"aud":"a"}"#).audience(), Some(vec!["a".into()]));
        assert_eq!(claims(r#"{"aud":["a","b"]}"#).audience(), Some(vec!["a".into(), "b".into()]));
        assert_eq!(claims(r#"{"aud":["a",1]}"#).audience(), None);
        assert_eq!(claims("{}").audience(), None);
    }

    #[test]
    fn times_may_have_a_fraction_but_not_be_texts() {
        assert_eq!(claims(r#"{"exp":7.9}"#).time("exp"), Some(UnixTime(7)));
        assert_eq!(claims(r#"{"exp":"7"}"#).time("exp"), None);
        assert_eq!(claims(r#"{"exp":1e300}"#).time("exp"), None);
        assert_eq!(claims(r#"{"exp":-1}"#).time("exp"), None);
        assert_eq!(claims(r#"{"exp":1700000000000}"#).time("exp"), None);
        assert_eq!(claims(r#"{"exp":9223372036854775807}"#).time("exp"), None);
    }
}
