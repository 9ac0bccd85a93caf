//! The log on standard error: text for people, or JSON for machines.

use std::io::{self, IsTerminal};

use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::{Args, LogFormat};

/// Log lines of kube that this crate replaces: each failed request, and a span around every line of a
/// reconcile.
const LOGGED_BETTER: [&str; 2] =
    ["kube_client::client::builder=off", "kube_runtime::controller=warn"];

/// Starts logging. An invalid level counts as `info`.
pub fn init(args: &Args) {
    let filter = EnvFilter::try_new(args.log_level()).unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = LOGGED_BETTER
        .iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    // A failing log must not end the process.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false);
    match args.log_format() {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    for (flag, reason) in args.go_flags.idle() {
        info!("{flag} is ignored: {reason}");
    }
}
