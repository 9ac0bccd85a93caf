//! Which certificates a probe accepts, and the HTTP client that follows from it.
//!
//! A Pod's probe accepts any: it asks whether its own node's agent answers, and agents are wont to
//! use certificates that nobody can verify. The Go project's reporter verifies, and so does this one
//! when it is configured like that one.

use std::{io, path::PathBuf, sync::Arc};

use reqwest::ClientBuilder;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem, pem::PemObject},
};

/// Where trust in an https endpoint comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's roots, as built into this binary: the image holds no other file.
    Bundled,
    /// A PEM file, instead of those.
    File(PathBuf),
}

/// Why the certificates of `CHECK_CA_FILE` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("CHECK_CA_FILE {}: the file cannot be read ({source}): mount it there or unset the variable", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no certificate, or a broken one.
    #[error("CHECK_CA_FILE {}: {problem}: use a PEM file with CA certificates", path.display())]
    NotCertificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The TLS library or the HTTP client refuses its configuration.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
}

/// Makes *ring* the process's cryptography, once. Every TLS client here and in kube takes it.
pub(crate) fn install_crypto() -> Arc<CryptoProvider> {
    let provider = rustls::crypto::ring::default_provider();
    // An error means that it has been installed before.
    let _ = provider.install_default();
    CryptoProvider::get_default()
        .map_or_else(|| Arc::new(rustls::crypto::ring::default_provider()), Arc::clone)
}

/// Accepts any certificate.
pub(super) fn accept_all(builder: ClientBuilder) -> ClientBuilder {
    install_crypto();
    builder.tls_danger_accept_invalid_certs(true)
}

/// Accepts what the roots vouch for.
pub(super) fn verify(builder: ClientBuilder, roots: &Roots) -> Result<ClientBuilder, TrustError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::Bundled => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::File(path) => {
            let invalid =
                |problem: String| TrustError::NotCertificates { path: path.clone(), problem };
            let text = std::fs::read(path)
                .map_err(|source| TrustError::Unreadable { path: path.clone(), source })?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate =
                    certificate.map_err(|error: pem::Error| invalid(error.to_string()))?;
                store.add(certificate).map_err(|error| invalid(error.to_string()))?;
            }
            if store.is_empty() {
                return Err(invalid("it holds no certificate".into()));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(install_crypto())
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Client(error.to_string()))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(builder.tls_backend_preconfigured(config))
}
