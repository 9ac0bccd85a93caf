//! `node-readiness-testkit`: the program in the test cluster's own containers. `pause` is the init process of
//! nodes, and the program of pods that only run. `agent` is a small node agent that takes a while to become
//! ready. `test-servers` serves probes of all kinds. `exec` is the program of an exec probe.

mod agent;
mod test_servers;

use std::process::ExitCode;

use clap::Parser;
use node_readiness_testkit::pause;

#[derive(Parser)]
#[command(version, about = "The program in the test cluster's own containers")]
enum Command {
    /// Wait for SIGTERM or SIGINT, and collect orphaned processes until then.
    Pause,
    /// Answer 503 until ready and 200 from then on.
    Agent(agent::Options),
    /// Serve probes of all kinds, with behaviors that tests set.
    TestServers(test_servers::Options),
    /// Read a behavior from the test servers, and exit accordingly.
    Exec(test_servers::exec::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Pause => pause::run().map_err(Into::into),
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
