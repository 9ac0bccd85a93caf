//! The command-line arguments and configuration of the control plane's components.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use crate::{
    network,
    pki::Credentials,
    spec::{ClusterSpec, Nodes},
    version::KubernetesVersion,
};

/// The loopback address, in a cluster with nodes, of servers that only the host reaches: etcd, and the health endpoints
/// of scheduler and controller manager.
const HOST_ONLY: Ipv4Addr = Ipv4Addr::new(127, 95, 0, 1);

/// The API server's port in a cluster with nodes. It is the port of the Service `kubernetes`, because no kube-proxy
/// translates it.
pub(super) const SECURE_PORT: u16 = 443;

/// The addresses on which the servers listen, and those that clients use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    /// The address of servers that only other components of the control plane reach.
    pub(super) internal: Ipv4Addr,
    /// The address on which the API server listens.
    bind: Ipv4Addr,
    port: u16,
    /// The address that clients on this host use.
    host: Ipv4Addr,
    /// The address of the Service `kubernetes`, if pods must reach it.
    advertise: Option<Ipv4Addr>,
    service_range: String,
}

impl Addresses {
    pub(super) fn of(nodes: &Nodes) -> Self {
        match nodes {
            // A cluster with nodes uses port 443 on every address, and a port above 1023 needs no root.
            Nodes::ControlPlaneOnly { loopback } => Self {
                internal: loopback.server(),
                bind: loopback.server(),
                port: 6443,
                host: loopback.server(),
                advertise: None,
                service_range: loopback.to_string(),
            },
            Nodes::Real(_) => Self {
                internal: HOST_ONLY,
                bind: Ipv4Addr::UNSPECIFIED,
                port: SECURE_PORT,
                host: Ipv4Addr::LOCALHOST,
                advertise: Some(network::BRIDGE_ADDRESS),
                service_range: network::SERVICE_RANGE.to_owned(),
            },
        }
    }

    pub(super) fn server_url(&self) -> String {
        format!("https://{}:{}", self.host, self.port)
    }

    pub(super) fn certificate_addresses(&self) -> Vec<Ipv4Addr> {
        let mut addresses = vec![self.host];
        addresses.extend(self.advertise);
        addresses
    }

    fn etcd_url(&self) -> String {
        format!("https://{}:2379", self.internal)
    }

