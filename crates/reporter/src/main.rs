//! The reporter's process: arguments, signals, exit code. Everything else is in the library.

use std::{path::Path, process::ExitCode};

use node_readiness_reporter::{
    FatalError, cli, cli::Command, cluster, install::install, liveness, load_settings, logging,
    probe::reap_orphans, run, termination,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

fn main() -> ExitCode {
    let default_log = Path::new(termination::DEFAULT_PATH);
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print!("{}", cli::HELP),
        Ok(Command::Version) => {
            println!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        }
        Ok(Command::CheckLiveness(file)) => {
            // Kubelet shows the line in an event. It is not the reporter's termination message.
            if let Err(error) = liveness::check(&file) {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
        Ok(Command::Install(directory)) => {
            if let Err(error) = install(&directory) {
                return termination::report(&error.into(), default_log);
            }
        }
        Ok(Command::Run(args)) => {
            if let Err(error) = report(&args) {
                return termination::report(&error, &args.termination_log);
            }
        }
        Err(error) => return termination::report(&error.into(), default_log),
    }
    ExitCode::SUCCESS
}

/// Runs until a signal asks it to stop.
fn report(args: &cli::Args) -> Result<(), FatalError> {
    logging::init(args.log_format, args.log_level);
    let settings = load_settings(args, |name| std::env::var(name).ok())?;
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        // A container's first process receives only signals that it handles.
        let stop = stop_on_signal()?;
        if let Some(file) = &args.liveness_file {
            tokio::spawn(liveness::beat(file.clone()));
        }
        // A configuration with programs may come at any time.
        tokio::spawn(async {
            if let Err(error) = reap_orphans().await {
                warn!("processes that probes leave behind are not reaped: {error}");
            }
        });
        let client = cluster::client()?;
        run(settings, client, stop).await
    });
    // A thread that a file system blocks is not waited for.
    runtime.shutdown_background();
    result
}

/// One thread does everything, because there is little to do and each further one would cost memory on every
/// node. Blocking calls run on temporary threads, at most one for each probe.
fn runtime() -> Result<Runtime, FatalError> {
    /// More than there are probes that can hang at once, so none of them delays a call of another.
    const BLOCKING_THREADS: usize = 4096;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|source| FatalError::System { what: "the runtime cannot start", source })
}

/// Returns a token that SIGTERM (from kubelet) or SIGINT (from a terminal) cancels.
fn stop_on_signal() -> Result<CancellationToken, FatalError> {
    let listen = |kind| {
        signal(kind)
            .map_err(|source| FatalError::System { what: "signals cannot be received", source })
    };
    let mut signals: [Signal; 2] =
        [listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?];
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        let [terminate, interrupt] = &mut signals;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("asked to stop");
        cancelled.cancel();
    });
    Ok(stop)
}
