//! Command line of the operator.
#![allow(clippy::doc_markdown, reason = "these comments are the help text, which has no Markdown")]

use std::ffi::OsString;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::compat::Compat;
use crate::go_flags;
use crate::metrics::MetricsArgs;
use crate::reporter_args::ReporterArgs;

/// Holds nodes that are not ready, as NodeReadinessRules say.
#[derive(Clone, Debug, Parser)]
#[command(name = "node-readiness-operator", version, args_override_self = true)]
pub struct Args {
    /// Kubeconfig to use. Without it: $KUBECONFIG, then the pod's own ServiceAccount, then
    /// ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Address that serves /healthz and /readyz, as [HOST]:PORT; 0 serves neither.
    #[arg(long, value_name = "ADDRESS", default_value = ":8081", value_parser = bind_address)]
    pub health_probe_bind_address: BindAddress,

    /// Take part in leader election: of several operators one writes, and the others are ready to.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = false,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = go_flags::boolean,
        action = ArgAction::Set
    )]
    pub leader_elect: bool,

    /// Namespace of the Lease. Without it: the pod's own.
    #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
    pub leader_election_namespace: String,

    /// Form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What to log: error, warn, info, debug or trace, or a list such as
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
    pub compat: Compat,
}

impl Args {
    /// Reads a command line, program first, as Go's `flag` package would.
    ///
    /// # Errors
    /// When a flag is unknown or its value cannot be read.
    pub fn from_go(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command = Self::command();
        let line = go_flags::normalise(&command, line);
        Self::from_arg_matches(&command.try_get_matches_from(line)?)
    }

    /// Form of the log, by whichever flag decides it.
    pub(crate) fn log_format(&self) -> LogFormat {
        self.compat.log_format().unwrap_or(self.log_format)
    }

    /// What to log, by whichever flag decides it.
    pub(crate) fn log_level(&self) -> &str {
        self.compat.log_level().unwrap_or(&self.log_level)
    }
}

/// An address to listen on; `None` for not at all.
pub type BindAddress = Option<SocketAddr>;

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Reads an address as Go programs write it: `:8081` is every address of the machine.
pub(crate) fn bind_address(text: &str) -> Result<BindAddress, String> {
    if text == "0" {
        return Ok(None);
    }
    if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()) {
        return Ok(Some((Ipv6Addr::UNSPECIFIED, port).into()));
    }
    let addresses = text.to_socket_addrs().map_err(|cause| {
        format!("must be :PORT, HOST:PORT, or 0 to serve nothing, and cannot be used: {cause}")
    })?;
    // Where a name has addresses of both kinds, as Go chooses.
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().map(Some).ok_or_else(|| format!("{text} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_host_is_every_address() {
        assert_eq!(bind_address(":8081").unwrap().unwrap().to_string(), "[::]:8081");
    }

    #[test]
    fn zero_is_off_and_an_ip_is_itself() {
        assert_eq!(bind_address("0").unwrap(), None);
        assert_eq!(bind_address("127.0.0.1:9").unwrap().unwrap().to_string(), "127.0.0.1:9");
    }

    #[test]
    fn a_name_is_its_first_address_and_what_is_none_is_told() {
        assert_eq!(bind_address("localhost:9").unwrap().unwrap().to_string(), "127.0.0.1:9");
        for wrong in ["localhost", "8081", ":http", "1.2.3.4:99999"] {
            assert!(bind_address(wrong).unwrap_err().starts_with("must be :PORT, HOST:PORT"));
        }
    }

    #[test]
    fn leader_election_is_off_unless_asked_for_as_go_programs_are() {
        let elects = |flags: &[&str]| {
            let start = ["node-readiness-operator", "--reporter-image=r"];
            Args::parse_from(start.iter().chain(flags)).leader_elect
        };
        assert!(!elects(&[]));
        assert!(elects(&["--leader-elect"]));
        assert!(elects(&["--leader-elect", "--leader-election-namespace=n"]));
        assert!(!elects(&["--leader-elect=false"]));
    }

    #[test]
    fn anything_else_is_refused_with_the_forms_that_are_not() {
        assert!(bind_address("8081").unwrap_err().contains(":PORT"));
    }
}
