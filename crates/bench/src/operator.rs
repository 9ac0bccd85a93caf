//! The operator as a process, and its resource usage.

use std::fs;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// Clock ticks a second, in which Linux counts a process's time. It is 100 on every architecture that
/// Kubernetes supports (`sysconf(_SC_CLK_TCK)`).
const TICKS: f64 = 100.0;

/// A running operator. It is killed on drop.
pub(crate) struct Operator {
    process: Child,
    /// The log of this process and earlier ones.
    log: PathBuf,
}

/// The resource usage of a process so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Seconds of processor time.
    pub(crate) cpu: f64,
    /// Kibibytes of memory that are resident now, and that were at most.
    pub(crate) resident: u64,
    pub(crate) most_resident: u64,
}

impl Operator {
    /// Starts an operator with the required flags.
    pub(crate) fn start(program: &Path, kubeconfig: &Path) -> anyhow::Result<Self> {
        let path = kubeconfig.with_file_name("log").join("operator.log");
        let log = File::options().append(true).create(true).open(&path)?;
        let process = Command::new(program)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--reporter-image=reporter:bench", "--health-probe-bind-address=0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { process, log: path })
    }

    /// Asks the operator to end, and waits until it has.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process has a number")?, Signal::TERM)?;
        self.process.wait()?;
        Ok(())
    }

    /// Returns the length of its log.
    pub(crate) fn log_bytes(&self) -> anyhow::Result<u64> {
        Ok(fs::metadata(&self.log)?.len())
    }

    /// Returns its log from this length on.
    pub(crate) fn log_since(&self, bytes: u64) -> anyhow::Result<String> {
        let mut log = File::open(&self.log)?;
        log.seek(SeekFrom::Start(bytes))?;
        Ok(io::read_to_string(log)?)
    }

    /// Returns its resource usage so far.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.process.id()));
        let (stat, status) = (of("stat")?, of("status")?);
        // proc_pid_stat(5): after the name in parentheses, fields 14 and 15 are utime and stime.
        let after_name = stat.rsplit_once(") ").context("/proc/PID/stat has a name")?.1;
        let ticks = after_name.split(' ').skip(11).take(2).map(str::parse::<u32>);
        let ticks = ticks.sum::<Result<u32, _>>()?;
        let kib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Usage {
            cpu: f64::from(ticks) / TICKS,
            resident: kib("VmRSS:"),
            most_resident: kib("VmHWM:"),
        })
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended by itself, which shows in the missing results.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
