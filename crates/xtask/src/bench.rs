//! `cargo xtask bench`: builds what is measured and what measures, and runs it.
//!
//! The measuring itself is a program of its own, in `crates/bench`: it has to be built for speed, which
//! would make every other task wait.

use std::path::PathBuf;
use std::process::Command;

use crate::workspace::{self, Progress};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Count requests on 300 nodes, and fail if there are more than there may be
    #[arg(long)]
    quick: bool,
    /// How many nodes
    #[arg(long, default_value_t = 1000, env = "NODES")]
    nodes: usize,
    /// How many rules
    #[arg(long, default_value_t = 1, env = "RULES")]
    rules: usize,
    /// What else to tell the program; `-- --help` shows what there is
    #[arg(last = true)]
    rest: Vec<String>,
}

/// How long heartbeats alone are looked at in a quick run.
const QUICK_STEADY_SECONDS: &str = "--steady-seconds=10";

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.quick {
        return quick(&Progress::start());
    }
    let progress = Progress::start();
    progress.say("building the operator and what measures it (minutes when much has changed)");
    let [operator, bench] = build(&["--release"], "release")?;
    let mut command = command(&bench, &operator);
    command
        .arg(format!("--nodes={}", options.nodes))
        .arg(format!("--rules={}", options.rules))
        .arg("--out")
        .arg(workspace::root().join("docs/benchmarks"))
        .args(&options.rest);
    workspace::run(&mut command)
}

/// Counts requests. A count does not depend on how fast the program is, so what tests have built
/// will do.
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
