//! Which parts of a file are secrets and must never be printed, also where a key is misspelt or the
//! file is not YAML at all.

use super::node::{Node, Value};
use super::source::{Position, Source, Span};

const SECRET_KEYS: [&str; 3] = ["secret", "client_secret", "empowerid_api_key"];
const SECRET_WORDS: [&str; 9] =
    ["secret", "password", "passwd", "passphrase", "pwd", "api_key", "apikey", "private_key", "credential"];

/// Whether what stands behind `key` is covered. Near misses count: `client_secert: hunter2` is still a secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET_WORDS.iter().any(|word| key.contains(word))
        || SECRET_KEYS.iter().any(|known| strsim::damerau_levenshtein(known, &key) <= 2)
}

/// Whether `text` carries credentials as `scheme://user:password@host` does.
pub(super) fn has_credentials(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

/// The secrets of a document that could be read.
pub(super) fn secrets_of(node: &Node) -> Vec<Span> {
    let mut found = Vec::new();
    collect(node, false, &mut found);
    found
}

fn collect(node: &Node, secret: bool, found: &mut Vec<Span>) {
    match &node.value {
        Value::Scalar(scalar) if secret || has_credentials(&scalar.text) => found.push(node.spot.span()),
        Value::List(items) => items.iter().for_each(|item| collect(item, secret, found)),
        Value::Map(entries) => {
            for entry in entries {
                collect(&entry.node, secret || is_secret_key(&entry.key), found);
            }
        }
        _ => {}
    }
}

/// The secrets of a text that is not YAML: everything behind a secret's key, and the deeper lines below it.
pub(super) fn secrets_of_text(source: &Source) -> Vec<Span> {
    let mut found = Vec::new();
    let mut inside: Option<usize> = None;
    for (index, line) in source.lines().iter().enumerate() {
        let indent = line.chars().take_while(|letter| letter.is_whitespace()).count();
        let blank = line.trim().is_empty();
        let continues =
            inside.is_some_and(|key| indent > key || (indent == key && line.trim_start().starts_with("- ")));
        let from = if continues && !blank {
            Some(indent)
        } else {
            inside = inside.filter(|_| blank);
            secret_column(line)
        };
        if !continues && from.is_some() {
            inside = Some(indent);
        }
        let from = if has_credentials(line) { Some(indent) } else { from };
        let end = line.chars().count();
        if let Some(from) = from.filter(|from| *from < end) {
            let at = |column: usize| Position { line: index + 1, column: column + 1 };
            found.push(Span { start: at(from), end: at(end) });
        }
    }
    found
}

/// Characters before the value of the first secret key on the line.
fn secret_column(line: &str) -> Option<usize> {
    let mut before = 0;
    for part in line.split_inclusive(':') {
        before += part.chars().count();
        let word: String = part.trim_end_matches(':').trim().trim_matches(['"', '\'']).chars().rev().collect();
        let word: String =
            word.chars().take_while(|letter| letter.is_alphanumeric() || "_-".contains(*letter)).collect();
        let word: String = word.chars().rev().collect();
        if part.ends_with(':') && is_secret_key(&word) {
            return Some(before);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_secrets_and_ordinary_keys_are_not() {
        for key in ["client_secert", "secrets", "empowerid_api_keys", "client-secret", "db_password"] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["token_auth_method", "issuer", "store", "cookie_name", "key", "client_id", "server"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn broken_text_is_covered_behind_the_key_and_below_it() {
        let text = "a: 1\nsession:\n  secret:\n    - \"AAA\n  b: 2\n- { x: 1, client_secret: BBB\nc: http://u:p@h\n";
        let source = Source::new(std::path::Path::new("a.yaml"), text);
        let lines: Vec<usize> = secrets_of_text(&source).iter().map(|span| span.start.line).collect();
        assert_eq!(lines, [4, 6, 7]);
    }
}
