//! The processes: the reporter, started as if it were in a pod, and what it probes.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use node_readiness_testkit::host;

use super::api::{CONTROL, NODE, Pod};

/// Gives the process that it becomes a `/run` of its own with the ServiceAccount's files, which a
/// reporter looks for where kubelet mounts them and nowhere else. `$1` is their directory.
const IN_A_POD: &str = r#"
mount -t tmpfs tmpfs /run
files=/var/run/secrets/kubernetes.io/serviceaccount
mkdir -p "$files"
cp "$1"/* "$files"
shift
exec "$@"
"#;

/// A process that ends with this value.
pub(super) struct Running {
    child: Child,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Resident memory now and at its highest, in bytes.
    pub(super) resident: u64,
    pub(super) peak: u64,
    /// Ticks of the processor's time: its own, and of the programs that it ran.
    own_ticks: u64,
    children_ticks: u64,
}

/// Time on a processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    pub(super) own: Duration,
    pub(super) children: Duration,
}

impl Usage {
    /// What was used from one reading to a later one, at most: ticks are counted when they are full.
    pub(super) fn cpu_since(later: &Self, earlier: &Self) -> Cpu {
        // What Linux reports to programs is in this unit on every architecture (proc(5), USER_HZ).
        let tick = Duration::from_millis(10);
        let time = |ticks: u64| tick * u32::try_from(ticks).unwrap_or(u32::MAX);
        Cpu {
            own: time(later.own_ticks - earlier.own_ticks + 1),
            children: time(later.children_ticks - earlier.children_ticks + 1),
        }
    }

    /// One of which only the memory matters.
    #[cfg(test)]
    pub(super) fn of_memory(bytes: u64) -> Self {
        Self { resident: bytes, peak: bytes, own_ticks: 0, children_ticks: 0 }
    }

    fn parse(status: &str, stat: &str) -> Option<Self> {
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        };
        // The program's name, field 2, may hold spaces; fields 14 to 17 are times.
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            resident: kib("VmRSS:")? * 1024,
            peak: kib("VmHWM:")? * 1024,
            own_ticks: ticks(14)? + ticks(15)?,
            children_ticks: ticks(16)? + ticks(17)?,
        })
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

    /// What it has used so far.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        let read = |file| fs::read_to_string(format!("/proc/{}/{file}", self.child.id()));
        let usage = Usage::parse(&read("status")?, &read("stat")?);
        usage.with_context(|| format!("the reporter has ended: {}", self.log()))
    }

    /// What it has said.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Starts what is probed.
pub(super) fn counterparts(testkit: &Path, dir: &Path) -> anyhow::Result<Running> {
    fs::create_dir_all(dir)?;
    let mut command = Command::new(testkit);
    command.arg("counterparts").arg(format!("--control=127.0.0.1:{CONTROL}"));
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
    // Each of them execs the next, so that the process is the reporter in the end.
    if !host::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--propagation", "private", "--"]);
    command.args(["sh", "-euc", IN_A_POD, "in-a-pod"]).arg(&pod.credentials).arg(program);
    command.arg("--config").arg(&pod.config).arg("--host-root").arg(host_root);
    command.arg("--alive-file").arg(dir.join("alive"));
    command.env("NODE_NAME", NODE);
    command.env("KUBERNETES_SERVICE_HOST", server.to_string());
    command.env("KUBERNETES_SERVICE_PORT", "6443");
    Running::start(&mut command, dir.join("log/reporter.log"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn what_proc_tells_is_read() {
        let status = "Name:\tx\nVmHWM:\t    5000 kB\nVmRSS:\t    4000 kB\n";
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 2 1 20 0 1 0 987654 1000 10";
        let earlier = Usage::parse(status, stat).unwrap();
        assert_eq!((earlier.resident, earlier.peak), (4_096_000, 5_120_000));
        assert_eq!((earlier.own_ticks, earlier.children_ticks), (12, 3));
        let later = Usage { own_ticks: 14, ..earlier };
        let cpu = Usage::cpu_since(&later, &earlier);
        assert_eq!((cpu.own, cpu.children), (Duration::from_millis(30), Duration::from_millis(10)));
        assert!(Usage::parse("Name:\tx\n", stat).is_none());
    }
}
