//! Errors of starting and ending a cluster. Every message names the object and, if there is one, the remedy.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of a cluster, a build or an image archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {}: {cause}", path.display())]
    File {
        /// The verb that completes "cannot …".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },

    /// A program could not be started.
    #[error("cannot start `{program}`: {cause}")]
    Start {
        /// The program as it was called.
        program: String,
        /// What the system said.
        cause: io::Error,
    },

    /// A program ended with a failure.
    #[error("`{command}` failed with {status}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// Its standard error, trimmed.
        stderr: String,
    },

    /// A program that should keep running has ended.
    #[error("{name} ended with {status}. Its last lines:\n{tail}\nThe whole log is {}", log.display())]
    Ended {
        /// The service's name.
        name: String,
        /// Its exit status.
        status: String,
        /// The last lines of its log.
        tail: String,
        /// Its log.
        log: PathBuf,
    },

    /// A condition was not met before its deadline.
    #[error("timed out after {} s waiting for {condition}. The last lines of {}:\n{tail}", waited.as_secs(), log.display())]
    Deadline {
        /// The condition.
        condition: String,
        /// The time of the wait.
        waited: Duration,
        /// The last lines of the log that most likely shows the cause.
        tail: String,
        /// That log.
        log: PathBuf,
    },

    /// A started process could not be ended.
    #[error("cannot end {name} (process {pid}): {cause}")]
    Kill {
        /// The service's name.
        name: String,
        /// Its process id.
        pid: i32,
        /// What the system said.
        cause: io::Error,
    },

    /// No cluster runs in a directory.
    #[error("no cluster runs in {}: start one with `make cluster-up`", dir.display())]
    NotRunning {
        /// The directory.
        dir: PathBuf,
    },

    /// No pod of a reporter runs on a node.
    #[error(
        "no running pod in namespace {namespace} of ServiceAccount {service_account} is on {node}: see `kubectl -n {namespace} get pods -o wide`"
    )]
    NoReporter {
        /// The namespace of the pod.
        namespace: String,
        /// The ServiceAccount of the pod.
        service_account: String,
        /// The node.
        node: String,
    },

    /// A node lacks the condition that a reporter should have written.
    #[error("node {node} has no condition {condition_type}: does its reporter run?")]
    NoCondition {
        /// The node.
        node: String,
        /// The condition's type.
        condition_type: String,
    },

    /// The content of a file is invalid.
    #[error("{} is not as expected: {reason}", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },

    /// A certificate could not be created.
    #[error("cannot create the certificate of {subject}: {cause}")]
    Certificate {
        /// The subject of the certificate.
        subject: String,
        /// What the library said.
        cause: rcgen::Error,
    },

    /// A configuration could not be rendered.
    #[error("cannot render {}: {reason}", path.display())]
    Render {
        /// The file of the configuration.
        path: PathBuf,
        /// What the library said.
        reason: String,
    },

    /// Nodes need root.
    #[error(
        "real nodes need root, for namespaces and cgroups: use sudo, or NODES=0 for a control plane only"
    )]
    NotRoot,

    /// Programs that nodes need are missing.
    #[error("real nodes need root, and these programs are missing: {}. On Debian and Ubuntu: sudo apt-get install {}. A control plane only (NODES=0) needs neither.", programs.join(", "), packages.join(" "))]
    MissingTools {
        /// The programs.
        programs: Vec<String>,
        /// The Debian packages that contain them.
        packages: Vec<String>,
    },

    /// The Go toolchain is missing.
    #[error(
        "the Go toolchain, which builds Kubernetes from source, is missing (`go` is not in PATH): install Go 1.26 or newer"
    )]
    NoGo,

    /// Another checkout's cluster uses the bridge that real nodes share.
    #[error("the cluster of {} is running and uses the bridge {bridge}: end it first with `make cluster-down` in its checkout", owner.display())]
    OtherCluster {
        /// The directory of that cluster.
        owner: PathBuf,
        /// The bridge's interface name.
        bridge: &'static str,
    },

    /// Another program listens on an address that the cluster needs.
    #[error(
        "{name} cannot listen on {address}, because another program does: end that program first. `ss --listening --tcp --processes` names it. If it belongs to the cluster of another checkout, run `make cluster-down` there"
    )]
    AddressTaken {
        /// The program that needs the address.
        name: &'static str,
        /// The address.
        address: SocketAddr,
    },

    /// No `iptables` of this machine can masquerade.
    #[error(
        "no iptables of this machine can masquerade in a new network namespace, and pods need that. The last error: {stderr}"
    )]
    NoMasquerade {
        /// The error of the last one.
        stderr: String,
    },

    /// The cgroup file systems are not mounted as kubelet needs them.
    #[error(
        "no cgroup hierarchy with the memory controller is mounted under /sys/fs/cgroup: kubelet needs cgroup v2, or v1 with cpu, cpuset, memory and pids"
    )]
    NoCgroups,

    /// The number of nodes is out of range.
    #[error("cannot start {count} nodes: the number must be from 1 to {max}")]
    NodeCount {
        /// The requested number.
        count: usize,
        /// The maximum.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message that includes its cause has no source, so that a program that prints all causes does not print one
    /// twice.
    #[test]
    fn a_cause_is_reported_once() {
        let cause = || io::Error::other("no such thing");
        let program = || "go".to_owned();
        let errors = [
            Error::File { action: "read", path: "/a".into(), cause: cause() },
            Error::Start { program: program(), cause: cause() },
            Error::Kill { name: program(), pid: 1, cause: cause() },
        ];
        for error in errors {
            assert!(error.to_string().ends_with("no such thing"), "{error}");
            assert!(std::error::Error::source(&error).is_none(), "{error}");
        }
    }
}
