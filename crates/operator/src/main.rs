//! The operator's process: arguments in, exit code out.

use std::process::ExitCode;

use node_readiness_operator::telemetry::{logging, termination};
use node_readiness_operator::{Args, run};

// One thread is enough: it plans a thousand times as fast as the API server writes. With a second thread, the
// allocator would keep a second set of freed memory.
#[tokio::main(flavor = "current_thread")]
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
