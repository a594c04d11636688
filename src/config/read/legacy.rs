//! `conf/legacy_services.yaml` and the environment variables that override it.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::diagnostic::{Collector, Diagnostic};
use crate::config::node::Node;
use crate::config::reader::{Located, MapReader, suggest, table};
use crate::config::scalar::{boolean, duration, parse_url, positive_duration, quote, quote_text, size, url, whole};
use crate::config::unit::parse_duration;
use crate::config::variable::Environment;
use crate::config::{LegacyConfig, LegacyServiceConfig};

/// Reads the file; what is wrong in it is reported and left out.
pub(in crate::config) fn read_legacy(node: &Node, env: Environment<'_>, found: &Collector) -> Option<LegacyConfig> {
    let mut map = MapReader::new(node, found)?;
    let mut legacy = LegacyConfig::default();
    let config = &mut legacy;
    let urls =
        map.field("legacy_services", |node, found| table(node, found, |n, f| Some(url(n, f)))).unwrap_or_default();
    let timeouts =
        map.field("legacy_service_timeouts", |node, found| table(node, found, positive_duration)).unwrap_or_default();
    map.field("circuit_breaker", |node, found| read_breaker(node, config, found));
    map.field("response_cache", |node, found| read_cache(node, config, found));
    map.field("request_limits", |node, found| {
        let mut map = MapReader::new(node, found)?;
        config.max_body_size = map.field("max_body_size", size).unwrap_or(config.max_body_size);
        config.max_concurrent = map.field("max_concurrent", whole(1..=1_000_000)).unwrap_or(config.max_concurrent);
        map.finish();
        Some(())
    });
    map.finish();
    for (name, _) in timeouts.iter().filter(|(name, _)| !urls.iter().any(|(known, _)| known.value == name.value)) {
        let error = Diagnostic::error(&name.spot, format!("no legacy service is named `{}`", name.value));
        let known = urls.iter().map(|(known, _)| known.value.as_str()).filter(|known| is_plain(known));
        found.push(error.label(suggest(&name.value, known)));
    }
    check_variables(&urls, found);
    for (name, url) in urls {
        check_name(&name, found);
        let written = timeouts.iter().find(|(known, _)| known.value == name.value).map(|(_, timeout)| *timeout);
        let url = overridden(&name, "URL", env, found, parse_url).or(url);
        let parse = |text: &str| {
            let timeout = parse_duration(text).filter(|timeout| !timeout.is_zero());
            timeout.ok_or_else(|| "it is not a duration above zero".to_owned())
        };
        let timeout = overridden(&name, "TIMEOUT", env, found, parse).or(written).unwrap_or(Duration::from_secs(30));
        if let Some(base_url) = url {
            config.services.insert(name.value, LegacyServiceConfig { base_url, timeout });
        }
    }
    Some(legacy)
}

/// It is one segment of `/api/v1/proxy/{service}/…`.
fn check_name(name: &Located<String>, found: &Collector) {
    if !is_plain(&name.value) {
        let error = Diagnostic::error(&name.spot, format!("{} is not a service name", quote(&name.spot, &name.value)));
        found.push(error.label("it is one segment of a path: letters, digits, `.`, `_` and `-` only"));
    }
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}

/// Who sets a variable means one service.
fn check_variables<T>(named: &[(Located<String>, T)], found: &Collector) {
    let mut first = HashMap::new();
    for (name, _) in named {
        if let Some(other) = first.insert(variable(&name.value), name) {
            let message = format!("`{}` and `{}` are overridden by the same variables", other.value, name.value);
            let warning =
                Diagnostic::warning(&name.spot, message).label(format!("{}_URL moves both", variable(&name.value)));
            let warning = warning.note("letters count as capitals there, `-` and `.` as `_`");
            found.push(warning.note(format!("the other one is written at {}", other.spot.place())));
        }
    }
}

/// What the names of its environment variables begin with.
fn variable(name: &str) -> String {
    format!("LEGACY_SERVICE_{}", name.to_uppercase().replace(['-', '.'], "_"))
}

/// Those of `names` that have the form of an override and are none, with a hint for each.
pub(in crate::config) fn strays(legacy: &LegacyConfig, names: impl Iterator<Item = String>) -> Vec<(String, String)> {
    let known = |what| legacy.services.keys().map(move |name| format!("{}_{what}", variable(name)));
    let known: Vec<String> = known("URL").chain(known("TIMEOUT")).collect();
    let formed = |name: &String| {
        let service = name.strip_prefix("LEGACY_SERVICE_");
        service.is_some_and(|rest| ["_URL", "_TIMEOUT"].iter().any(|end| rest.len() > end.len() && rest.ends_with(end)))
    };
    let strays = names.filter(|name| formed(name) && !known.contains(name));
    strays.map(|name| (name.clone(), suggest(&name, known.iter().map(String::as_str)))).collect()
}

/// The value of `LEGACY_SERVICE_<NAME>_<WHAT>`, if it is set and not empty.
fn overridden<T>(
    name: &Located<String>,
    what: &str,
    env: Environment<'_>,
    found: &Collector,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let variable = format!("{}_{what}", variable(&name.value));
    let text = env(&variable).filter(|text| !text.is_empty())?;
    match parse(&text) {
        Ok(value) => Some(value),
        Err(reason) => {
            let message = format!("the environment variable `{variable}` is {}: {reason}", quote_text(&text));
            found.push(Diagnostic::error(&name.spot, message).label("it overrides this service"));
            None
        }
    }
}

fn read_breaker(node: &Node, config: &mut LegacyConfig, found: &Collector) -> Option<()> {
    let mut map = MapReader::new(node, found)?;
    let threshold = map.field("threshold", whole(1..=1_000_000)).and_then(|number| u32::try_from(number).ok());
    config.breaker_threshold = threshold.unwrap_or(config.breaker_threshold);
    config.breaker_reset_time = map.field("reset_time", positive_duration).unwrap_or(config.breaker_reset_time);
    map.finish();
    Some(())
}

fn read_cache(node: &Node, config: &mut LegacyConfig, found: &Collector) -> Option<()> {
    let mut map = MapReader::new(node, found)?;
    config.cache_enabled = map.field("enabled", boolean).unwrap_or(config.cache_enabled);
    config.cache_default_ttl = map.field("default_ttl", duration).unwrap_or(config.cache_default_ttl);
    let entries = map.field("max_size", whole(1..=1_000_000_000)).and_then(|number| usize::try_from(number).ok());
    config.cache_max_entries = entries.unwrap_or(config.cache_max_entries);
    config.cache_max_bytes = map.field("max_bytes", size).unwrap_or(config.cache_max_bytes);
    map.finish();
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_has_the_form_of_an_override_and_is_for_no_service_is_told() {
        let mut legacy = LegacyConfig::default();
        let base_url = url::Url::parse("http://x").unwrap();
        let service = LegacyServiceConfig { base_url, timeout: Duration::from_secs(1) };
        legacy.services.insert("res-admin".to_owned(), service);
        let set = [
            "PATH",
            "LEGACY_SERVICE_URL",
            "LEGACY_SERVICE_X_PORT",
            "LEGACY_SERVICE_RES_ADMIN_URL",
            "LEGACY_SERVICE_RES_ADMIN_TIMEOUT",
            "LEGACY_SERVICE_RES_ADMN_URL",
        ];
        let near = "did you mean `LEGACY_SERVICE_RES_ADMIN_URL`?".to_owned();
        let expected = vec![("LEGACY_SERVICE_RES_ADMN_URL".to_owned(), near)];
        assert_eq!(strays(&legacy, set.into_iter().map(str::to_owned)), expected);
    }
}
