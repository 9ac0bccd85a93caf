//! Measures the operator, as a process of its own, against the API server's own speed.
//!
//! One run starts a control plane, creates nodes of realistic size, measures a bare client that only sends the
//! patches (the *baseline*), then the operator at the same work, then the baseline again, and compares each
//! figure with its limit.
//!
//! - [`environment`]: the control plane, the rules, and the way to the API server.
//! - [`machine`]: the machine.
//! - [`fixture`], [`pods`]: nodes, conditions, pods and rules as they are made here.
//! - [`watching`]: the state of every node, and when it changed.
//! - [`baseline`], [`phases`], [`memory`], [`steady`]: the measurements.
//! - [`answers`]: when the operator's writes were confirmed, by its log.
//! - [`figures`], [`report`], [`plot`]: the results.
//! - [`quick`]: requests counted on a small cluster, for `make test`.

mod answers;
mod baseline;
mod engine_rate;
mod environment;
mod figures;
mod fixture;
mod machine;
mod memory;
mod operator;
mod phases;
mod plot;
mod pods;
mod quick;
mod report;
mod requests;
mod results;
mod run;
mod steady;
mod watching;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Measures the operator against the API server's own speed.
#[derive(Debug, Parser)]
#[command(name = "node-readiness-bench")]
struct Options {
    /// The operator's program
    #[arg(long, value_name = "FILE")]
    operator: PathBuf,
    /// How many nodes
    #[arg(long, default_value_t = 1000, env = "NODES")]
    nodes: usize,
    /// How many rules, each with a condition and a taint of its own
    #[arg(long, default_value_t = 1, env = "RULES")]
    rules: usize,
    /// What rules require of nodes
    #[arg(long, value_enum, default_value_t, env = "SIGNALS")]
    signals: fixture::SignalKind,
    /// Size of a node in KiB, as the API server gives it
    #[arg(long, default_value_t = 11)]
    node_kib: usize,
    /// Size of a node in KiB while memory is measured, with ten rules; 0 measures none
    #[arg(long, default_value_t = 40)]
    large_node_kib: usize,
    /// How many times baseline and operator alternate
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measure only memory, and write no results
    #[arg(long)]
    memory_only: bool,
    /// Seconds of churn while memory is measured [default: 600 for 5000 nodes and more, else 60]
    #[arg(long)]
    churn_seconds: Option<u64>,
    /// Seconds of heartbeats and nothing else
    #[arg(long, default_value_t = 60)]
    steady_seconds: u64,
    /// Directory for results; without one they are only printed
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Directory of the control plane
    #[arg(long, value_name = "DIRECTORY")]
    cluster_dir: PathBuf,
    /// The checkout whose manifests are installed
    #[arg(long, value_name = "DIRECTORY")]
    root: PathBuf,
    /// Count requests on 300 nodes and fail if there are too many
    #[arg(long)]
    quick: bool,
}

impl Options {
    fn churn(&self) -> Duration {
        let default = if self.nodes >= figures::MANY { 600 } else { 60 };
        Duration::from_secs(self.churn_seconds.unwrap_or(default))
    }

    /// The maximum size of etcd's data, in bytes.
    fn etcd_room(&self) -> u64 {
        let gibibytes = if self.nodes >= figures::MANY { 10 } else { 4 };
        gibibytes << 30
    }

    fn steady(&self) -> Duration {
        Duration::from_secs(self.steady_seconds)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.quick { quick::run(&options).await } else { run::run(&options).await };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not the Debug form, whose backtrace would hide the remedy.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
