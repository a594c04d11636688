//! PEM files named in the configuration: there, readable, and of the expected kind. Whether a certificate is
//! valid is for the TLS library to say.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::diagnostic::Collector;
use super::node::Node;
use super::reader::refuse;
use super::scalar::{quote, text};

/// The path of a PEM file with at least one certificate.
pub(super) fn certificate_file(node: &Node, found: &Collector) -> Option<PathBuf> {
    pem_file(node, found, "CERTIFICATE")
}

/// The path of a PEM file with a private key.
pub(super) fn key_file(node: &Node, found: &Collector) -> Option<PathBuf> {
    pem_file(node, found, "PRIVATE KEY")
}

fn pem_file(node: &Node, found: &Collector, kind: &str) -> Option<PathBuf> {
    let path = text(node, found)?;
    let label = "relative paths begin at the working directory";
    match std::fs::read_to_string(&path) {
        Ok(content) if holds(&content, kind) => Some(PathBuf::from(path)),
        Ok(_) => refuse(
            node,
            found,
            format!("{} holds no `-----BEGIN {kind}-----`", quote(&node.spot, &path)),
            "not such a PEM file",
        ),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => refuse(
            node,
            found,
            format!("{} is not a PEM file", quote(&node.spot, &path)),
            "PEM is text; this is binary (DER?)",
        ),
        Err(error) => refuse(node, found, format!("cannot read {}: {error}", quote(&node.spot, &path)), label),
    }
}

/// Whether `text` holds a PEM block whose label ends in `kind` (`EC PRIVATE KEY` is a `PRIVATE KEY`) and whose
/// body is base64 (RFC 7468).
pub(super) fn holds(text: &str, kind: &str) -> bool {
    let mut body: Option<String> = None;
    for line in text.lines().map(str::trim) {
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) {
            body = label.ends_with(kind).then(String::new);
        } else if line.starts_with("-----END ") {
            if body.take().is_some_and(|body| !body.is_empty() && STANDARD.decode(body).is_ok()) {
                return true;
            }
        } else if let Some(body) = &mut body {
            body.push_str(line);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_of_the_right_kind_count() {
        let block = |label: &str, body: &str| format!("x\n-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        assert!(holds(&block("PRIVATE KEY", "AAAA"), "PRIVATE KEY"));
        assert!(holds(&block("EC PRIVATE KEY", "AAAA"), "PRIVATE KEY"));
        assert!(holds(&(block("CERTIFICATE", "AAAA") + &block("PRIVATE KEY", "AAAA")), "PRIVATE KEY"));
        assert!(!holds(&block("PUBLIC KEY", "AAAA"), "PRIVATE KEY"));
        assert!(!holds(&block("PRIVATE KEY", "?"), "PRIVATE KEY"));
        assert!(!holds(&block("PRIVATE KEY", ""), "PRIVATE KEY"));
        assert!(!holds("-----BEGIN PRIVATE KEY-----\nAAAA\n", "PRIVATE KEY"));
    }
}
