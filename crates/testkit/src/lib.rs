//! A real Kubernetes cluster on one machine, for tests and the demo, without Docker: a control plane that is built from
//! source, and nodes that are namespaces of this machine.
//!
//! The library is synchronous and prints nothing, so tests and `cargo xtask` can both use it. It does not depend on
//! this project's other programs. It is not for long-lived clusters: it has no backups, certificate rotation or
//! upgrades.
//!
//! ```no_run
//! use node_readiness_testkit::{
//!     Cluster, ClusterSpec, EtcdData, KubernetesVersion, LoopbackNet, Nodes,
//! };
//!
//! let spec = ClusterSpec {
//!     dir: "target/cluster-of-my-test".into(),
//!     version: KubernetesVersion::V1_37,
//!     nodes: Nodes::ControlPlaneOnly { loopback: LoopbackNet::new(5) },
//!     data: EtcdData::Disk, default_node_selector: None,
//! };
//! let cluster = Cluster::up(&spec, &|line| eprintln!("{line}"))?;
//! println!("{}", cluster.kubeconfig().display());
//! // The cluster ends on drop.
//! # Ok::<(), node_readiness_testkit::Error>(())
//! ```

mod binaries;
mod cgroup;
mod cleanup;
mod cluster;
mod command;
mod control_plane;
mod digest;
mod error;
mod files;
pub mod host;
mod identity;
pub mod image;
mod kubeconfig;
mod kubectl;
mod layout;
mod network;
mod node;
pub mod pause;
mod pki;
mod service;
mod spec;
mod state;
mod sysctl;
pub mod verification;
mod version;

pub use binaries::Binaries;
pub use cluster::Cluster;
pub use error::{Error, Result};
pub use identity::ProcessIdentity;
pub use layout::{Layout, SHARED_MEMORY};
pub use spec::{ClusterSpec, EtcdData, LoopbackNet, Nodes, RealNodes, StartupTaint};
pub use version::KubernetesVersion;
