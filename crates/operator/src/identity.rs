//! The identity of this process, in events and the Lease.

use std::fs;
use std::hash::{BuildHasher, RandomState};

/// Returns the pod's name, which Kubernetes sets as the container's host name.
pub(crate) fn pod_name() -> Option<String> {
    std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).ok()
}

/// Returns a name that no other process has, in a pod or not. Otherwise two candidates of the same name could
/// both believe that they hold the Lease.
pub(crate) fn unique() -> String {
    let host = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = pod_name().or_else(host).unwrap_or_default();
    // The standard library's only source of the operating system's randomness.
    let random = RandomState::new().hash_one(std::process::id());
    format!("{}_{random:016x}", name.trim())
}
