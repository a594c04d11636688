//! PEM files of `services.*.tls`, checked before the engine sees them: it would panic on a bad one.

use std::path::Path;
use std::sync::Arc;

use pingora::protocols::tls::CaType;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;

use super::UpstreamError;
use crate::config::ServiceTlsConfig;

#[derive(Default)]
pub(super) struct Material {
    pub(super) ca: Option<Arc<CaType>>,
    pub(super) client_cert: Option<Arc<CertKey>>,
}

pub(super) fn read(service: &str, config: &ServiceTlsConfig) -> Result<Material, UpstreamError> {
    let ca = match &config.ca {
        Some(path) => {
            let wrapped: Vec<WrappedX509> =
                certificates(service, path)?.into_iter().map(|der| WrappedX509::new(der, parse_x509)).collect();
            Some(Arc::<CaType>::from(wrapped.into_boxed_slice()))
        }
        None => None,
    };
    let client_cert = match (&config.client_cert, &config.client_key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(service, cert)?;
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(service, key, &error))?;
            Some(Arc::new(CertKey::new(chain, key_der.secret_der().to_vec())))
        }
        _ => None,
    };
    Ok(Material { ca, client_cert })
}

/// Every certificate of a PEM file, as DER; at least one.
fn certificates(service: &str, path: &Path) -> Result<Vec<Vec<u8>>, UpstreamError> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(service, path, &error))? {
        let certificate = certificate.map_err(|error| bad(service, path, &error))?;
        ParsedCertificate::try_from(&certificate).map_err(|error| bad(service, path, &error))?;
        found.push(certificate.to_vec());
    }
    if found.is_empty() {
        return Err(bad(service, path, &"no certificate in this file"));
    }
    Ok(found)
}

fn bad(service: &str, path: &Path, reason: &dyn std::fmt::Display) -> UpstreamError {
    UpstreamError::Pem { service: service.to_owned(), path: path.to_owned(), reason: reason.to_string() }
}
