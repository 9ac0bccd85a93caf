//! The operator's process: arguments in, exit code out.

use std::process::ExitCode;

use node_readiness_operator::{Args, logging, run, termination};

// On a machine with many cores a thread a core would take memory and nothing else: the API server is
// slower than two threads, whatever it runs on.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::from_go(std::env::args_os()).unwrap_or_else(|error| error.exit());
    logging::init(&args);
    match Box::pin(run(args, termination::requested())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            termination::report(&error);
            ExitCode::FAILURE
        }
    }
}
