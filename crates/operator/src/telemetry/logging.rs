//! The log: text for people, or JSON for machines, on standard error.

use std::io::{self, IsTerminal};

use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::{Args, LogFormat};

/// What kube logs that is said here in better words: each failed request, and, as a span around
/// every line of a reconcile, the object that the line names anyway.
const SAID_HERE: [&str; 2] = ["kube_client::client::builder=off", "kube_runtime::controller=warn"];

/// Starts logging. A level that cannot be read counts as `info`.
pub fn init(args: &Args) {
    let filter = EnvFilter::try_new(args.log_level()).unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = SAID_HERE
        .iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    // A log that nobody can read is no reason to fail, which complaining about it would be.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false);
    match args.log_format() {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    for (flag, reason) in args.compat.idle() {
        info!("{flag} has nothing to do here: {reason}");
    }
}
