//! Who this process is, to those who read events and the Lease.

use std::fs;
use std::hash::{BuildHasher, RandomState};

/// The pod's name, which Kubernetes gives a container as its host name.
pub(crate) fn pod_name() -> Option<String> {
    std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).ok()
}

/// A name that no other process has, whether or not it runs in a pod: two that shared one could
/// both take the Lease for theirs.
pub(crate) fn unique() -> String {
    let host = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = pod_name().or_else(host).unwrap_or_default();
    // The one source of the operating system's randomness in the standard library.
    let random = RandomState::new().hash_one(std::process::id());
    format!("{}_{random:016x}", name.trim())
}
