//! What can go wrong while a cluster is made or ended. Every message names the
//! object and, where there is one, the remedy: most readers see it only once, on
//! a machine that lacks something.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a cluster, a build or an image archive could not be made or removed.
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

    /// A program could not be started at all.
    #[error("cannot start `{program}`: {cause}")]
    Start {
        /// The program as it was called.
        program: String,
        /// What the system said.
        cause: io::Error,
    },

    /// A program that was run to its end failed.
    #[error("`{command}` failed with {status}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it wrote to standard error, trimmed.
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

    /// A condition did not come true before its deadline.
    #[error("waited {} s for {condition} in vain. The last lines of {}:\n{tail}", waited.as_secs(), log.display())]
    Deadline {
        /// What was waited for.
        condition: String,
        /// How long.
        waited: Duration,
        /// The last lines of the log that most likely has the cause.
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

    /// No cluster runs where one was expected.
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
        /// Where it was looked for.
        namespace: String,
        /// Whose pods.
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

    /// A file does not hold what it should.
    #[error("{} is not as expected: {reason}", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A certificate could not be made.
    #[error("cannot make the certificate of {subject}: {cause}")]
    Certificate {
        /// Whose certificate.
        subject: String,
        /// What the library said.
        cause: rcgen::Error,
    },

    /// A configuration could not be rendered.
    #[error("cannot render {}: {reason}", path.display())]
    Render {
        /// The file it was meant for.
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
    #[error("real nodes need root and these programs, which are missing: {}. On Debian and Ubuntu: sudo apt-get install {}. (NODES=0, a control plane only, needs neither.)", programs.join(", "), packages.join(" "))]
    MissingTools {
        /// The programs.
        programs: Vec<String>,
        /// The Debian packages that bring them.
        packages: Vec<String>,
    },

    /// The Go toolchain is missing.
    #[error(
        "the Go toolchain is missing (`go` is not in PATH): it builds Kubernetes from source; install Go 1.26 or newer"
    )]
    NoGo,

    /// Another checkout's cluster holds the bridge that real nodes share.
    #[error("the cluster of {} is running and uses the bridge {bridge}: end that one first (`make cluster-down` there)", owner.display())]
    OtherCluster {
        /// The directory of that cluster.
        owner: PathBuf,
        /// The bridge's interface name.
        bridge: &'static str,
    },

    /// Another program listens where the cluster's own would.
    #[error(
        "{address}, where {name} is to listen, is taken by a program that is not this cluster's: end that first, which `ss --listening --tcp --processes` names. If it is the cluster of another checkout: `make cluster-down` there"
    )]
    AddressTaken {
        /// The program that needs the address.
        name: &'static str,
        /// The address.
        address: SocketAddr,
    },

    /// No `iptables` here can masquerade.
    #[error(
        "no iptables of this machine can masquerade in a new network namespace, which pods need; the last said: {stderr}"
    )]
    NoMasquerade {
        /// What the last one tried said.
        stderr: String,
    },

    /// The cgroup file systems are not mounted in a way that kubelet understands.
    #[error(
        "no cgroup hierarchy with the memory controller is mounted under /sys/fs/cgroup: kubelet needs cgroup v2, or v1 with cpu, cpuset, memory and pids"
    )]
    NoCgroups,

    /// The number of nodes is out of range.
    #[error("{count} nodes asked for: from 1 to {max} are possible")]
    NodeCount {
        /// How many were asked for.
        count: usize,
        /// How many there can be.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What prints errors with all their causes must not print one twice: a message that has its cause
    /// has no source.
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
