//! Certificates and private keys in PEM: what can be used, said once for those who check what is written and
//! for those who run by it. No message repeats anything of a key.

use std::path::Path;

use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring::default_provider;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{Error, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};

const NO_CERTIFICATE: &str = "it holds no `-----BEGIN CERTIFICATE-----`";
const BAD_CERTIFICATE: &str = "it holds a certificate that cannot be read";
const BAD_KEY: &str = "its key cannot sign: RSA from 2048 bits on, P-256, P-384 or Ed25519 is needed";

/// Which of two files cannot be used, and why.
#[derive(Debug)]
pub(crate) enum Unfit {
    Certificate(String),
    Key(String),
}

/// The certificates of a file; at least one. The first is the leaf: what follows may be what TLS does without, a root of
/// version 1 among it.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = authorities(path)?;
    let leaf = chain.first().ok_or_else(|| NO_CERTIFICATE.to_owned())?;
    ParsedCertificate::try_from(leaf).map_err(|_error| BAD_CERTIFICATE.to_owned())?;
    Ok(chain)
}

/// What the clock says against a certificate, with the date; `None`: nothing.
pub(crate) fn out_of_time(certificate: &CertificateDer<'_>) -> Option<String> {
    let leaf = ParsedCertificate::try_from(certificate).ok()?;
    let (nobody, algorithms) = (RootCertStore::empty(), default_provider().signature_verification_algorithms.all);
    // Whoever signed it: its dates are looked at first.
    match verify_server_cert_signed_by_trust_anchor(&leaf, &nobody, &[], UnixTime::now(), algorithms) {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(format!("has expired on {}", date(not_after)))
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            Some(format!("is not valid before {}", date(not_before)))
        }
        _ => None,
    }
}

fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(time.as_secs()))
}

/// The key of a file; TLS can sign with it.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        Error::NoItemsFound => no_key(&std::fs::read_to_string(path).unwrap_or_default()).to_owned(),
        other => reason(&other),
    })?;
    match any_supported_type(&key) {
        Ok(_) => Ok(key),
        Err(_) => Err(BAD_KEY.to_owned()),
    }
}

/// A certificate chain and the key of its first certificate.
pub(crate) fn certified(certificate: &Path, key: &Path) -> Result<CertifiedKey, Unfit> {
    let chain = certificates(certificate).map_err(Unfit::Certificate)?;
    let signing = any_supported_type(&private_key(key).map_err(Unfit::Key)?);
    let certified = CertifiedKey::new(chain, signing.map_err(|_error| Unfit::Key(BAD_KEY.to_owned()))?);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Unfit::Key(format!("it is not the key of the certificate in {}", certificate.display())))
        }
        Err(error) => Err(Unfit::Key(error.to_string())),
    }
}

/// The authorities of a file, all of them readable (the engine panics at one that is not); at least one.
pub(crate) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let blocks = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let authorities = blocks.map_err(|error| reason(&error))?;
    if authorities.is_empty() {
        return Err(NO_CERTIFICATE.to_owned());
    }
    let mut store = RootCertStore::empty();
    for authority in &authorities {
        store.add(authority.clone()).map_err(|_error| BAD_CERTIFICATE.to_owned())?;
    }
    Ok(authorities)
}

/// A key for JWTs and what it can sign with, the preferred algorithm first.
pub(crate) fn signing_key(pem: &str) -> Result<(EncodingKey, Vec<Algorithm>), String> {
    if pem.contains("-----BEGIN EC PRIVATE KEY-----") {
        return Err("it is in the form SEC1; `openssl pkcs8 -topk8 -nocrypt` makes PKCS#8 of it".to_owned());
    }
    if !pem.contains("PRIVATE KEY-----") || is_encrypted(pem) {
        return Err(no_key(pem).to_owned());
    }
    let bytes = pem.as_bytes();
    let key = EncodingKey::from_rsa_pem(bytes)
        .or_else(|_not_rsa| EncodingKey::from_ec_pem(bytes))
        .or_else(|_not_ec| EncodingKey::from_ed_pem(bytes))
        .map_err(|_error| "it cannot be read".to_owned())?;
    let candidates: &[Algorithm] = match key.family() {
        AlgorithmFamily::Rsa => &[Algorithm::RS256, Algorithm::PS256],
        AlgorithmFamily::Ec => &[Algorithm::ES256, Algorithm::ES384],
        _ => &[Algorithm::EdDSA],
    };
    // A short key or another curve shows here and not at the first login.
    let signs = |algorithm: &Algorithm| jsonwebtoken::crypto::sign(b"probe", &key, *algorithm).is_ok();
    let algorithms: Vec<_> = candidates.iter().copied().filter(signs).collect();
    if algorithms.is_empty() {
        return Err(BAD_KEY.to_owned());
    }
    Ok((key, algorithms))
}

fn is_encrypted(pem: &str) -> bool {
    pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || pem.contains("Proc-Type: 4,ENCRYPTED")
}

fn no_key(pem: &str) -> &'static str {
    if is_encrypted(pem) {
        return "the key is encrypted; `openssl pkey` writes it without its passphrase";
    }
    "it holds no `-----BEGIN PRIVATE KEY-----`"
}

fn reason(error: &Error) -> String {
    match error {
        Error::Io(error) => error.to_string(),
        _ => format!("it is no whole PEM: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = include_str!("../tests/fixtures/root_of_version_1.pem");
    const NONSENSE: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";

    #[test]
    fn a_root_of_version_1_passes_wherever_it_is_no_leaf() {
        let leaf = rcgen::generate_simple_self_signed(["edge.example".to_owned()]).unwrap().cert.pem();
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |blocks: &[&str]| {
            std::fs::write(file.path(), blocks.concat()).unwrap();
            let count = |all: Result<Vec<_>, String>| all.map(|all| all.len());
            (count(certificates(file.path())), count(authorities(file.path())))
        };
        assert_eq!(read(&[&leaf, ROOT]), (Ok(2), Ok(2)));
        let bad = || Err(BAD_CERTIFICATE.to_owned());
        assert_eq!(read(&[ROOT, &leaf]), (bad(), Ok(2)), "no browser takes it for a leaf");
        assert_eq!(read(&[&leaf, NONSENSE]), (bad(), bad()), "the engine would panic");
        let none = || Err(NO_CERTIFICATE.to_owned());
        assert_eq!(read(&[]), (none(), none()));
    }
}
