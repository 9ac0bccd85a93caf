//! Requests to the API server through the cluster's own kubectl, so this crate needs no TLS client.

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

    /// Returns a kubectl with another kubeconfig and its own cache.
    pub(crate) fn with(layout: &Layout, kubeconfig: PathBuf, cache: PathBuf) -> Self {
        Self { kubeconfig, cache, ..Self::new(layout) }
    }

    /// Returns a kubectl command. It uses the cluster's own cache, because the user's may hold the API of an earlier
    /// cluster at the same address.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.arg("--cache-dir").arg(&self.cache);
        command.args(["--request-timeout", "5s"]).args(arguments);
        command
    }

    /// Runs a command that must succeed, and returns its output.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String> {
        command::run(&mut self.command(arguments))
    }

    /// Runs a command, and returns its output, or `None` if it fails.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Option<String>> {
        let output = command::output(&mut self.command(arguments))?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}
