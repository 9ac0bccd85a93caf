//! The namespaces of a node: an init process in new namespaces for processes, mounts, network, host name and IPC.
//! containerd and kubelet enter them and share their mounts.
//!
//! The end of the init process removes the node. The kernel then kills all processes of the process namespace, and
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

/// A shell script that makes the mount namespace private, and then executes the init program. The node gets its own
/// directories below `/var` for the paths that it writes to. A new `/run` hides the sockets of the host's containerd
/// and systemd.
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

/// A shell script that kills all processes except the node's init and the shell itself, which kill(2) excludes. It
/// also sets the boot id that kubelet will read.
///
/// `$1` is the node's directory, `$2` the boot id.
const SHUT_DOWN: &str = r#"
kill -s KILL -- -1
echo "$2" > "$1/boot_id"
mountpoint -q /proc/sys/kernel/random/boot_id ||
  mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id
"#;

/// Mount points that [`SETUP`] may have created on the host.
const MOUNT_POINTS: [&str; 2] = ["/var/lib/cni", "/var/lib/kubelet"];

/// A node's namespaces, alive as long as their init process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Namespaces {
    init: i32,
}

impl Namespaces {
    /// Starts the init process and waits until the mounts exist.
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
            // With --kill-child the init ends with unshare, even if this process is killed before it records the
            // init.
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

    /// Returns the namespaces of a node that another process started, if the node runs.
    pub(crate) fn find(node: &str, state: &State) -> Option<Self> {
        let name = init_name(node);
        let init = state.processes().iter().find(|process| process.name == name)?;
        init.identity.is_running().then_some(Self { init: init.identity.pid })
    }

    /// Returns the host's process id of the node's init process.
    pub(super) fn init(self) -> i32 {
        self.init
    }

    /// Returns the file of the network namespace.
    pub(crate) fn network(self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.init))
    }

    /// Ends all processes in the namespaces except the init. Later processes read the new boot id.
    pub(super) fn shut_down(self, node_dir: &Path, boot_id: &str) -> Result<()> {
        let mut shell = self.command(Path::new("/bin/sh"));
        shell.args(["-euc", SHUT_DOWN, "node-shut-down"]).arg(node_dir).arg(boot_id);
        run(&mut shell).map(drop)
    }

    /// Returns a command that runs in the namespaces. Paths must be absolute.
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

/// Removes the mount points that are empty directories. Other programs do not need those.
pub(super) fn remove_mount_points() {
    for path in MOUNT_POINTS {
        let _ = std::fs::remove_dir(path);
    }
}
