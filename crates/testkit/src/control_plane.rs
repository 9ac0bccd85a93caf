//! etcd, API server, controller manager and scheduler: their arguments as values,
//! then starting them in order, each when what it needs answers.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    error::Result,
    kubeconfig,
    kubectl::Kubectl,
    layout::Layout,
    network,
    pki::{Credentials, Pki, User},
    service::{self, Service},
    spec::{ClusterSpec, Nodes},
    state::State,
    version::KubernetesVersion,
};

/// How long a component may take; on a loaded machine ten times what it needs.
const START_WITHIN: Duration = Duration::from_secs(90);

/// The loopback address for what a cluster with nodes keeps to the host: etcd, and
/// the health endpoints of scheduler and controller manager.
const HOST_ONLY: Ipv4Addr = Ipv4Addr::new(127, 95, 0, 1);

/// The API server's port in a cluster with nodes: the one of the Service `kubernetes`,
/// since no kube-proxy translates it.
const SECURE_PORT: u16 = 443;

/// Where the servers listen, and as what they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Addresses {
    /// For everything that only other components of the control plane reach.
    internal: Ipv4Addr,
    /// The API server's own.
    bind: Ipv4Addr,
    port: u16,
    /// What clients on this host use.
    host: Ipv4Addr,
    /// The address of the Service `kubernetes`, when pods are to reach it.
    advertise: Option<Ipv4Addr>,
    service_range: String,
}

