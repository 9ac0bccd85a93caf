//! Requirements of nodes on the machine: root, and a few programs of the distribution.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

/// A program that a node needs, and the Debian package that contains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// The program.
    pub program: &'static str,
    /// The package.
    pub package: &'static str,
}

const TOOLS: [Tool; 10] = [
    Tool { program: "containerd", package: "containerd" },
    Tool { program: "containerd-shim-runc-v2", package: "containerd" },
    Tool { program: "ctr", package: "containerd" },
    Tool { program: "runc", package: "runc" },
    Tool { program: "iptables", package: "iptables" },
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "mount", package: "mount" },
    Tool { program: "nsenter", package: "util-linux" },
    Tool { program: "openssl", package: "openssl" },
    Tool { program: "unshare", package: "util-linux" },
];

const CNI_PLUGINS: [Tool; 3] = [
    Tool { program: "ptp", package: "containernetworking-plugins" },
    Tool { program: "host-local", package: "containernetworking-plugins" },
    Tool { program: "loopback", package: "containernetworking-plugins" },
];

/// The directories of CNI plugins: Debian's, and that of other distributions.
const CNI_DIRS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// Returns the missing programs that real nodes need.
pub fn missing_tools() -> Vec<Tool> {
    let missing = TOOLS.into_iter().filter(|tool| find(tool.program).is_none());
    let plugins: &[Tool] = if cni_dir().is_some() { &[] } else { &CNI_PLUGINS };
    missing.chain(plugins.iter().copied()).collect()
}

/// Returns the packages of these programs, each once.
pub fn packages(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Returns whether this process may create namespaces and mounts.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Fails if the machine does not meet all requirements. The message lists them all at once.
///
/// # Errors
/// When programs are missing, or this process is not root.
pub fn check() -> Result<()> {
    let missing = missing_tools();
    if !missing.is_empty() {
        return Err(Error::MissingTools {
            programs: missing.iter().map(|tool| tool.program.to_owned()).collect(),
            packages: packages(&missing).into_iter().map(str::to_owned).collect(),
        });
    }
    if is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

/// Returns the directory that has all required CNI plugins.
pub(crate) fn cni_dir() -> Option<&'static Path> {
    CNI_DIRS
        .iter()
        .map(Path::new)
        .find(|dir| CNI_PLUGINS.iter().all(|plugin| dir.join(plugin.program).is_file()))
}

/// Returns the path of a program. It also searches the `sbin` directories, which the `PATH` of users often lacks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn a_package_with_several_programs_is_named_once() {
        assert_eq!(packages(&CNI_PLUGINS), ["containernetworking-plugins"]);
        assert_eq!(packages(&TOOLS[..4]), ["containerd", "runc"]);
    }

    #[test]
    fn a_program_is_found_by_its_name() {
        assert!(find("sh").unwrap().ends_with("sh"));
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
