//! `cargo xtask bench`: builds the operator and the benchmark, and runs the benchmark.
//!
//! The benchmark is a separate program, in `crates/bench`, because its optimized build would delay every other task.

use std::path::PathBuf;
use std::process::Command;

use crate::workspace::{self, Progress};

/// The options of the benchmark.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Count the operator's requests on 300 nodes, and fail if there are too many
    #[arg(long)]
    quick: bool,
    /// Number of nodes
    #[arg(long, default_value_t = 1000, env = "NODES")]
    nodes: usize,
    /// Number of rules
    #[arg(long, default_value_t = 1, env = "RULES")]
    rules: usize,
    /// What the rules require: conditions, pods
    #[arg(long, default_value = "conditions", env = "SIGNALS")]
    signals: String,
    /// More arguments for the benchmark; `-- --help` shows them
    #[arg(last = true)]
    rest: Vec<String>,
}

/// The time for which a quick run measures heartbeats alone.
const QUICK_STEADY_SECONDS: &str = "--steady-seconds=10";

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.quick {
        return quick(&Progress::start());
    }
    let progress = Progress::start();
    progress.say("building the operator and the benchmark (minutes when much has changed)");
    let [operator, bench] = build(&["--release"], "release")?;
    let mut command = command(&bench, &operator);
    command
        .arg(format!("--nodes={}", options.nodes))
        .arg(format!("--rules={}", options.rules))
        .arg(format!("--signals={}", options.signals))
        .arg("--out")
        .arg(workspace::root().join("docs/benchmarks"))
        .args(&options.rest);
    workspace::run(&mut command)
}

/// Counts requests with the test build, because a count does not depend on speed.
pub(crate) fn quick(progress: &Progress) -> anyhow::Result<()> {
    progress.say("counting the operator's requests on 300 nodes");
    let [operator, bench] = build(&[], "debug")?;
    workspace::run(command(&bench, &operator).arg("--quick").arg(QUICK_STEADY_SECONDS))
}

fn build(flags: &[&str], directory: &str) -> anyhow::Result<[PathBuf; 2]> {
    let programs = ["operator", "bench"].map(|name| format!("node-readiness-{name}"));
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--locked"]).args(flags);
    for program in &programs {
        cargo.args(["--package", program, "--bin", program]);
    }
    workspace::run(&mut cargo)?;
    let directory = workspace::target_dir().join(directory);
    Ok(programs.map(|program| directory.join(program)))
}

fn command(bench: &PathBuf, operator: &PathBuf) -> Command {
    let mut command = Command::new(bench);
    command.arg("--operator").arg(operator).arg("--root").arg(workspace::root());
    command.arg("--cluster-dir").arg(workspace::cluster_dir().join("bench"));
    command
}
