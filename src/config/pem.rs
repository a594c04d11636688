//! PEM files named in the configuration: there, and of use. What is of use is said in `pem`, once for this check
//! and for those who run by the files.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::diagnostic::{Collector, Diagnostic};
use super::mask::is_pem;
use super::model::CertifiedPair;
use super::node::Node;
use super::reader::{Located, MapReader, refuse};
use super::scalar::{quote, text};
use crate::pem::{Unfit, authorities, certificates, certified, out_of_time, private_key};

/// `client_cert` and `client_key`: both or neither.
pub(super) fn client_pair(map: &mut MapReader<'_>, found: &Collector) -> Option<CertifiedPair> {
    let (cert, key) = ("client_cert", "client_key");
    for (one, missing) in [(cert, key), (key, cert)] {
        if map.node(one).is_some()
            && map.node(missing).is_none()
            && let Some(spot) = map.key_spot(one)
        {
            found.push(Diagnostic::error(spot, format!("the key `{missing}` is missing beside this one")));
        }
    }
    let (cert, key) = (map.field(cert, certificate_file), map.located(key, key_file));
    Some(pair(cert?, key?, found))
}

/// The path of a PEM file with a certificate chain.
pub(super) fn certificate_file(node: &Node, found: &Collector) -> Option<PathBuf> {
    pem_file(node, found, certificates)
}

/// The path of a PEM file with the certificates of authorities.
pub(super) fn authority_file(node: &Node, found: &Collector) -> Option<PathBuf> {
    pem_file(node, found, authorities)
}

/// The path of a PEM file with a private key.
pub(super) fn key_file(node: &Node, found: &Collector) -> Option<PathBuf> {
    pem_file(node, found, private_key)
}

fn pem_file<T>(node: &Node, found: &Collector, read: impl Fn(&Path) -> Result<T, String>) -> Option<PathBuf> {
    let written = text(node, found)?;
    if is_pem(&written) {
        return refuse(
            node,
            found,
            "a path is wanted here, and this is the PEM itself",
            "write it to a file and name its path",
        );
    }
    let path = PathBuf::from(&written);
    let named = quote(&node.spot, &path.to_string_lossy());
    if let Err(error) = std::fs::File::open(&path) {
        let label = match error.kind() {
            ErrorKind::NotFound if written.starts_with("file:") => "a path here, without `file:`",
            ErrorKind::NotFound if path.is_relative() => "relative paths begin at the working directory",
            _ => "",
        };
        return refuse(node, found, format!("cannot read {named}: {error}"), label);
    }
    match read(&path) {
        Ok(_) => Some(path),
        Err(reason) => refuse(node, found, format!("{named} cannot be used: {reason}"), ""),
    }
}

/// Browsers refuse it now, though it can be served.
pub(super) fn check_dates(certificate: &Located<PathBuf>, found: &Collector) {
    let leaf = certificates(&certificate.value).ok().and_then(|chain| chain.into_iter().next());
    if let Some(fault) = leaf.as_ref().and_then(out_of_time) {
        let warning = Diagnostic::warning(&certificate.spot, format!("the certificate {fault}"));
        found.push(warning.label("browsers refuse it"));
    }
}

/// The key is to be that of the certificate. Each by itself has been read already.
pub(super) fn pair(cert: PathBuf, key: Located<PathBuf>, found: &Collector) -> CertifiedPair {
    if let Err(Unfit::Certificate(reason) | Unfit::Key(reason)) = certified(&cert, &key.value) {
        let named = quote(&key.spot, &key.value.to_string_lossy());
        let error = Diagnostic::error(&key.spot, format!("{named} cannot be used: {reason}"));
        found.push(error.label("the two belong together"));
    }
    CertifiedPair { cert, key: key.value }
}
