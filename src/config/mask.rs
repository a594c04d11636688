//! Which parts of a file are secrets and must never be printed, also where a key is misspelt or the
//! file is not YAML at all.

use super::node::{Node, Value};
use super::source::{Position, Source, Span};

const SECRET_KEYS: [&str; 5] = ["secret", "client_secret", "empowerid_api_key", "password", "sentinel_password"];
const SECRET_WORDS: [&str; 11] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "api_key",
    "apikey",
    "private_key",
    "signing_key",
    "key_data",
    "credential",
];
/// What carries somebody's rights, by the end of its name: `access_token`, `proxy-authorization`.
const SECRET_ENDS: [&str; 6] = ["_pass", "token", "authorization", "bearer", "jwt", "cookie"];

/// The first line of a PEM, and the same in base64.
const PEM_BEGINS: [&str; 2] = ["-----BEGIN", "LS0tLS1CRUdJTi"];
const PEM_ENDS: &str = "-----END";
/// No key is shorter in base64.
const SHORTEST_KEY: usize = 60;

/// Whether what stands behind `key` is covered. Near misses count: `client_secert: hunter2` is still a secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET_WORDS.iter().any(|word| key.contains(word))
        || key == "pass"
        || SECRET_ENDS.iter().any(|end| key.ends_with(end))
        // A service may be named after it, but hardly like this.
        || (key.starts_with("empowerid_") && key.ends_with("_key"))
        || SECRET_KEYS.iter().any(|known| is_slip(known, &key))
}

/// Whether `key` is `known` with two slips at most. Lengths first: every key of a file is asked about.
fn is_slip(known: &str, key: &str) -> bool {
    known.len().abs_diff(key.chars().count()) <= 2 && strsim::damerau_levenshtein(known, key) <= 2
}

/// Whether `text` must not be shown: it may carry credentials, or a secret behind its key.
pub(super) fn holds_secret(text: &str) -> bool {
    has_credentials(text)
        || is_pem(text)
        || text.trim().contains(['\n', '\r'])
        || names_secret(text)
        || behind_secret_key(text).is_some_and(|from| from < text.chars().count())
}

/// Whether `text` is a key or certificate itself, where a path may be wanted: in PEM, or in base64 alone.
pub(super) fn is_pem(text: &str) -> bool {
    let base64 = |letter: char| letter.is_ascii_alphanumeric() || "+/=".contains(letter);
    // A sequence of DER begins with 0x30.
    let der = text.starts_with('M') && text.len() >= SHORTEST_KEY && text.chars().all(base64);
    der || PEM_BEGINS.iter().any(|begin| text.contains(begin))
}

/// Whether `text` takes a secret from a variable that is named like one, wherever it was put.
fn names_secret(text: &str) -> bool {
    let name = |rest: &str| rest.chars().take_while(|letter| is_part_of_name(*letter)).collect::<String>();
    text.split("${").skip(1).any(|rest| is_secret_key(&name(rest)))
}

/// Whether `text` may carry credentials as `scheme://user:password@host` does. A password with a `/`, `?` or `#` in it
/// makes the URL a wrong one, and so do slips in the scheme: whatever stands before the last `@` counts.
fn has_credentials(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(before, _)| before.contains(':') || before.contains("//"))
}

/// `key` as a message may name it: `client_secret:hunter2`, which lacks its blank, is one key to YAML.
pub(super) fn named(key: &str) -> String {
    if !holds_secret(key) {
        return format!("`{key}`");
    }
    let name: String = key.chars().take_while(|letter| is_part_of_name(*letter)).collect();
    format!("`{name}…`")
}

/// The secrets of a document that could be read.
pub(super) fn secrets_of(node: &Node) -> Vec<Span> {
    let mut found = Vec::new();
    collect(node, false, &mut found);
    found
}

fn collect(node: &Node, secret: bool, found: &mut Vec<Span>) {
    match &node.value {
        Value::Scalar(scalar) if secret || holds_secret(&scalar.text) => found.push(node.spot.span()),
        Value::List(items) => items.iter().for_each(|item| collect(item, secret, found)),
        Value::Map(entries) => {
            for entry in entries {
                // `password: {x}` is a map to YAML.
                if secret || holds_secret(&entry.key) {
                    found.push(entry.key_spot.span());
                }
                collect(&entry.node, secret || is_secret_key(&entry.key), found);
            }
        }
        _ => {}
    }
}

/// The secrets of a text that is not YAML: everything behind a secret's key, and the deeper lines below it.
pub(super) fn secrets_of_text(source: &Source) -> Vec<Span> {
    let mut found = Vec::new();
    // How deep the key stands, and whether as an item of a list: then the next one is not its value.
    let mut inside: Option<(usize, bool)> = None;
    let mut in_pem = false;
    for (index, line) in source.lines().iter().enumerate() {
        let indent = line.chars().take_while(|letter| letter.is_whitespace()).count();
        let blank = line.trim().is_empty();
        let item = line.trim_start().starts_with("- ");
        let continues = inside.is_some_and(|(key, of_list)| indent > key || (indent == key && item && !of_list));
        let from = if continues && !blank {
            Some(indent)
        } else {
            inside = inside.filter(|_| blank);
            behind_secret_key(line)
        };
        // Below it stands more of it only where it is a key, and no comment or value.
        if !continues && from.is_some_and(|from| opens(line, from)) {
            inside = Some((indent, item));
        }
        let value = line.split_once(": ").map_or(line.as_str(), |(_key, value)| value);
        in_pem |= is_pem(value);
        let from = if in_pem || has_credentials(value) { Some(indent) } else { from };
        in_pem &= !value.contains(PEM_ENDS);
        let end = line.chars().count();
        if let Some(from) = from.filter(|from| *from < end) {
            let at = |column: usize| Position { line: index + 1, column: column + 1 };
            found.push(Span { start: at(from), end: at(end) });
        }
    }
    found
}

