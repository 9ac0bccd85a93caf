//! A probed server that does what a test says, down to the bytes.

use std::{
    io,
    sync::{Arc, Mutex},
};

use rcgen::{CertifiedKey, KeyPair};
use rustls::{
    ALL_VERSIONS, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Sends this and closes.
    Bytes(String),
    /// Sends this and closes without TLS's `close_notify`.
    Cut(String),
    /// Sends this and then neither more nor the end.
    Stall(String),
    /// Sends a body without end, until the other side has had enough.
    Endless,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Bytes(format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nhi"))
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::Bytes(format!("HTTP/1.1 302 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"))
    }
}

/// The server. It lives as long as the test's runtime.
pub(crate) struct Site {
    pub(crate) port: u16,
    /// The head of every request, one connection each.
    heads: Arc<Mutex<Vec<String>>>,
    /// Gets one for every connection that is over, from the server's point of view.
    ended: mpsc::UnboundedReceiver<()>,
}

impl Site {
    /// Serves plain HTTP; `reply` gets the path of a request.
    pub(crate) async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, reply).await
    }

    /// Serves HTTPS with a certificate for `localhost` that only itself vouches for. Returns the
    /// certificate, too, as PEM.
    pub(crate) async fn start_tls(
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> (Self, String) {
        let identity = identity();
        let acceptor = acceptor(&identity, ALL_VERSIONS, WebPkiClientVerifier::no_client_auth());
        (Self::serve(Some(acceptor), reply).await, identity.cert.pem())
    }

    /// Serves HTTPS of these versions to clients that have a certificate which only the server's own
    /// vouches for.
    pub(crate) async fn start_mutual_tls(
        versions: &[&'static SupportedProtocolVersion],
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let identity = identity();
        let mut roots = RootCertStore::empty();
        roots.add(identity.cert.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
        let acceptor = acceptor(&identity, versions, verifier.build().unwrap());
        Self::serve(Some(acceptor), reply).await
    }

    async fn serve(
        tls: Option<TlsAcceptor>,
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (over, ended) = mpsc::unbounded_channel();
        let (seen, reply) = (Arc::clone(&heads), Arc::new(reply));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, seen, reply, over) =
                    (tls.clone(), Arc::clone(&seen), Arc::clone(&reply), over.clone());
                tokio::spawn(async move {
                    // A client that hangs up is no failure of the server.
                    let _ = match tls {
                        None => answer(stream, &seen, reply.as_ref()).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => answer(stream, &seen, reply.as_ref()).await,
                            Err(error) => Err(error),
                        },
                    };
                    let _ = over.send(());
                });
            }
        });
        Self { port, heads, ended }
    }

    /// The heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Waits until a connection is over.
    pub(crate) async fn connection_ended(&mut self) {
        self.ended.recv().await.unwrap();
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn identity() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn acceptor(
    identity: &CertifiedKey<KeyPair>,
    versions: &[&'static SupportedProtocolVersion],
    verifier: Arc<dyn ClientCertVerifier>,
) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
    let certificate = CertificateDer::from(identity.cert.der().to_vec());
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Mutex<Vec<String>>,
    reply: impl Fn(&str) -> Reply,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let reply = reply(head.split(' ').nth(1).unwrap());
    seen.lock().unwrap().push(head);
    match reply {
        Reply::Bytes(bytes) => {
            stream.write_all(bytes.as_bytes()).await?;
            stream.shutdown().await
        }
        Reply::Cut(bytes) => {
            stream.write_all(bytes.as_bytes()).await?;
            stream.flush().await
        }
        Reply::Stall(bytes) => {
            stream.write_all(bytes.as_bytes()).await?;
            stream.flush().await?;
            // Ends when the other side hangs up.
            stream.read_u8().await.map(drop)
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 X\r\n\r\n").await?;
            loop {
                stream.write_all(&[b'x'; 4096]).await?;
            }
        }
    }
}
