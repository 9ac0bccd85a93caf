//! `node-readiness-testkit`, the one program that the test cluster's own containers
//! run. `pause` is the init process of nodes and pods, `agent` stands in for a CNI
//! agent that takes a while to become ready.

mod agent;
mod pause;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(version, about = "What the test cluster's own containers run")]
enum Command {
    /// Wait for SIGTERM or SIGINT, and collect orphaned processes until then.
    Pause,
    /// Answer 503 until ready and 200 from then on.
    Agent(agent::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Pause => pause::run().await,
        Command::Agent(options) => agent::run(options).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("node-readiness-testkit: {error}");
            ExitCode::FAILURE
        }
    }
}
