//! The cluster's certificates: one authority, and one key pair for each component. Every cluster has new ones. They are
//! ECDSA P-256, because the generation of RSA keys takes seconds.
//!
//! There is no rotation or revocation, because a cluster lives for minutes to days.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::{
    error::{Error, Result},
    files,
};

/// The names by which pods may reach the API server, in addition to its addresses.
const API_SERVER_NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// The user that a certificate authenticates: `CN` is the user, `O` its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) group: Option<&'static str>,
}

impl User {
    /// Returns a user with all permissions.
    pub(crate) fn admin() -> Self {
        Self { name: "kubernetes-admin".to_owned(), group: Some("system:masters") }
    }

    /// Returns the user of a control plane component, which gets its permissions from Kubernetes' default roles.
    pub(crate) fn component(name: &str) -> Self {
        Self { name: format!("system:{name}"), group: None }
    }

    /// Returns the user of a node's kubelet, in the form that the node authorizer requires.
    pub(crate) fn kubelet(node: &str) -> Self {
        Self { name: format!("system:node:{node}"), group: Some("system:nodes") }
    }

    /// Returns the user as which the API server connects to kubelets.
    pub(crate) fn api_server() -> Self {
        Self { name: "kube-apiserver-kubelet-client".to_owned(), group: Some("system:masters") }
    }
}

/// A certificate and its key, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Credentials {
    fn in_dir(dir: &Path, name: &str) -> Self {
        Self { certificate: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) }
    }
}

/// The authority, and the directory of its certificates.
pub(crate) struct Pki {
    dir: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// Creates an authority and writes its certificate. Its key stays in memory.
    pub(crate) fn create(dir: PathBuf) -> Result<Self> {
        files::create_dir(&dir)?;
        let subject = "node-readiness-ca";
        let mut params = params(subject, None, Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = KeyPair::generate()
            .and_then(|key| CertifiedIssuer::self_signed(params, key))
            .map_err(failed(subject))?;
        files::write(&dir.join("ca.crt"), authority.pem())?;
        Ok(Self { dir, authority })
    }

    /// Returns the authority's certificate, which both sides of every connection trust.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// Creates a certificate with which `user` authenticates.
    pub(crate) fn client(&self, file: &str, user: &User) -> Result<Credentials> {
        let params = params(&user.name, user.group, Vec::new())?;
        self.issue(file, params, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// Creates the certificate of both ends of the connection between API server and etcd.
    pub(crate) fn etcd(&self, address: Ipv4Addr) -> Result<Credentials> {
        let params = params("etcd", None, vec![SanType::IpAddress(IpAddr::V4(address))])?;
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue("etcd", params, &usages)
    }

    /// Creates the API server's serving certificate, for these addresses and its Service's names.
    pub(crate) fn api_server(&self, addresses: &[Ipv4Addr]) -> Result<Credentials> {
        let params = api_server_params(addresses)?;
        self.issue("apiserver", params, &[ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// Creates the serving certificate of a node's kubelet, for logs and exec.
    pub(crate) fn kubelet_server(&self, node: &str, address: Ipv4Addr) -> Result<Credentials> {
        let addresses = vec![SanType::IpAddress(IpAddr::V4(address))];
        let params = params(&format!("system:node:{node}"), None, addresses)?;
        self.issue(
            &format!("kubelet-{node}-server"),
            params,
            &[ExtendedKeyUsagePurpose::ServerAuth],
        )
    }

    /// Creates the key pair that signs ServiceAccount tokens: `certificate` is the public key.
    pub(crate) fn service_account_keys(&self) -> Result<Credentials> {
        let key = KeyPair::generate().map_err(failed("service accounts"))?;
        let files = Credentials {
            certificate: self.dir.join("service-account.pub"),
            key: self.dir.join("service-account.key"),
        };
        files::write(&files.certificate, key.public_key_pem())?;
        files::write_private(&files.key, key.serialize_pem())?;
        Ok(files)
    }

    fn issue(
        &self,
        file: &str,
        mut params: CertificateParams,
        usages: &[ExtendedKeyUsagePurpose],
    ) -> Result<Credentials> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        let key = KeyPair::generate().map_err(failed(file))?;
        let certificate = params.signed_by(&key, &self.authority).map_err(failed(file))?;
        let files = Credentials::in_dir(&self.dir, file);
        files::write(&files.certificate, certificate.pem())?;
        files::write_private(&files.key, key.serialize_pem())?;
        Ok(files)
    }
}

fn api_server_params(addresses: &[Ipv4Addr]) -> Result<CertificateParams> {
    let mut names = CertificateParams::new(API_SERVER_NAMES.map(str::to_owned))
        .map_err(failed("apiserver"))?
        .subject_alt_names;
    names.extend(addresses.iter().map(|address| SanType::IpAddress(IpAddr::V4(*address))));
    params("kube-apiserver", None, names)
}

fn params(name: &str, group: Option<&str>, names: Vec<SanType>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(failed(name))?;
    // rcgen's default subject would name rcgen.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.subject_alt_names = names;
    Ok(params)
}

fn failed(subject: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let subject = subject.to_owned();
    move |cause| Error::Certificate { subject, cause }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::os::unix::fs::PermissionsExt as _;

    use x509_parser::prelude::*;

    use super::*;

    fn read(path: &Path) -> Pem {
        let bytes = std::fs::read(path).unwrap();
        parse_x509_pem(&bytes).unwrap().1
    }

    #[test]
    fn the_api_servers_certificate_has_its_addresses_and_its_services_names() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::create(dir.path().to_owned()).unwrap();
        let addresses = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 77, 1, 1)];
        let files = pki.api_server(&addresses).unwrap();

        let pem = read(&files.certificate);
        let certificate = pem.parse_x509().unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        let has = |wanted: &GeneralName<'_>| names.value.general_names.contains(wanted);
        assert!(has(&GeneralName::DNSName("kubernetes.default.svc")));
        assert!(has(&GeneralName::IPAddress(&[127, 0, 0, 1])));
        assert!(has(&GeneralName::IPAddress(&[10, 77, 1, 1])));
        let usage = certificate.extended_key_usage().unwrap().unwrap();
        assert!(usage.value.server_auth && !usage.value.client_auth);
    }

    #[test]
    fn a_kubelet_has_the_user_and_group_that_the_node_authorizer_requires() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::create(dir.path().to_owned()).unwrap();
        let files = pki.client("kubelet-node-a", &User::kubelet("node-a")).unwrap();

        let pem = read(&files.certificate);
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=system:node:node-a, O=system:nodes");
        assert_eq!(certificate.issuer().to_string(), "CN=node-readiness-ca");
        assert!(!certificate.is_ca());
        let usage = certificate.extended_key_usage().unwrap().unwrap();
        assert!(usage.value.client_auth && !usage.value.server_auth);
    }

    #[test]
    fn only_the_owner_may_read_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::create(dir.path().to_owned()).unwrap();
        let keys =
            [pki.client("admin", &User::admin()).unwrap(), pki.service_account_keys().unwrap()];
        for files in keys {
            assert_eq!(files.key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
