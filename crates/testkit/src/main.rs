//! `node-readiness-testkit`, the one program that the test cluster's own containers
//! run. `pause` is the init process of nodes and pods, `agent` stands in for a CNI
//! agent that takes a while to become ready, `counterparts` for whatever probes of all
//! kinds ask, and `exec` is the program that an exec probe runs.

mod agent;
mod counterparts;
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
    /// Be what probes of every kind look at, and behave as told.
    Counterparts(counterparts::Options),
    /// Behave as the counterparts were told for this.
    Exec(counterparts::exec::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Pause => pause::run().await,
        Command::Agent(options) => agent::run(options).await,
        Command::Counterparts(options) => counterparts::run(options).await,
        Command::Exec(options) => match counterparts::exec::run(&options) {
            Ok(status) => return ExitCode::from(status),
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("node-readiness-testkit: {error}");
            ExitCode::FAILURE
        }
    }
}
