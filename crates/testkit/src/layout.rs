//! The paths below a cluster's directory.

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::{digest, spec::EtcdData};

/// The directory whose files are in memory, on every Linux system.
pub const SHARED_MEMORY: &str = "/dev/shm";

/// The paths of one cluster.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Returns the paths below `dir`, which must be absolute, because processes with other working directories use
    /// them.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns the directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Returns the kubeconfig of a node's kubelet.
    pub fn kubelet_kubeconfig(&self, node: &str) -> PathBuf {
        self.node(node).join("kubelet.kubeconfig")
    }

    /// Returns the directory with links to the binaries, named `kubectl`, `etcd`, …
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// Returns the directory with a log for each process. Logs stay until the next cluster starts.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Returns the directory of keys and certificates.
    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// Returns the directory of etcd's data. The path in memory depends only on the cluster's directory, so the
    /// data can be removed without a record.
    pub fn etcd(&self, data: EtcdData) -> PathBuf {
        match data {
            EtcdData::Disk => self.dir.join("etcd"),
            EtcdData::Memory => {
                let digest = digest::sha256(self.dir.as_os_str().as_bytes());
                Path::new(SHARED_MEMORY).join(format!("node-readiness-testkit-{}", &digest[..16]))
            }
        }
    }

    /// Returns the directory of one node.
    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.nodes().join(name)
    }

    /// Returns the directory of all nodes.
    pub(crate) fn nodes(&self) -> PathBuf {
        self.dir.join("nodes")
    }

    /// Returns kubectl's cache of the API server's resources, which is valid for this cluster only.
    pub(crate) fn kubectl_cache(&self) -> PathBuf {
        self.dir.join("kubectl-cache")
    }

    /// Returns the record of started processes and of changes.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// Returns the paths that are removed when the cluster ends. Logs and files of other programs stay.
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
