//! The certificate for HTTPS: from files that are reloaded when they change, or self-signed.

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

/// The reason why HTTPS cannot be served.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// A file has unexpected content.
    #[error("{what} has no usable PEM: {cause}")]
    Pem {
        /// The file's name.
        what: &'static str,
        /// The cause.
        cause: pem::Error,
    },
    /// The certificate and key cannot be used together.
    #[error("tls.crt and tls.key cannot be used: {0}")]
    Unusable(rustls::Error),
    /// No certificate could be generated.
    #[error("a self-signed certificate could not be generated: {0}")]
    Make(rcgen::Error),
}

/// A certificate chain and its key, in PEM.
#[derive(PartialEq)]
struct Pair {
    certificates: Vec<u8>,
    key: Vec<u8>,
}

/// The current certificate and its source.
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
            info!("serving metrics with a self-signed certificate");
            return Ok(Self { config: RustlsConfig::from_config(config), followed: None });
        };
        let pair = Pair::read(directory)?;
        let config = RustlsConfig::from_config(pair.server_config()?);
        Ok(Self { config, followed: Some((directory.to_owned(), pair)) })
    }

    /// Reloads the files whenever they change, for ever. While they are unusable, for example because only one of
    /// the two has changed yet, the previous certificate stays in use.
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
                        warn!("--metrics-cert-dir: {error}; keeping the previous certificate");
                    }
                    said = Some(error);
                }
            }
        }
    }
}

impl Pair {
    fn read(directory: &Path) -> Result<Self, CertificateError> {
        // Blocking reads are fine: the files are small, and mounted Secrets are in memory.
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

/// Generates a certificate for clients that do not verify it.
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
    fn a_self_signed_certificate_can_be_served() {
        self_signed().unwrap().server_config().unwrap();
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (certificates, key) = (self_signed().unwrap().certificates, self_signed().unwrap().key);
        let refused = Pair { certificates, key }.server_config().unwrap_err();
        assert!(matches!(refused, CertificateError::Unusable(_)), "{refused}");
    }

    #[test]
    fn the_error_for_a_missing_file_names_its_path() {
        let missing = Certificates::open(Some(Path::new("/nonexistent"))).err().unwrap();
        assert!(missing.to_string().contains("/nonexistent/tls.crt"), "{missing}");
    }
}