    /// Returns the address on which each component listens.
    pub(super) fn all(&self) -> [(&'static str, SocketAddr); 6] {
        let internal = |name, port| (name, SocketAddr::from((self.internal, port)));
        [
            internal("etcd", 2379),
            internal("etcd", 2380),
            ("etcd", self.etcd_health()),
            ("kube-apiserver", SocketAddr::from((self.bind, self.port))),
            // These two listen on their default ports.
            internal("kube-controller-manager", 10257),
            internal("kube-scheduler", 10259),
        ]
    }

    /// Returns etcd's address for health and metrics, without authentication.
    pub(super) fn etcd_health(&self) -> SocketAddr {
        SocketAddr::from((self.internal, 2381))
    }
}

/// The files that the components read.
pub(super) struct Files {
    pub(super) authority: PathBuf,
    pub(super) etcd: Credentials,
    pub(super) api_server: Credentials,
    pub(super) kubelet_client: Credentials,
    pub(super) service_account: Credentials,
    pub(super) controller_manager: PathBuf,
    pub(super) scheduler: PathBuf,
    pub(super) admission: Option<PathBuf>,
}

/// Returns etcd's arguments. etcd stores every Secret of the cluster, so it requires a client certificate even on this
/// host. Its data need not survive a crash, so it does not sync to disk.
pub(super) fn etcd(data: &Path, addresses: &Addresses, files: &Files) -> Vec<String> {
    let (client, peer) = (addresses.etcd_url(), format!("https://{}:2380", addresses.internal));
    let mut arguments = vec![
        "--name=default".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        format!("--listen-metrics-urls=http://{}", addresses.etcd_health()),
        "--unsafe-no-fsync".to_owned(),
        // The default is 2 GiB. Thousands of large, constantly changing nodes exceed that in the five minutes between
        // two compactions.
        format!("--quota-backend-bytes={}", 8_u64 << 30),
    ];
    for side in ["", "peer-"] {
        arguments.push(format!("--{side}client-cert-auth"));
        arguments.push(file(&format!("{side}trusted-ca-file"), &files.authority));
        arguments.push(file(&format!("{side}cert-file"), &files.etcd.certificate));
        arguments.push(file(&format!("{side}key-file"), &files.etcd.key));
    }
    arguments
}

pub(super) fn apiserver(spec: &ClusterSpec, addresses: &Addresses, files: &Files) -> Vec<String> {
    let mut arguments = vec![
        format!("--etcd-servers={}", addresses.etcd_url()),
        file("etcd-cafile", &files.authority),
        file("etcd-certfile", &files.etcd.certificate),
        file("etcd-keyfile", &files.etcd.key),
        format!("--bind-address={}", addresses.bind),
        format!("--secure-port={}", addresses.port),
        format!("--service-cluster-ip-range={}", addresses.service_range),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        file("service-account-key-file", &files.service_account.certificate),
        file("service-account-signing-key-file", &files.service_account.key),
        file("client-ca-file", &files.authority),
        file("tls-cert-file", &files.api_server.certificate),
        file("tls-private-key-file", &files.api_server.key),
        file("kubelet-certificate-authority", &files.authority),
        file("kubelet-client-certificate", &files.kubelet_client.certificate),
        file("kubelet-client-key", &files.kubelet_client.key),
        // No DNS server resolves the names of nodes.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
    ];
    match addresses.advertise {
        Some(address) => arguments.push(format!("--advertise-address={address}")),
        // The API rejects loopback addresses in the Endpoints of the Service `kubernetes`.
        None => arguments.push("--endpoint-reconciler-type=none".to_owned()),
    }
    arguments.push(match &files.admission {
        None => "--enable-admission-plugins=NodeRestriction".to_owned(),
        Some(_) => "--enable-admission-plugins=NodeRestriction,PodNodeSelector".to_owned(),
    });
    arguments
        .extend(files.admission.iter().map(|path| file("admission-control-config-file", path)));
    arguments.extend(spec.version.apiserver_arguments());
    arguments
}

/// Returns the configuration of admission plugins, if they need one.
pub(super) fn admission(spec: &ClusterSpec) -> Option<String> {
    let selector = spec.default_node_selector?;
    Some(format!(
        "apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodNodeSelector
  configuration:
    podNodeSelectorPluginConfig:
      clusterDefaultNodeSelector: {selector}
"
    ))
}

pub(super) fn controller_manager(
    spec: &ClusterSpec,
    addresses: &Addresses,
    files: &Files,
) -> Vec<String> {
    // Without kubelets this controller would set the conditions of every Node to Unknown after 40 s, and taint it.
    let controllers = match spec.nodes {
        Nodes::ControlPlaneOnly { .. } => "*,-node-lifecycle-controller",
        Nodes::Real(_) => "*",
    };
    let mut arguments = vec![
        file("kubeconfig", &files.controller_manager),
        format!("--bind-address={}", addresses.internal),
        format!("--controllers={controllers}"),
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        // At its start it requests a token for each controller. With the default of 20 requests a second this takes
        // five seconds.
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
        file("service-account-private-key-file", &files.service_account.key),
        file("root-ca-file", &files.authority),
    ];
    arguments.extend(spec.version.component_arguments());
    arguments
}

pub(super) fn scheduler(
    version: KubernetesVersion,
    addresses: &Addresses,
    files: &Files,
) -> Vec<String> {
    let mut arguments = vec![
        file("kubeconfig", &files.scheduler),
        format!("--bind-address={}", addresses.internal),
        "--leader-elect=false".to_owned(),
    ];
    arguments.extend(version.component_arguments());
    arguments
}

fn file(flag: &str, path: &Path) -> String {
    format!("--{flag}={}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{EtcdData, LoopbackNet, RealNodes};

    fn spec(nodes: Nodes, version: KubernetesVersion) -> ClusterSpec {
        ClusterSpec {
            dir: "/cluster".into(),
            version,
            nodes,
            data: EtcdData::Disk,
            default_node_selector: None,
        }
    }

    fn data_only(n: u8) -> Nodes {
        Nodes::ControlPlaneOnly { loopback: LoopbackNet::new(n) }
    }

    fn real() -> Nodes {
        Nodes::Real(RealNodes {
            count: 2,
            startup_taints: Vec::new(),
            testkit_binary: "/testkit".into(),
            images: Vec::new(),
        })
    }

    fn files() -> Files {
        let credentials = |name: &str| Credentials {
            certificate: format!("/pki/{name}.crt").into(),
            key: format!("/pki/{name}.key").into(),
        };
        Files {
            authority: "/pki/ca.crt".into(),
            etcd: credentials("etcd"),
            api_server: credentials("apiserver"),
            kubelet_client: credentials("kubelet-client"),
            service_account: credentials("sa"),
            controller_manager: "/pki/kcm.kubeconfig".into(),
            scheduler: "/pki/scheduler.kubeconfig".into(),
            admission: None,
        }
    }

    fn has(arguments: &[String], wanted: &str) -> bool {
        arguments.iter().any(|argument| argument == wanted)
    }

    #[test]
    fn a_cluster_without_nodes_binds_only_addresses_of_its_loopback_net() {
        let spec = spec(data_only(7), KubernetesVersion::V1_37);
        let (addresses, files) = (Addresses::of(&spec.nodes), files());
        let arguments = [
            etcd(Path::new("/cluster/etcd"), &addresses, &files),
            apiserver(&spec, &addresses, &files),
            controller_manager(&spec, &addresses, &files),
            scheduler(spec.version, &addresses, &files),
        ]
        .concat();

        let addresses = arguments
            .iter()
            .filter(|argument| argument.contains("127.") || argument.contains("0.0.0"));
        for argument in addresses {
            assert!(argument.contains("127.96.7."), "{argument}");
        }
        assert!(has(&arguments, "--service-cluster-ip-range=127.96.7.0/24"));
        assert!(has(&arguments, "--endpoint-reconciler-type=none"));
        assert!(has(&arguments, "--controllers=*,-node-lifecycle-controller"));
    }

    #[test]
    fn the_addresses_that_must_be_free_are_the_bound_ones() {
        let addresses = Addresses::of(&data_only(7));
        let etcd = etcd(Path::new("/cluster/etcd"), &addresses, &files());
        for (name, address) in addresses.all() {
            assert!(address.to_string().starts_with("127.96.7.1:"), "{name} {address}");
            let configured =
                etcd.iter().any(|argument| argument.ends_with(&format!("//{address}")));
            assert_eq!(configured, name == "etcd", "{name} {address}");
        }
    }

    #[test]
    fn pods_reach_the_api_server_at_the_service_address_and_the_host_at_localhost() {
        let addresses = Addresses::of(&real());
        let spec = spec(real(), KubernetesVersion::V1_37);
        let arguments = apiserver(&spec, &addresses, &files());

        assert!(has(&arguments, "--bind-address=0.0.0.0"));
        assert!(has(&arguments, "--advertise-address=10.77.1.1"));
        assert!(has(&arguments, "--service-cluster-ip-range=10.77.1.0/24"));
        assert_eq!(addresses.server_url(), "https://127.0.0.1:443");
        assert_eq!(
            addresses.certificate_addresses(),
            [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 77, 1, 1)]
        );
    }

    #[test]
    fn every_component_emulates_the_same_version() {
        let spec = spec(real(), KubernetesVersion::V1_34);
        let (addresses, files) = (Addresses::of(&spec.nodes), files());
        for arguments in [
            apiserver(&spec, &addresses, &files),
            controller_manager(&spec, &addresses, &files),
            scheduler(spec.version, &addresses, &files),
        ] {
            assert!(has(&arguments, "--emulated-version=1.34"));
        }
    }
}
