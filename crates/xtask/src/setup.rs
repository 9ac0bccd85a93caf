//! The Debian packages that real nodes need, installed when that is possible
//! without asking anyone.

use std::process::Command;

use anyhow::bail;
use node_readiness_testkit::host;

use crate::workspace::{self, Progress};

/// Installs what is missing. Elsewhere than as root on Debian it fails with one
/// message that says what to install.
pub(crate) fn packages_for_nodes(progress: &Progress) -> anyhow::Result<()> {
    let missing = host::missing_tools();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = host::packages(&missing);
    if !host::is_root() || host::find("apt-get").is_none() {
        let programs: Vec<_> = missing.iter().map(|tool| tool.program).collect();
        bail!(
            "real nodes need these programs: {}. Install them first; on Debian and Ubuntu: \
             sudo apt-get install {}. NODES=0 needs none of them.",
            programs.join(", "),
            packages.join(" ")
        );
    }
    progress.say(&format!("installing {}", packages.join(" ")));
    let apt_get = |arguments: &[&str]| {
        workspace::run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
    };
    apt_get(&["update", "--quiet=2"])?;
    // What containerd's package starts does no harm: the nodes have their own.
    let install = ["install", "--yes", "--quiet=2", "--no-install-recommends"];
    apt_get(&[&install, &packages[..]].concat())
}
