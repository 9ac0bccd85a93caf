//! Paths and commands of this checkout.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, bail};

/// The workspace's root directory.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

/// The local cluster's directory, which README names.
pub(crate) fn cluster_dir() -> PathBuf {
    root().join(".cluster")
}

/// cargo's target directory.
pub(crate) fn target_dir() -> PathBuf {
    let configured = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    root().join(configured.as_deref().unwrap_or(Path::new("target")))
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_own_package(command.current_dir(root()));
    command
}

/// Returns `make` in this checkout, with the environment of a user's shell.
pub(crate) fn make() -> Command {
    let mut command = Command::new("make");
    command.current_dir(root()).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    forget_own_package(&mut command);
    command
}

/// Removes cargo's variables for the running program from a command. Some build scripts read them, such as ring's.
/// With them cargo would see a change, and build ring and its dependents again.
pub(crate) fn forget_own_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

/// Returns `PATH` with a directory in front.
pub(crate) fn path_with(directory: &Path) -> OsString {
    let mut path = directory.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

/// Runs a command and shows its output.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{command:?} failed with {status}");
    }
    Ok(())
}

/// Prints lines with the elapsed time.
pub(crate) struct Progress(Instant);

impl Progress {
    /// Starts the clock.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Prints one line. A closed output is no error.
    pub(crate) fn say(&self, line: &str) {
        let _ = writeln!(io::stdout(), "[{:5.1} s] {line}", self.0.elapsed().as_secs_f32());
    }
}
