//! The HTTP server over TLS, with a self-signed certificate.

use std::sync::Arc;

use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

use super::{behavior::Behavior, http};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Returns a TLS acceptor with a new certificate for localhost, and that certificate as PEM.
pub(crate) fn acceptor() -> Result<(TlsAcceptor, String), Error> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let identity = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der())?;
    let certificate = CertificateDer::from(identity.cert.der().to_vec());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), identity.cert.pem()))
}

/// Answers one request, or fails its TLS handshake.
pub(crate) async fn answer(tls: TlsAcceptor, mut stream: TcpStream, behavior: Behavior) {
    if behavior == Behavior::Plain {
        // It answers like a server for plain HTTP.
        let _ = stream.write_all(&http::reply("400 Bad Request", "no TLS here\n")).await;
        http::await_hang_up(&mut stream).await;
    } else if let Ok(stream) = tls.accept(stream).await {
        http::answer(stream, behavior).await;
    }
}
