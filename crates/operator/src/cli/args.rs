//! The operator's command line.
#![allow(clippy::doc_markdown, reason = "these comments are the help text, which has no Markdown")]

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};

use super::go_flags::GoFlags;
use super::go_syntax;
use super::metrics::MetricsArgs;
use super::reporter::ReporterArgs;
use super::values::{BindAddress, LogFormat, bind_address};

/// Holds nodes with a taint until the conditions of their NodeReadinessRules are met.
#[derive(Clone, Debug, Parser)]
#[command(name = "node-readiness-operator", version, args_override_self = true)]
pub struct Args {
    /// Kubeconfig to use. By default $KUBECONFIG, then the pod's own ServiceAccount, then
    /// ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Address that serves /healthz and /readyz, as [HOST]:PORT; 0 disables both.
    #[arg(long, value_name = "ADDRESS", default_value = ":8081", value_parser = bind_address)]
    pub health_probe_bind_address: BindAddress,

    /// Take part in leader election. Only the leader writes, and the others are standbys.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = false,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = go_syntax::boolean,
        action = ArgAction::Set
    )]
    pub leader_elect: bool,

    /// Namespace of the Lease. By default the pod's own.
    #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
    pub leader_election_namespace: String,

    /// Watch the pods that rules require. Without it such rules change no node, and report that in their
    /// status.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = go_syntax::boolean,
        action = ArgAction::Set
    )]
    pub watch_pods: bool,

    /// Format of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Log level: error, warn, info, debug or trace, or a list such as
    /// info,node_readiness_operator=debug.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "RUST_LOG")]
    pub log_level: String,

    /// How reporters run.
    #[command(flatten)]
    pub reporter: ReporterArgs,

    /// How metrics are served.
    #[command(flatten)]
    pub metrics: MetricsArgs,

    /// Flags of the Go project.
    #[command(flatten)]
    pub go_flags: GoFlags,
}

impl Args {
    /// Parses a command line, program first, like Go's `flag` package.
    ///
    /// # Errors
    ///
    /// When a flag is unknown or its value cannot be parsed.
    pub fn from_go(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command = Self::command();
        let line = go_syntax::normalise(&command, line);
        Self::from_arg_matches(&command.try_get_matches_from(line)?)
    }

    /// Returns the format of the log, from the flag with precedence.
    pub(crate) fn log_format(&self) -> LogFormat {
        self.go_flags.log_format().unwrap_or(self.log_format)
    }

    /// Returns the level of the log, from the flag with precedence.
    pub(crate) fn log_level(&self) -> &str {
        self.go_flags.log_level().unwrap_or(&self.log_level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leader_election_is_off_by_default() {
        let elects = |flags: &[&str]| {
            let start = ["node-readiness-operator", "--reporter-image=r"];
            Args::parse_from(start.iter().chain(flags)).leader_elect
        };
        assert!(!elects(&[]));
        assert!(elects(&["--leader-elect"]));
        assert!(elects(&["--leader-elect", "--leader-election-namespace=n"]));
        assert!(!elects(&["--leader-elect=false"]));
    }
}
