//! The processes: the reporter, started as if in a pod, and the test servers.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use node_readiness_testkit::host;

use super::api::{CONTROL, NODE, Pod};
use crate::usage::Usage;

/// A shell script that gives the process its own `/run` with the ServiceAccount's files at the path at which
/// kubelet would mount them. `$1` is the directory with the files.
const IN_A_POD: &str = r#"
mount -t tmpfs tmpfs /run
files=/var/run/secrets/kubernetes.io/serviceaccount
mkdir -p "$files"
cp "$1"/* "$files"
shift
exec "$@"
"#;

/// A process that ends on drop.
pub(super) struct Running {
    child: Child,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, log })
    }

    /// Returns its resource usage so far.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        let usage = Usage::of(self.child.id());
        usage.with_context(|| format!("the reporter has ended: {}", self.log()))
    }

    /// Returns its output.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Starts the test servers.
pub(super) fn test_servers(testkit: &Path, dir: &Path) -> anyhow::Result<Running> {
    fs::create_dir_all(dir)?;
    let mut command = Command::new(testkit);
    command.arg("test-servers").arg(format!("--control=127.0.0.1:{CONTROL}"));
    command.arg("--dir").arg(dir);
    Running::start(&mut command, dir.with_extension("log"))
}

/// Starts the reporter.
pub(super) fn reporter(
    program: &Path,
    host_root: &Path,
    pod: &Pod,
    server: Ipv4Addr,
) -> anyhow::Result<Running> {
    let dir = pod.config.parent().context("the configuration is in a directory")?;
    let mut command = Command::new("unshare");
    // Each program execs the next one, so the started process becomes the reporter.
    if !host::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--propagation", "private", "--"]);
    command.args(["sh", "-euc", IN_A_POD, "in-a-pod"]).arg(&pod.credentials).arg(program);
    command.arg("--config").arg(&pod.config).arg("--host-root").arg(host_root);
    command.arg("--liveness-file").arg(dir.join("liveness"));
    command.env("NODE_NAME", NODE);
    command.env("KUBERNETES_SERVICE_HOST", server.to_string());
    command.env("KUBERNETES_SERVICE_PORT", "6443");
    Running::start(&mut command, dir.join("log/reporter.log"))
}
