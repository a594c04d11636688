//! `${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `$$`, replaced inside scalars after parsing: a value
//! can never become YAML structure. Keys that are written twice are reported on the same walk.

use super::diagnostic::{Collector, Diagnostic};
use super::mask::named;
use super::node::{Entry, Node, Scalar, Value};
use super::scalar::quote;

/// Looks up one environment variable; `None` is unset.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces every variable below `node` and drops all but the first of equal keys, reporting what is wrong.
pub(super) fn resolve(node: &mut Node, env: Environment<'_>, found: &Collector) {
    match &mut node.value {
        Value::Scalar(scalar) => match substitute(&scalar.text, env) {
            Ok(text) => {
                if is_bare(&scalar.text) {
                    let message = format!("{} is not replaced", quote(&node.spot, &scalar.text));
                    let warning = Diagnostic::warning(&node.spot, message).label("a variable is written `${NAME}`");
                    found.push(warning.note("where the dollar is meant, write `$$`"));
                }
                let alone = scalar.text.starts_with("${") && scalar.text.find('}') == Some(scalar.text.len() - 1);
                *scalar = Scalar { text, plain: scalar.plain || alone };
            }
            Err(message) => {
                found.push(
                    Diagnostic::error(&node.spot, message)
                        .note("allowed: ${VAR}, ${VAR:-default}, ${VAR:?message}; $$ is a plain dollar"),
                );
                node.value = Value::Broken;
            }
        },
        Value::List(items) => items.iter_mut().for_each(|item| resolve(item, env, found)),
        Value::Map(entries) => {
            drop_duplicates(entries, found);
            for entry in entries {
                resolve(&mut entry.node, env, found);
            }
        }
        Value::Null | Value::Broken => {}
    }
}

fn drop_duplicates(entries: &mut Vec<Entry>, found: &Collector) {
    let mut first = std::collections::HashMap::new();
    entries.retain(|entry| match first.get(&entry.key) {
        None => {
            first.insert(entry.key.clone(), entry.key_spot.place());
            true
        }
        Some(place) => {
            let error = Diagnostic::error(&entry.key_spot, format!("the key {} is written twice", named(&entry.key)));
            found.push(error.label("keep one of the two").note(format!("first written at {place}")));
            false
        }
    });
}

/// `$NAME`, and nothing beside it: what a shell would replace.
fn is_bare(text: &str) -> bool {
    let named = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    text.strip_prefix('$').is_some_and(|name| {
        !name.is_empty() && name.chars().all(named) && !name.starts_with(|letter: char| letter.is_ascii_digit())
    })
}

/// `text` with every variable replaced, or what is wrong with it.
pub(super) fn substitute(text: &str, env: Environment<'_>) -> Result<String, String> {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let Some((expression, after)) = after.split_once('}') else {
                return Err("`${` without its `}`".to_owned());
            };
            done.push_str(&evaluate(expression, env)?);
            rest = after;
        } else {
            done.push('$');
            rest = after;
        }
    }
    done.push_str(rest);
    Ok(done)
}

fn evaluate(expression: &str, env: Environment<'_>) -> Result<String, String> {
    let named = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let end = expression.find(|letter| !named(letter)).unwrap_or(expression.len());
    let (name, operator) = expression.split_at_checked(end).unwrap_or((expression, ""));
    if name.is_empty() || name.starts_with(|letter: char| letter.is_ascii_digit()) {
        return Err("`${…}` needs the name of an environment variable".to_owned());
    }
    let value = env(name);
    let filled = value.clone().filter(|value| !value.is_empty());
    if operator.is_empty() {
        return value.ok_or_else(|| format!("the environment variable `{name}` is not set"));
    }
    if let Some(default) = operator.strip_prefix(":-") {
        if default.contains("${") {
            return Err(format!("the default of `{name}` holds another variable, which is not supported"));
        }
        return Ok(filled.unwrap_or_else(|| default.to_owned()));
    }
    if let Some(message) = operator.strip_prefix(":?") {
        return filled.ok_or_else(|| format!("the environment variable `{name}` is not set: {message}"));
    }
    Err(format!("`${{{name}…}}` is not written in a way that is known here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "YAML" => Some("}: [a, ${SET}]".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn every_form_is_replaced() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${SET}", "value"),
            ("a-${SET}-${SET}", "a-value-value"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${UNSET:-x y}", "x y"),
            ("${UNSET:-}", ""),
            ("${SET:?must be set}", "value"),
            ("$$ $${SET} $5", "$ ${SET} $5"),
            ("${YAML}", "}: [a, ${SET}]"),
        ] {
            assert_eq!(substitute(text, &env).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_says_why() {
        for (text, word) in [
            ("${UNSET}", "`UNSET` is not set"),
            ("${EMPTY:?fill it}", "fill it"),
            ("${", "without its"),
            ("${}", "needs the name"),
            ("${1A}", "needs the name"),
            ("${A-b}", "not written in a way"),
            ("${A:-${SET}}", "another variable"),
        ] {
            let error = substitute(text, &env).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
