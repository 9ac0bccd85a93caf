//! The process of a container. This machine sees it, because the nodes share its kernel.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::shell::sh;

/// A running process.
pub struct Process(PathBuf);

impl Process {
    /// Returns the reporter's process in this pod. The other processes of its control group are liveness checks.
    pub fn of_reporter(pod: &Pod) -> Self {
        Self::with_argument(pod, "--config-map=")
    }

    /// Returns the process of the pod's first container that has this argument.
    pub fn with_argument(pod: &Pod, argument: &str) -> Self {
        let status = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap();
        let id = status[0].container_id.as_deref().unwrap();
        let id = id.strip_prefix("containerd://").unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let is_it = |process: &PathBuf| {
            let read = |file| fs::read_to_string(process.join(file)).unwrap_or_default();
            read("cgroup").contains(id) && read("cmdline").contains(argument)
        };
        Self(processes.into_iter().find(is_it).expect("the pod has such a process"))
    }

    /// Returns its resident memory, in KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(self.0.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.0.file_name().unwrap().display();
        sh(Path::new("/"), &format!("kill -s {name} {pid}")).expect_success();
    }
}
