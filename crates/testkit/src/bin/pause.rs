//! `node-readiness-pause`: the first process of pods in the test cluster. It is a program by itself, because every pod
//! has one, and it must not take more memory than that of a usual cluster.

use std::process::ExitCode;

use node_readiness_testkit::pause;

fn main() -> ExitCode {
    match pause::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("node-readiness-pause: {error}");
            ExitCode::FAILURE
        }
    }
}
