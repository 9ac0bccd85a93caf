//! Which certificates a probe accepts.
//!
//! A Pod's probe accepts any, because agents often use certificates that nobody can verify. The Go project's
//! reporter verifies certificates, and so does this one with its settings.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
    client::{
        ResolvesClientCert, Resumption, WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem, pem::PemObject},
    sign::CertifiedKey,
};

/// The source of trust in an https endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's roots, which are built in, because the image has no other file.
    Bundled,
    /// A PEM file instead of those.
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
    /// The file has no certificate, or an invalid one.
    #[error("CHECK_CA_FILE {}: {problem}: use a PEM file with CA certificates", path.display())]
    NotCertificates {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The TLS library or the HTTP client refuses the configuration.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
}

/// Installs *ring* as the process's cryptography, once. Every TLS client here and in kube uses it.
pub(crate) fn install_crypto() -> Arc<CryptoProvider> {
    let provider = rustls::crypto::ring::default_provider();
    // An error means that it is already installed.
    let _ = provider.install_default();
    CryptoProvider::get_default()
        .map_or_else(|| Arc::new(rustls::crypto::ring::default_provider()), Arc::clone)
}

/// A client's configuration, and whether the server asked it for a certificate.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) config: ClientConfig,
    pub(super) asked: Arc<AskedForCertificate>,
}

impl Tls {
    /// Accepts any certificate, of any version and with keys of any size.
    pub(super) fn accept_all() -> Result<Self, TrustError> {
        let verifier = Arc::new(AcceptAll(install_crypto()));
        Self::new(|config| config.dangerous().with_custom_certificate_verifier(verifier))
    }

    /// Accepts certificates that the roots have signed.
    pub(super) fn verify(roots: &Roots) -> Result<Self, TrustError> {
        let roots = root_store(roots)?;
        Self::new(|config| config.with_root_certificates(roots))
    }

    fn new(
        verifier: impl FnOnce(
            ConfigBuilder<ClientConfig, WantsVerifier>,
        ) -> ConfigBuilder<ClientConfig, WantsClientCert>,
    ) -> Result<Self, TrustError> {
        let config = ClientConfig::builder_with_provider(install_crypto())
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError::Client(error.to_string()))?;
        let asked = Arc::new(AskedForCertificate::default());
        let mut config = verifier(config).with_client_cert_resolver(asked.clone());
        // Each probe is a full handshake, because a resumed one would not notice a removed certificate.
        config.resumption = Resumption::disabled();
        Ok(Self { config, asked })
    }
}

/// Has no client certificate, and records that the server asked for one.
#[derive(Debug, Default)]
pub(super) struct AskedForCertificate(AtomicBool);

impl AskedForCertificate {
    /// Returns whether the server asked since the last call.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl ResolvesClientCert for AskedForCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        // Otherwise it is not called.
        true
    }
}

/// Verifies no certificate, as kubelet's probe does, and no signature of the server's key, because anybody can
/// show a certificate of their own.
#[derive(Debug)]
struct AcceptAll(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// The signature schemes to offer. There are more than could be verified, because none is verified.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.signature_verification_algorithms.supported_schemes();
        schemes.extend([
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::RSA_PKCS1_SHA1,
            SignatureScheme::ECDSA_SHA1_Legacy,
        ]);
        schemes
    }
}

fn root_store(roots: &Roots) -> Result<RootCertStore, TrustError> {
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
    Ok(store)
}