impl Addresses {
    fn of(nodes: &Nodes) -> Self {
        match nodes {
            // Not 443: a cluster with nodes holds that port on every address, and a
            // port above 1023 needs no root.
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

    fn server_url(&self) -> String {
        format!("https://{}:{}", self.host, self.port)
    }

    fn certificate_addresses(&self) -> Vec<Ipv4Addr> {
        let mut addresses = vec![self.host];
        addresses.extend(self.advertise);
        addresses
    }

    fn etcd(&self) -> SocketAddr {
        SocketAddr::from((self.internal, 2379))
    }
}

/// The files that the components are started with.
struct Files {
    authority: PathBuf,
    api_server: Credentials,
    kubelet_client: Credentials,
    service_account: Credentials,
    controller_manager: PathBuf,
    scheduler: PathBuf,
}

/// Starts the control plane and returns its services, the API server last. It is
/// ready when the API server says so and the default ServiceAccount exists, without
/// which no pod can be created.
pub(crate) fn start(
    spec: &ClusterSpec,
    layout: &Layout,
    pki: &Pki,
    state: &mut State,
    progress: &dyn Fn(&str),
) -> Result<Vec<Service>> {
    let addresses = Addresses::of(&spec.nodes);
    let files = write_files(layout, pki, &addresses)?;
    let mut start = |name: &str, arguments: Vec<String>| {
        let mut command = Command::new(layout.bin().join(name));
        command.args(arguments);
        Service::start(name, command, &layout.log(), state)
    };

    let mut etcd = start("etcd", etcd_arguments(layout, addresses.internal))?;
    etcd.wait_until("etcd to be healthy", START_WITHIN, || Ok(is_healthy(addresses.etcd())))?;

    let mut api_server = start("kube-apiserver", apiserver_arguments(spec.version, &addresses, &files))?;
    let kubectl = Kubectl::new(layout);
    service::wait_until(&mut [&mut etcd, &mut api_server], "the API server to be ready", START_WITHIN, || {
        Ok(kubectl.ask(&["get", "--raw", "/readyz"])?.is_some())
    })?;
    progress("the API server is ready");

    let mut controller_manager = start(
        "kube-controller-manager",
        controller_manager_arguments(spec, &addresses, &files),
    )?;
    let scheduler = start("kube-scheduler", scheduler_arguments(spec.version, &addresses, &files))?;
    controller_manager.wait_until("the controller manager to work", START_WITHIN, || {
        Ok(kubectl.ask(&["get", "serviceaccount", "default", "--namespace", "default"])?.is_some())
    })?;
    Ok(vec![scheduler, controller_manager, etcd, api_server])
}

/// The API server as nodes reach it.
pub(crate) fn url_for_nodes() -> String {
    format!("https://{}:{SECURE_PORT}", network::BRIDGE_ADDRESS)
}

fn write_files(layout: &Layout, pki: &Pki, addresses: &Addresses) -> Result<Files> {
    let url = addresses.server_url();
    let authority = pki.authority();
    let config = |path: PathBuf, file: &str, user: &User| {
        kubeconfig::write(path, &url, &authority, &pki.client(file, user)?)
    };
    let component = |name: &str| {
        config(layout.pki().join(format!("{name}.kubeconfig")), name, &User::component(name))
    };
    config(layout.kubeconfig(), "admin", &User::admin())?;
    Ok(Files {
        api_server: pki.api_server(&addresses.certificate_addresses())?,
        kubelet_client: pki.client("apiserver-kubelet-client", &User::api_server())?,
        service_account: pki.service_account_keys()?,
        controller_manager: component("kube-controller-manager")?,
        scheduler: component("kube-scheduler")?,
        authority,
    })
}

/// etcd speaks plain HTTP here: only this host reaches the address, not the nodes'
/// namespaces. Nothing it holds has to survive a crash, so it need not wait for disks.
fn etcd_arguments(layout: &Layout, address: Ipv4Addr) -> Vec<String> {
    let (client, peer) = (format!("http://{address}:2379"), format!("http://{address}:2380"));
    vec![
        "--name=default".to_owned(),
        format!("--data-dir={}", layout.etcd().display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
    ]
}

fn apiserver_arguments(version: KubernetesVersion, addresses: &Addresses, files: &Files) -> Vec<String> {
    let mut arguments = vec![
        format!("--etcd-servers=http://{}", addresses.etcd()),
        format!("--bind-address={}", addresses.bind),
        format!("--secure-port={}", addresses.port),
        format!("--service-cluster-ip-range={}", addresses.service_range),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        file("service-account-key-file", &files.service_account.certificate),
        file("service-account-signing-key-file", &files.service_account.key),
        file("client-ca-file", &files.authority),
        file("tls-cert-file", &files.api_server.certificate),
        file("tls-private-key-file", &files.api_server.key),
        file("kubelet-certificate-authority", &files.authority),
        file("kubelet-client-certificate", &files.kubelet_client.certificate),
        file("kubelet-client-key", &files.kubelet_client.key),
        // A node's name resolves nowhere.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
    ];
    match addresses.advertise {
        Some(address) => arguments.push(format!("--advertise-address={address}")),
        // The Endpoints of the Service `kubernetes` may not hold loopback addresses.
        None => arguments.push("--endpoint-reconciler-type=none".to_owned()),
    }
    arguments.extend(version.apiserver_arguments());
    arguments
}

fn controller_manager_arguments(spec: &ClusterSpec, addresses: &Addresses, files: &Files) -> Vec<String> {
    // Without kubelets this controller would call every Node that a test writes
    // Unknown after 40 s, and taint it.
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
        // At its start it asks for a token a controller, for which the default of 20
        // requests a second takes five seconds.
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
        file("service-account-private-key-file", &files.service_account.key),
        file("root-ca-file", &files.authority),
    ];
    arguments.extend(spec.version.component_arguments());
    arguments
}

fn scheduler_arguments(version: KubernetesVersion, addresses: &Addresses, files: &Files) -> Vec<String> {
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

/// Whether etcd answers `GET /health` with 200.
fn is_healthy(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /health HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut status = [0; "HTTP/1.0 200".len()];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{LoopbackNet, RealNodes};

    fn spec(nodes: Nodes, version: KubernetesVersion) -> ClusterSpec {
        ClusterSpec { dir: "/cluster".into(), version, nodes }
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
            api_server: credentials("apiserver"),
            kubelet_client: credentials("kubelet-client"),
            service_account: credentials("sa"),
            controller_manager: "/pki/kcm.kubeconfig".into(),
            scheduler: "/pki/scheduler.kubeconfig".into(),
        }
    }

    fn has(arguments: &[String], wanted: &str) -> bool {
        arguments.iter().any(|argument| argument == wanted)
    }

    #[test]
    fn a_cluster_without_nodes_binds_nothing_outside_its_loopback_net() {
        let spec = spec(data_only(7), KubernetesVersion::V1_37);
        let (addresses, files) = (Addresses::of(&spec.nodes), files());
        let layout = Layout::new("/cluster".into());
        let arguments = [
            etcd_arguments(&layout, addresses.internal),
            apiserver_arguments(spec.version, &addresses, &files),
            controller_manager_arguments(&spec, &addresses, &files),
            scheduler_arguments(spec.version, &addresses, &files),
        ]
        .concat();

        let addresses = arguments.iter().filter(|argument| argument.contains("127.") || argument.contains("0.0.0"));
        for argument in addresses {
            assert!(argument.contains("127.96.7."), "{argument}");
        }
        assert!(has(&arguments, "--service-cluster-ip-range=127.96.7.0/24"));
        assert!(has(&arguments, "--endpoint-reconciler-type=none"));
        assert!(has(&arguments, "--controllers=*,-node-lifecycle-controller"));
    }

    #[test]
    fn pods_reach_the_api_server_at_the_service_address_and_the_host_at_localhost() {
        let addresses = Addresses::of(&real());
        let arguments = apiserver_arguments(KubernetesVersion::V1_37, &addresses, &files());

        assert!(has(&arguments, "--bind-address=0.0.0.0"));
        assert!(has(&arguments, "--advertise-address=10.77.1.1"));
        assert!(has(&arguments, "--service-cluster-ip-range=10.77.1.0/24"));
        assert_eq!(addresses.server_url(), "https://127.0.0.1:443");
        assert_eq!(addresses.certificate_addresses(), [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 77, 1, 1)]);
    }

    #[test]
    fn every_component_emulates_the_same_version() {
        let spec = spec(real(), KubernetesVersion::V1_34);
        let (addresses, files) = (Addresses::of(&spec.nodes), files());
        for arguments in [
            apiserver_arguments(spec.version, &addresses, &files),
            controller_manager_arguments(&spec, &addresses, &files),
            scheduler_arguments(spec.version, &addresses, &files),
        ] {
            assert!(has(&arguments, "--emulated-version=1.34"));
        }
    }
}
