//! Installs the Debian packages that real nodes need, if this process is root on Debian.

use std::process::Command;

use node_readiness_testkit::host;

use crate::workspace::{self, Progress};

/// Installs missing packages. If it cannot, its error names them.
pub(crate) fn packages_for_nodes(progress: &Progress) -> anyhow::Result<()> {
    let missing = host::missing_tools();
    if missing.is_empty() || !host::is_root() || host::find("apt-get").is_none() {
        return Ok(host::check()?);
    }
    let packages = host::packages(&missing);
    progress.say(&format!("installing {}", packages.join(" ")));
    apt_get(&["update", "--quiet=2"])?;
    // The package may start a containerd service, which the nodes do not need: each runs its own containerd.
    let install = ["install", "--yes", "--quiet=2", "--no-install-recommends"];
    apt_get(&[&install, &packages[..]].concat())
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("apt-get");
    workspace::run(command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
}
