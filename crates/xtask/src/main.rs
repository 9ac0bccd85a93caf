//! `cargo xtask`: tasks of the Makefile that take more than one command. Each subcommand is a module.

mod bench;
mod bench_release;
mod bench_reporter;
mod cluster;
mod demo;
mod docs;
mod generate;
mod images;
mod kubectl;
mod language;
mod processes;
mod readings;
mod reference;
mod security_matrix;
mod setup;
mod test;
mod usage;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Node Readiness workspace", version)]
enum Command {
    /// Start or end the local Kubernetes cluster
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Show the project on a new cluster with two real nodes
    Demo(demo::Options),
    /// Generate the manifests and the reference that are derived from Rust types
    Generate(generate::Options),
    /// Build the docs as a book
    Docs,
    /// Run every check and test
    Test(test::Options),
    /// Measure the operator, and compare it with the API server's own speed
    Bench(bench::Options),
    /// Build the container images as archives
    Images(images::Options),
    /// Measure the cost of a reporter on a node on which nothing changes
    BenchReporter(bench_reporter::Options),
    /// Measure on two real nodes how long after its agent's answer a node is released
    BenchRelease(bench_release::Options),
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not the Debug form, whose backtrace would hide the remedy.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Cluster(command) => cluster::run(command),
        Command::Demo(options) => demo::run(&options),
        Command::Generate(options) => generate::run(&options),
        Command::Docs => docs::run(),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Images(options) => images::run(&options),
        Command::BenchReporter(options) => bench_reporter::run(&options),
        Command::BenchRelease(options) => bench_release::run(&options),
    }
}
