//! The log on standard output, for people or machines. Standard error is only for the line of a fatal error.

use std::io::{self, IsTerminal as _};

use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, registry};

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text.
    Text,
    /// A JSON object on each line.
    Json,
}

/// Starts logging; a second call changes nothing.
pub fn init(format: Format, level: Level) {
    let lines = fmt::layer().with_ansi(io::stdout().is_terminal());
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let subscriber = registry().with(lines.with_filter(filter(level)));
    // An error means that a test has already set a subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Libraries log only at debug levels. kube logs every failed request as an error, and the reporter logs those
/// that matter with their consequences.
fn filter(level: Level) -> Targets {
    let libraries = if level >= Level::DEBUG { level.into() } else { LevelFilter::OFF };
    Targets::new().with_target("node_readiness_reporter", level).with_default(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_silent_unless_debugging() {
        let normal = filter(Level::INFO);
        assert!(normal.would_enable("node_readiness_reporter::writer", &Level::INFO));
        assert!(!normal.would_enable("kube_client::client::builder", &Level::ERROR));
        let debugging = filter(Level::DEBUG);
        assert!(debugging.would_enable("kube_client::client::builder", &Level::DEBUG));
    }
}
