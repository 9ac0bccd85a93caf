//! The command line, parsed with lexopt. clap's completions and suggestions are of no use in a pod and would
//! cost memory on every node.

use std::{ffi::OsString, num::NonZeroU16, path::PathBuf, str::FromStr};

use lexopt::{Arg, Parser, ValueExt as _};
use node_readiness_api::HOST_ROOT;
use tracing::Level;

use crate::{logging::Format, termination};

/// What `--help` prints.
pub const HELP: &str = "\
Runs probes on a node and writes the results into the conditions of that node.

Usage: node-readiness-reporter [OPTIONS]

Options:
      --config-map <NAMESPACE/NAME>
                                Follow the operator's configuration in this ConfigMap. Without it, the
                                reporter reads environment variables: CONDITION_TYPE, CHECK_ENDPOINT,
                                CHECK_INTERVAL, HEARTBEAT_PERIOD, IMPERSONATE_NODE, CHECK_CA_FILE,
                                METRICS_BIND_ADDRESS. The next four options need it
      --impersonate-node        Read and write the Node as that Node (KEP-5284)
      --metrics-port <PORT>     Serve metrics on this port
      --host-root <DIR>         Directory with the node's directories for file and unixSocket probes
                                [default: /host]
      --host-path <DIR>         A directory of the node that is mounted there. May be repeated
      --liveness-file <FILE>    Write the time to this file every 15 seconds, for --check-liveness
      --log-format <FORMAT>     text or json [default: text]
      --log-level <LEVEL>       error, warn, info, debug or trace [default: info]
  -v, --v <NUMBER>              Verbosity as in klog: debug from 4 on
      --termination-log <FILE>  Also write a fatal error to this file, if it exists
                                [default: /dev/termination-log]
      --check-liveness <FILE>   Only check whether the reporter that writes this file is stuck: exit
                                with 0 if it is not. For a liveness probe
      --install <DIR>           Only copy this program into a directory, for a container of another
                                image
  -h, --help                    Print this
  -V, --version                 Print the version

NODE_NAME must be the name of the node (spec.nodeName) in both forms.
";

/// The command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    /// The ConfigMap to follow; none for environment variables.
    pub config_map: Option<ConfigMapName>,
    /// Whether to act as the Node.
    pub impersonate_node: bool,
    /// The port of the metrics.
    pub metrics_port: Option<NonZeroU16>,
    /// The node's root directory in the container.
    pub host_root: PathBuf,
    /// The directories of the node that are mounted there.
    pub host_paths: Vec<String>,
    /// The liveness file, if there is one.
    pub liveness_file: Option<PathBuf>,
    /// The format of the log.
    pub log_format: Format,
    /// The level of the log.
    pub log_level: Level,
    /// The termination log.
    pub termination_log: PathBuf,
}

/// The name of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMapName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl FromStr for ConfigMapName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Both are used in a path, and are DNS subdomains at most.
        let is_name = |name: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
            !name.is_empty() && name.bytes().all(plain)
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("--config-map takes NAMESPACE/NAME"),
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Run the probes.
    Run(Args),
    /// Check whether the reporter that writes this file is stuck.
    CheckLiveness(PathBuf),
    /// Copy the program into this directory.
    Install(PathBuf),
    /// Print the help text.
    Help,
    /// Print the version.
    Version,
}

