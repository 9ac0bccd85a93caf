//! A node is a host of its own: an init process in new namespaces for processes, mounts, network, host name and
//! IPC. containerd and kubelet enter them and share their mounts.
//!
//! Ending the init removes the node: the kernel ends everything in a process namespace with its init, and
//! removes mounts and interfaces with the last process.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::Node;
use crate::{
    command::{run, words},
    error::Result,
    files,
    layout::Layout,
    service::Service,
    state::State,
};

/// Makes the new mount namespace the node's own, then becomes its init. Where the
/// node writes below `/var`, it gets directories of its own. A new `/run` hides the
/// sockets of the host's containerd and systemd.
///
/// `$1` is the node's directory, `$2` its name, `$3` the init program.
const SETUP: &str = r#"
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
for dir in /var/lib/cni /var/lib/kubelet /var/log; do
  mkdir -p "$dir" "$1$dir"
  mount --bind "$1$dir" "$dir"
done
echo "$2" > /proc/sys/kernel/hostname
: > "$1/made"
exec "$3" pause
"#;

/// Ends all processes but the node's init and the shell itself, which kill(2) spares, and gives the node
/// the boot id that kubelet will read.
///
/// `$1` is the node's directory, `$2` the boot id.
const SHUT_DOWN: &str = r#"
kill -s KILL -- -1
echo "$2" > "$1/boot_id"
mountpoint -q /proc/sys/kernel/random/boot_id ||
  mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id
"#;

/// Directories that [`SETUP`] may have made on the host to mount something on.
const MOUNT_POINTS: [&str; 2] = ["/var/lib/cni", "/var/lib/kubelet"];

/// A node's namespaces, alive as long as their init process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Namespaces {
    init: i32,
}

impl Namespaces {
    /// Starts the init process and waits until the mounts are made.
    pub(super) fn create(
        node: &Node,
        init: &Path,
        layout: &Layout,
        state: &mut State,
    ) -> Result<(Self, Service)> {
        let dir = layout.node(&node.name);
        files::create_dir(&dir)?;
        let mut command = words(
            "unshare",
            // --kill-child: should this run be killed before the init is recorded too,
            // the end of unshare is the init's end.
            [
                "--fork",
                "--kill-child",
                "--pid",
                "--mount",
                "--mount-proc",
                "--net",
                "--uts",
                "--ipc",
            ],
        );
        command.args(["--propagation", "private", "--", "/bin/sh", "-euc", SETUP, "node-init"]);
        command.arg(&dir).arg(&node.name).arg(init);
        let mut unshare =
            Service::start(&format!("unshare-{}", node.name), command, &layout.log(), state)?;
        let made = dir.join("made");
        unshare
            .wait_until("the node's namespaces", Duration::from_secs(30), || Ok(made.exists()))?;
        let init = unshare.only_child()?;
        state.add_process(&init_name(&node.name), init.clone())?;
        Ok((Self { init: init.pid }, unshare))
    }

    /// Those of a node that another process started, if it runs.
    pub(crate) fn find(node: &str, state: &State) -> Option<Self> {
        let name = init_name(node);
        let init = state.processes().iter().find(|process| process.name == name)?;
        init.identity.is_running().then_some(Self { init: init.identity.pid })
    }

    /// The node's first process, as the host numbers it.
    pub(super) fn init(self) -> i32 {
        self.init
    }

    /// The file of the network namespace.
    pub(crate) fn network(self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.init))
    }

    /// Ends what runs inside. What is started next finds another boot.
    pub(super) fn shut_down(self, node_dir: &Path, boot_id: &str) -> Result<()> {
        let mut shell = self.command(Path::new("/bin/sh"));
        shell.args(["-euc", SHUT_DOWN, "node-shut-down"]).arg(node_dir).arg(boot_id);
        run(&mut shell).map(drop)
    }

    /// A command that runs inside. Paths must be absolute.
    pub(super) fn command(self, program: &Path) -> Command {
        let init = self.init.to_string();
        let mut command = words(
            "nsenter",
            ["--target", &init, "--pid", "--mount", "--net", "--uts", "--ipc", "--"],
        );
        command.arg(program);
        command
    }
}

fn init_name(node: &str) -> String {
    format!("init-{node}")
}

/// Removes the mount points, if nothing is in them: then they were made here, or
/// serve nobody.
pub(super) fn remove_mount_points() {
    for path in MOUNT_POINTS {
        let _ = std::fs::remove_dir(path);
    }
}