/// Characters before what stands behind the first secret's key in `text`, whatever parts the two. In a path or a URL
/// such a word is no key.
fn behind_secret_key(text: &str) -> Option<usize> {
    let mut before = 0;
    let mut in_path = false;
    for piece in text.split_inclusive(|letter| !is_part_of_name(letter)) {
        before += piece.chars().count();
        let word = piece.trim_end_matches(|letter| !is_part_of_name(letter));
        let parted = piece.ends_with([':', '=', ' ', '\t', '"', '\'']);
        if parted && !in_path && is_secret_key(word) {
            let between = text.chars().skip(before).take_while(|letter| "\"' :=".contains(*letter));
            return Some(before + between.count());
        }
        in_path = piece.ends_with('/');
    }
    None
}

/// Whether what stands before `from` ends in a key, whose value may go on below: in a flow mapping, too.
fn opens(line: &str, from: usize) -> bool {
    let before: Vec<char> = line.chars().take(from).collect();
    let mut between = before.iter().rev().take_while(|letter| "\"' :=".contains(**letter));
    !line.trim_start().starts_with('#') && between.any(|letter| ":=".contains(*letter))
}

fn is_part_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || "._-".contains(letter)
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

    #[test]
    fn a_word_in_a_comment_a_value_or_a_placeholder_hides_nothing_below() {
        for text in ["# the password reset pages\n  auth: : none", "- id: \"reset-password\"\n  auth: : none"] {
            let hidden = secrets_of_text(&Source::new(std::path::Path::new("a.yaml"), text));
            assert!(hidden.iter().all(|span| span.start.line == 1), "{text}: {hidden:?}");
        }
        let text =
            "- { name: x, client_secret:\n    hunter2 }\n- id: y\n  'client_secret' :\n    hunter2\n  auth: : none";
        let hidden = secrets_of_text(&Source::new(std::path::Path::new("a.yaml"), text));
        let lines: Vec<usize> = hidden.iter().map(|span| span.start.line).collect();
        assert_eq!(lines, [2, 5], "in a mapping on one line, too");
        for path in ["/x/{secret_name}/y", "/{credential_id}"] {
            assert!(!holds_secret(path), "{path}");
        }
    }

    #[test]
    fn a_misspelt_key_is_still_a_secrets() {
        for key in [
            "client_secert",
            "passwrod",
            "pasword",
            "pass",
            "sentinel_pasword",
            "sentinel_pass",
            "empowerid_key",
            "Client-Secret",
        ] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["path", "server", "store", "empowerid", "empowerid_portal", "key_id", "session", "base_url"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn a_key_is_a_secret_wherever_it_stands_and_so_is_what_its_variable_says() {
        let base64 = format!("MC4CAQAwBQYDK2Vw{}", "B".repeat(48));
        for text in ["-----BEGIN PRIVATE KEY----- MIG", "LS0tLS1CRUdJTiBQUklWQVRF", &base64, "one\ntwo", "${MY_TOKEN}"]
        {
            assert!(holds_secret(text), "{text}");
        }
        for harmless in ["/run/tls/key.pem", "MyCertificates/tls.key", "one\n", "${TLS_KEY}", "${TOKEN_HOST:-x}"] {
            assert!(!holds_secret(harmless), "{harmless}");
        }
        for key in ["Authorization", "accessToken", "bearer", "id-token", "jwt", "Set-Cookie", "client_key_data"] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["authorization_url", "token_url", "token_policy", "cookie_name", "client_key", "auth"] {
            assert!(!is_secret_key(key), "{key}");
        }
        let text = "a:\n  key: |\n-----BEGIN PRIVATE KEY-----\nMIG\n-----END PRIVATE KEY-----\n  b: : 1\n";
        let hidden = secrets_of_text(&Source::new(std::path::Path::new("a.yaml"), text));
        let lines: Vec<usize> = hidden.iter().map(|span| span.start.line).collect();
        assert_eq!(lines, [3, 4, 5]);
    }

    #[test]
    fn everything_before_the_last_at_sign_may_be_a_password() {
        for url in [
            "redis://:hunter2/abc@127.0.0.1:6379/0",
            "https://cl:hunter2?x@idp.example/token",
            "redis+sentinel://u:hun#ter2@a,b/main",
            "redis//:hunter2@host",
            "http://u@h/a@b",
        ] {
            assert!(holds_secret(url), "{url}");
        }
        for harmless in ["http://host/a:b", "me@example.com", "/users/@me", "sqlite:a.db"] {
            assert!(!holds_secret(harmless), "{harmless}");
        }
    }

    #[test]
    fn a_key_that_lacks_its_blank_or_colon_hides_what_stands_behind_it() {
        for (text, shown) in [
            ("client_secret:hunter2", "`client_secret…`"),
            ("password=hunter2", "`password…`"),
            ("empowerid_api_key hunter2", "`empowerid_api_key…`"),
            ("store:redis://:hunter2@h", "`store…`"),
            ("oops", "`oops`"),
            ("client_secret", "`client_secret`"),
        ] {
            assert_eq!(named(text), shown);
        }
        for harmless in ["/run/secrets/tls.key", "secrets/tls.key", "http://password-reset:80/x", "db-password"] {
            assert!(!holds_secret(harmless), "{harmless}");
        }
    }
}
