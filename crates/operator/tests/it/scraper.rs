//! A scraper of metrics that verifies the operator's certificate, and the certificates that it trusts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The address on which the operator of these tests serves metrics.
pub const ADDRESS: &str = "127.96.1.9:8443";

/// The answer to a scrape.
#[derive(Debug, Default)]
pub struct Answer {
    /// The HTTP status; 0 if no server listens yet.
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    pub body: String,
    /// The server's certificate, in DER.
    pub certificate: Vec<u8>,
}

/// Gets `/metrics`, with a bearer token or without.
pub fn scrape(token: Option<&str>) -> Answer {
    let Ok(connection) = TcpStream::connect(ADDRESS) else { return Answer::default() };
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let name = ServerName::from(ADDRESS.parse::<std::net::SocketAddr>().unwrap().ip());
    let client = ClientConnection::new(trust(), name).unwrap();
    let mut stream = StreamOwned::new(client, connection);
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {ADDRESS}\r\n{}Connection: close\r\n\r\n",
        authorization.unwrap_or_default(),
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_lowercase(),
        body: body.to_owned(),
        certificate: stream.conn.peer_certificates().unwrap()[0].to_vec(),
    }
}

/// Returns the directory from which the operator of these tests reads its certificate.
pub fn certificate_directory() -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("metrics");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Writes a new certificate to that directory and returns it in DER. For a moment the certificate and the key do not
/// match.
pub fn rotate_certificate() -> Vec<u8> {
    let ip = ADDRESS.split(':').next().unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([ip.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority()).unwrap();
    let directory = certificate_directory();
    std::fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
    certificate.der().to_vec()
}

/// Returns the authority that signs the certificates of these tests.
fn authority() -> &'static CertifiedIssuer<'static, KeyPair> {
    static AUTHORITY: OnceLock<CertifiedIssuer<'static, KeyPair>> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    })
}

fn trust() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority().der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
