//! `node-readiness-testkit`, the one program that the test cluster's own containers
//! run. `pause` is the init process of nodes and pods, `agent` stands in for a CNI
//! agent that takes a while to become ready, `test servers` for whatever probes of all
//! kinds ask, and `exec` is the program that an exec probe runs.

mod agent;
mod pause;
mod test_servers;

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
    TestServers(test_servers::Options),
    /// Behave as the test servers were told for this.
    Exec(test_servers::exec::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Pause => pause::run().await,
        Command::Agent(options) => agent::run(options).await,
        Command::TestServers(options) => test_servers::run(options).await,
        Command::Exec(options) => match test_servers::exec::run(&options) {
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
