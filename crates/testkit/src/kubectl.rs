//! The few questions that starting a cluster asks its API server, asked through
//! the cluster's own kubectl: this crate needs no TLS client for them.

use std::{path::PathBuf, process::Command};

use crate::{command, error::Result, layout::Layout};

/// kubectl as the administrator.
#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            program: layout.bin().join("kubectl"),
            kubeconfig: layout.kubeconfig(),
            cache: layout.kubectl_cache(),
        }
    }

    /// kubectl with another kubeconfig and a cache of its own.
    pub(crate) fn with(layout: &Layout, kubeconfig: PathBuf, cache: PathBuf) -> Self {
        Self { kubeconfig, cache, ..Self::new(layout) }
    }

    /// A kubectl command. Its cache is the cluster's own: the user's would hold what
    /// an earlier cluster at the same address served.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.arg("--cache-dir").arg(&self.cache);
        command.args(["--request-timeout", "5s"]).args(arguments);
        command
    }

    /// What a command answers that must succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String> {
        command::run(&mut self.command(arguments))
    }

    /// The answer to a command, or nothing when the server refuses or is not there.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Option<String>> {
        let output = command::output(&mut self.command(arguments))?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}
