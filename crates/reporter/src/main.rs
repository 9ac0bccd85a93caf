//! The reporter's process: arguments, signals, exit code. Everything else is in the library.

use std::{path::Path, process::ExitCode};

use node_readiness_reporter::{
    FatalError, cli, cli::Command, cluster, load_settings, logging, run, termination,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print!("{}", cli::HELP),
        Ok(Command::Version) => {
            println!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        }
        Ok(Command::Run(args)) => {
            if let Err(error) = report(&args) {
                return termination::report(&error, &args.termination_log);
            }
        }
        Err(error) => {
            return termination::report(&error.into(), Path::new(termination::DEFAULT_PATH));
        }
    }
    ExitCode::SUCCESS
}

/// Works until a signal asks to stop.
///
/// One thread does it all: there is little to do, and each further one would cost memory on every
/// node of a cluster.
fn report(args: &cli::Args) -> Result<(), FatalError> {
    logging::init(args.log_format, args.log_level);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(|source| FatalError::System { what: "the runtime cannot start", source })?
        .block_on(async {
            // As a container's first process it gets signals only if it asks for them.
            let stop = stop_on_signal()?;
            let settings = load_settings(args, |name| std::env::var(name).ok())?;
            let client = cluster::client(&settings)?;
            run(settings, client, stop).await
        })
}

/// A token that is cancelled by SIGTERM, which kubelet sends, or SIGINT, which a terminal does.
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
