//! The specification of a cluster, as plain values.

use std::{fmt, net::Ipv4Addr, path::PathBuf};

use crate::version::KubernetesVersion;

/// Everything that [`Cluster::up`](crate::Cluster::up) needs.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// The directory of the cluster's files. A cluster that an earlier run left there is ended first, so a test should
    /// use the same directory in every run.
    pub dir: PathBuf,
    /// The Kubernetes version to emulate.
    pub version: KubernetesVersion,
    /// The nodes.
    pub nodes: Nodes,
    /// The place of etcd's data.
    pub data: EtcdData,
    /// The default node selector of pods, as `key=value`. An annotation of their namespace overrides it. The admission
    /// plugin `PodNodeSelector` sets it, like the default node selector of `OpenShift`.
    pub default_node_selector: Option<&'static str>,
}

/// The place of etcd's data. etcd does not sync to disk here, but it can wait some tenths of a second for the file
/// system of a busy disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EtcdData {
    /// The cluster's directory.
    #[default]
    Disk,
    /// [`SHARED_MEMORY`](crate::SHARED_MEMORY). The data uses memory until the cluster ends.
    Memory,
}

/// The cluster's nodes.
#[derive(Debug, Clone)]
pub enum Nodes {
    /// No real nodes. Node objects are data that a test writes. This needs no root, and any number of such clusters can
    /// run at the same time.
    ControlPlaneOnly {
        /// The addresses that this cluster may use.
        loopback: LoopbackNet,
    },
    /// Real nodes. They share one bridge, so a machine has at most one such cluster.
    Real(RealNodes),
}

/// Real nodes. Each is a containerd and a kubelet in namespaces of its own.
#[derive(Debug, Clone)]
pub struct RealNodes {
    /// The number of nodes, from 1 to 26: `node-a`, `node-b`, …
    pub count: usize,
    /// The taints with which kubelet registers its Node.
    pub startup_taints: Vec<StartupTaint>,
    /// The static `node-readiness-testkit` binary, which is the init process of a node. Beside it is
    /// `node-readiness-pause`, the first process of every pod.
    pub testkit_binary: PathBuf,
    /// Image archives to import into every node, in addition to the sandbox image.
    pub images: Vec<PathBuf>,
}

/// A /24 of the loopback network: `127.96.<n>.0/24`. A cluster without nodes binds only addresses of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopbackNet(u8);

impl LoopbackNet {
    /// Returns the /24 with this third octet.
    pub const fn new(third_octet: u8) -> Self {
        Self(third_octet)
    }

    /// Returns the address on which every server of the cluster listens. It is the first address of the range, and so
    /// also that of the Service `kubernetes`.
    pub const fn server(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 96, self.0, 1)
    }
}

impl fmt::Display for LoopbackNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "127.96.{}.0/24", self.0)
    }
}

/// A taint with which a node registers, so that no pod can start before a rule covers the node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StartupTaint {
    /// The taint's key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

impl StartupTaint {
    /// `readiness.k8s.io/NetworkReady=pending:NoSchedule`, which the examples use.
    pub fn network_ready() -> Self {
        Self {
            key: "readiness.k8s.io/NetworkReady".to_owned(),
            value: "pending".to_owned(),
            effect: "NoSchedule".to_owned(),
        }
    }
}
