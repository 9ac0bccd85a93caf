//! The specification of a cluster, as plain values.

use std::{fmt, net::Ipv4Addr, path::PathBuf};

use crate::version::KubernetesVersion;

/// Everything that [`Cluster::up`](crate::Cluster::up) needs.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// Where everything of the cluster lives. A cluster that an earlier run left
    /// there is ended first, so a test should use the same directory every time.
    pub dir: PathBuf,
    /// The Kubernetes version to emulate.
    pub version: KubernetesVersion,
    /// Whether there are machines.
    pub nodes: Nodes,
    /// Where etcd keeps its data.
    pub data: EtcdData,
    /// The node selector that pods get of whose namespace no annotation says otherwise, as
    /// `key=value`: the admission plugin `PodNodeSelector`, or the default of `OpenShift`.
    pub default_node_selector: Option<&'static str>,
}

/// Where etcd keeps its data. It never waits for a disk, but it does wait for the file system, some
/// tenths of a second when a disk is busy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EtcdData {
    /// In the cluster's directory.
    #[default]
    Disk,
    /// In [`SHARED_MEMORY`](crate::SHARED_MEMORY). It counts as memory in use until the cluster ends.
    Memory,
}

/// The cluster's machines.
#[derive(Debug, Clone)]
pub enum Nodes {
    /// None: Node objects are data that a test writes. Needs no root, and any number
    /// of such clusters run side by side.
    ControlPlaneOnly {
        /// The addresses that this cluster may use.
        loopback: LoopbackNet,
    },
    /// Real ones. They share one bridge, so a machine has at most one such cluster.
    Real(RealNodes),
}

/// Real nodes, each a containerd and a kubelet in namespaces of their own.
#[derive(Debug, Clone)]
pub struct RealNodes {
    /// How many, from 1 to 26: `node-a`, `node-b`, …
    pub count: usize,
    /// What kubelet registers its Node with.
    pub startup_taints: Vec<StartupTaint>,
    /// The static `node-readiness-testkit` binary, which is the init process of a
    /// node and, in an image, of every pod.
    pub testkit_binary: PathBuf,
    /// Image archives that every node gets, beside the pods' own init.
    pub images: Vec<PathBuf>,
}

/// A /24 of the loopback network: `127.96.<n>.0/24`. A cluster without nodes binds
/// nothing outside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopbackNet(u8);

impl LoopbackNet {
    /// The /24 with this third octet.
    pub const fn new(third_octet: u8) -> Self {
        Self(third_octet)
    }

    /// The address that every server of the cluster listens on. It is also the first
    /// of the range, and so the address of the Service `kubernetes`.
    pub const fn server(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 96, self.0, 1)
    }
}

impl fmt::Display for LoopbackNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "127.96.{}.0/24", self.0)
    }
}

/// A taint that a node carries from its first moment, so that no pod can slip in
/// before a rule has seen the node.
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
