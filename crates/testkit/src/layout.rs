//! Where everything is, below a cluster's directory.

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::{digest, spec::EtcdData};

/// The directory whose files are in memory on every Linux.
pub const SHARED_MEMORY: &str = "/dev/shm";

/// The paths of one cluster.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The paths below `dir`, which must be absolute: processes are started with
    /// them that have another working directory.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// The kubeconfig of a node's kubelet, with its own credentials.
    pub fn kubelet_kubeconfig(&self, node: &str) -> PathBuf {
        self.node(node).join("kubelet.kubeconfig")
    }

    /// Links named `kubectl`, `etcd`, … to the binaries.
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// One log a process. They outlive the cluster, until the next one starts.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Keys and certificates.
    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// etcd's data. In memory, its path is told by that of the cluster, so that whoever ends a cluster
    /// finds it without a record.
    pub fn etcd(&self, data: EtcdData) -> PathBuf {
        match data {
            EtcdData::Disk => self.dir.join("etcd"),
            EtcdData::Memory => {
                let digest = digest::sha256(self.dir.as_os_str().as_bytes());
                Path::new(SHARED_MEMORY).join(format!("node-readiness-testkit-{}", &digest[..16]))
            }
        }
    }

    /// Everything of one node.
    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.nodes().join(name)
    }

    /// Everything of all nodes.
    pub(crate) fn nodes(&self) -> PathBuf {
        self.dir.join("nodes")
    }

    /// kubectl's cache of what the API server serves; of no use to another cluster.
    pub(crate) fn kubectl_cache(&self) -> PathBuf {
        self.dir.join("kubectl-cache")
    }

    /// The record of what was started.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// What ending the cluster removes, wherever it may be. The logs stay, and what others put beside.
    pub(crate) fn ephemeral(&self) -> [PathBuf; 8] {
        [
            self.kubeconfig(),
            self.bin(),
            self.pki(),
            self.etcd(EtcdData::Disk),
            self.etcd(EtcdData::Memory),
            self.nodes(),
            self.kubectl_cache(),
            self.state(),
        ]
    }
}
