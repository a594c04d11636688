//! PEM files of `services.*.tls`, checked before the engine sees them: it would panic on a bad one.

use std::path::Path;
use std::sync::Arc;

use pingora::protocols::tls::CaType;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};

use super::UpstreamError;
use crate::config::{CertifiedPair, ServiceTlsConfig};
use crate::pem::{self, Unfit};

#[derive(Default)]
pub(super) struct Material {
    pub(super) ca: Option<Arc<CaType>>,
    pub(super) client_cert: Option<Arc<CertKey>>,
}

pub(super) fn read(service: &str, config: &ServiceTlsConfig) -> Result<Material, UpstreamError> {
    let ca = match &config.ca {
        Some(path) => {
            let authorities = pem::authorities(path).map_err(|reason| bad(service, path, reason))?;
            let wrapped: Vec<WrappedX509> =
                authorities.into_iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509)).collect();
            Some(Arc::<CaType>::from(wrapped.into_boxed_slice()))
        }
        None => None,
    };
    let client_cert = match &config.client {
        Some(CertifiedPair { cert, key }) => {
            let certified = pem::certified(cert, key).map_err(|unfit| match unfit {
                Unfit::Certificate(reason) => bad(service, cert, reason),
                Unfit::Key(reason) => bad(service, key, reason),
            })?;
            let key_der = pem::private_key(key).map_err(|reason| bad(service, key, reason))?;
            let chain = certified.cert.iter().map(|der| der.to_vec()).collect();
            Some(Arc::new(CertKey::new(chain, key_der.secret_der().to_vec())))
        }
        None => None,
    };
    Ok(Material { ca, client_cert })
}

fn bad(service: &str, path: &Path, reason: String) -> UpstreamError {
    UpstreamError::Pem { service: service.to_owned(), path: path.to_owned(), reason }
}
