//! The Debian packages that real nodes need, installed when that is possible
//! without asking anyone.

use std::process::Command;

use node_readiness_testkit::host;

use crate::workspace::{self, Progress};

/// Installs what is missing. Elsewhere than as root on Debian it fails with one
/// message that says what to install.
pub(crate) fn packages_for_nodes(progress: &Progress) -> anyhow::Result<()> {
    let missing = host::missing_tools();
    if missing.is_empty() || !host::is_root() || host::find("apt-get").is_none() {
        return Ok(host::check()?);
    }
    let packages = host::packages(&missing);
    progress.say(&format!("installing {}", packages.join(" ")));
    apt_get(&["update", "--quiet=2"])?;
    // A containerd service that the package may start does no harm: the nodes have
    // containerds of their own.
    let install = ["install", "--yes", "--quiet=2", "--no-install-recommends"];
    apt_get(&[&install, &packages[..]].concat())
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("apt-get");
    workspace::run(command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
}
