//! The certificate for HTTPS: the user's, read again when it changes, or a self-signed one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tracing::{info, warn};

/// How often the files are checked. Kubelet updates a mounted Secret about once a minute.
const PERIOD: Duration = Duration::from_secs(5);

/// Why HTTPS cannot be served.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file has unexpected content.
    #[error("{what} has no usable PEM: {cause}")]
    Pem {
        /// The file's name.
        what: &'static str,
        /// Why.
        cause: pem::Error,
    },
    /// The certificate and key do not fit.
    #[error("tls.crt and tls.key cannot be served: {0}")]
    Unusable(rustls::Error),
    /// No certificate could be generated.
    #[error("no certificate could be made: {0}")]
    Make(rcgen::Error),
}

/// A certificate chain and its key, in PEM.
#[derive(PartialEq)]
struct Pair {
    certificates: Vec<u8>,
    key: Vec<u8>,
}

/// The present certificate, and its source.
pub(super) struct Certificates {
    /// The server's configuration, which can change while it serves.
    pub(super) config: RustlsConfig,
    followed: Option<(PathBuf, Pair)>,
}

impl Certificates {
    /// Reads `tls.crt` and `tls.key` from a directory, or generates a certificate.
    pub(super) fn open(directory: Option<&Path>) -> Result<Self, CertificateError> {
        let Some(directory) = directory else {
            let config = self_signed()?.server_config()?;
            info!("metrics are served with a self-signed certificate of this process");
            return Ok(Self { config: RustlsConfig::from_config(config), followed: None });
        };
        let pair = Pair::read(directory)?;
        let config = RustlsConfig::from_config(pair.server_config()?);
        Ok(Self { config, followed: Some((directory.to_owned(), pair)) })
    }

    /// Follows the files for ever. Unusable files, such as a pair of which only one has changed yet, leave the
    /// last certificate in use.
    pub(super) async fn follow(self) {
        let Self { config, followed: Some((directory, mut current)) } = self else {
            return std::future::pending().await;
        };
        let mut said = None;
        loop {
            tokio::time::sleep(PERIOD).await;
            let next = Pair::read(&directory)
                .and_then(|pair| if pair == current { Ok(None) } else { pair.usable().map(Some) });
            match next {
                Ok(None) => said = None,
                Ok(Some((pair, server))) => {
                    info!(directory = %directory.display(), "serving metrics with a new certificate");
                    config.reload_from_config(server);
                    current = pair;
                }
                Err(error) => {
                    let error = error.to_string();
                    if said.as_ref() != Some(&error) {
                        warn!("--metrics-cert-dir: {error}; the certificate served is the last");
                    }
                    said = Some(error);
                }
            }
        }
    }
}

impl Pair {
    fn read(directory: &Path) -> Result<Self, CertificateError> {
        // Two small files; mounted Secrets are in memory.
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).map_err(|cause| CertificateError::Read { path, cause })
        };
        Ok(Self { certificates: read("tls.crt")?, key: read("tls.key")? })
    }

    fn usable(self) -> Result<(Self, Arc<ServerConfig>), CertificateError> {
        let config = self.server_config()?;
        Ok((self, config))
    }

    fn server_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let in_file = |what| move |cause| CertificateError::Pem { what, cause };
        let chain = CertificateDer::pem_slice_iter(&self.certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(in_file("tls.crt"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(in_file("tls.key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(CertificateError::Unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// A certificate for clients that do not verify it.
fn self_signed() -> Result<Pair, CertificateError> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .map_err(CertificateError::Make)?;
    Ok(Pair {
        certificates: made.cert.pem().into_bytes(),
        key: made.signing_key.serialize_pem().into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_ones_own_can_be_served() {
        self_signed().unwrap().server_config().unwrap();
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (certificates, key) = (self_signed().unwrap().certificates, self_signed().unwrap().key);
        let refused = Pair { certificates, key }.server_config().unwrap_err();
        assert!(matches!(refused, CertificateError::Unusable(_)), "{refused}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let missing = Certificates::open(Some(Path::new("/nonexistent"))).err().unwrap();
        assert!(missing.to_string().contains("/nonexistent/tls.crt"), "{missing}");
    }
}