/// An invalid argument.
#[derive(Debug, thiserror::Error)]
#[error("{0}: see --help")]
pub struct ArgsError(#[from] lexopt::Error);

/// Parses the arguments, without the program's name.
///
/// # Errors
///
/// When an argument is unknown or has an invalid value; the message names it.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ArgsError> {
    let mut parser = Parser::from_args(arguments);
    let mut args = Args {
        config_map: None,
        impersonate_node: false,
        metrics_port: None,
        host_root: PathBuf::from(HOST_ROOT),
        host_paths: Vec::new(),
        liveness_file: None,
        log_format: Format::Text,
        log_level: Level::INFO,
        termination_log: PathBuf::from(termination::DEFAULT_PATH),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("config-map") => args.config_map = Some(parser.value()?.parse()?),
            Arg::Long("impersonate-node") => args.impersonate_node = true,
            Arg::Long("metrics-port") => args.metrics_port = Some(parser.value()?.parse()?),
            Arg::Long("host-root") => args.host_root = parser.value()?.into(),
            Arg::Long("host-path") => args.host_paths.push(parser.value()?.string()?),
            Arg::Long("liveness-file") => args.liveness_file = Some(parser.value()?.into()),
            Arg::Long("check-liveness") => {
                return Ok(Command::CheckLiveness(parser.value()?.into()));
            }
            Arg::Long("install") => return Ok(Command::Install(parser.value()?.into())),
            Arg::Long("log-format") => {
                args.log_format = parser.value()?.parse_with(|value| match value {
                    "text" => Ok(Format::Text),
                    "json" => Ok(Format::Json),
                    _ => Err("--log-format takes text or json"),
                })?;
            }
            Arg::Long("log-level") => {
                args.log_level = parser.value()?.parse_with(|value| match value {
                    "error" => Ok(Level::ERROR),
                    "warn" => Ok(Level::WARN),
                    "info" => Ok(Level::INFO),
                    "debug" => Ok(Level::DEBUG),
                    "trace" => Ok(Level::TRACE),
                    _ => Err("--log-level takes error, warn, info, debug or trace"),
                })?;
            }
            Arg::Short('v') | Arg::Long("v") => {
                let verbosity: u32 = parser.value()?.parse()?;
                args.log_level = if verbosity < 4 { Level::INFO } else { Level::DEBUG };
            }
            Arg::Long("termination-log") => args.termination_log = parser.value()?.into(),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Run(args))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, ArgsError> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn every_flag_is_read() {
        let expected = Args {
            config_map: Some(ConfigMapName { namespace: "r".into(), name: "reporter".into() }),
            impersonate_node: true,
            metrics_port: NonZeroU16::new(9200),
            host_root: "/node".into(),
            host_paths: vec!["/run/a".into(), "/run/b".into()],
            liveness_file: Some("/run/liveness".into()),
            log_format: Format::Json,
            log_level: Level::DEBUG,
            termination_log: "/tmp/log".into(),
        };
        let arguments = [
            "--config-map",
            "r/reporter",
            "--impersonate-node",
            "--metrics-port=9200",
            "--host-root=/node",
            "--host-path=/run/a",
            "--host-path=/run/b",
            "--liveness-file=/run/liveness",
            "--log-format=json",
            "--log-level",
            "debug",
            "--termination-log=/tmp/log",
        ];
        assert_eq!(parsed(&arguments).unwrap(), Command::Run(expected));
        assert_eq!(parsed(&["--check-liveness", "f"]).unwrap(), Command::CheckLiveness("f".into()));
        assert_eq!(parsed(&["--install=d"]).unwrap(), Command::Install("d".into()));
        assert_eq!(parsed(&["--help"]).unwrap(), Command::Help);
        assert_eq!(parsed(&["-V"]).unwrap(), Command::Version);
    }

    #[test]
    fn klogs_verbosity_is_a_level() {
        for (arguments, expected) in [
            (&["-v=4"][..], Level::DEBUG),
            (&["--v=2"], Level::INFO),
            (&["-v", "10"], Level::DEBUG),
        ] {
            let Command::Run(args) = parsed(arguments).unwrap() else { panic!("{arguments:?}") };
            assert_eq!(args.log_level, expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_wrong_argument_is_named() {
        for (arguments, named) in [
            (&["--confg", "x"][..], "--confg"),
            (&["--config-map"], "--config-map"),
            (&["--config-map", "reporter"], "NAMESPACE/NAME"),
            (&["--config-map", "a/b/c"], "NAMESPACE/NAME"),
            (&["--metrics-port", "0"], "0"),
            (&["--check-liveness"], "--check-liveness"),
            (&["--install"], "--install"),
            (&["--log-format", "xml"], "--log-format"),
            (&["--log-level", "loud"], "--log-level"),
            (&["extra"], "extra"),
        ] {
            let message = parsed(arguments).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
