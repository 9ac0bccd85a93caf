//! The command line: a handful of flags, read with lexopt. What clap adds, completions and
//! suggestions for people at a terminal, is of no use in a pod and would be on every node.

use std::{ffi::OsString, path::PathBuf};

use lexopt::{Arg, Parser, ValueExt as _};
use node_readiness_api::HOST_ROOT;
use tracing::Level;

use crate::{logging::Format, termination};

/// What `--help` prints.
pub const HELP: &str = "\
Runs probes on a node and writes what they find into the conditions of that node.

Usage: node-readiness-reporter [OPTIONS]

Options:
      --config <FILE>           Configuration that the operator generates (JSON). Without it the
                                environment is read: CONDITION_TYPE, CHECK_ENDPOINT,
                                CHECK_INTERVAL, HEARTBEAT_PERIOD, IMPERSONATE_NODE, CHECK_CA_FILE,
                                METRICS_BIND_ADDRESS
      --host-root <DIR>         Where the node's directories are that file and unixSocket probes
                                look into [default: /host]
      --liveness-file <FILE>       Write the time there every 15 seconds, for --check-live
      --log-format <FORMAT>     text or json [default: text]
      --log-level <LEVEL>       error, warn, info, debug or trace [default: info]
  -v, --v <NUMBER>              The same as klog has it: debug from 4 on
      --termination-log <FILE>  Where a fatal error is also written, if that file exists
                                [default: /dev/termination-log]
      --check-liveness <FILE>      Only find out whether the reporter that writes this file is stuck:
                                exit with 0 if it is not. For a liveness probe
      --install <DIR>           Only copy this program into a directory, for a container of another
                                image to run
  -h, --help                    Print this
  -V, --version                 Print the version

In both forms NODE_NAME must hold the name of the node (spec.nodeName).
";

/// The command line's meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    /// The file with the configuration; none for the environment form.
    pub config: Option<PathBuf>,
    /// Where the node's root directory is.
    pub host_root: PathBuf,
    /// The file to show signs of life in, if any.
    pub liveness_file: Option<PathBuf>,
    /// How log lines look.
    pub log_format: Format,
    /// Which log lines there are.
    pub log_level: Level,
    /// Where a fatal error is also written.
    pub termination_log: PathBuf,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// To work.
    Run(Args),
    /// To find out whether the reporter that writes this file is stuck.
    CheckLiveness(PathBuf),
    /// To copy the program into this directory.
    Install(PathBuf),
    /// To print the help text.
    Help,
    /// To print the version.
    Version,
}

/// An argument that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}: see --help")]
pub struct ArgsError(#[from] lexopt::Error);

/// Reads the arguments, without the program's name.
///
/// # Errors
/// When one is unknown or has a wrong value; the message names it.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ArgsError> {
    let mut parser = Parser::from_args(arguments);
    let mut args = Args {
        config: None,
        host_root: PathBuf::from(HOST_ROOT),
        liveness_file: None,
        log_format: Format::Text,
        log_level: Level::INFO,
        termination_log: PathBuf::from(termination::DEFAULT_PATH),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("config") => args.config = Some(parser.value()?.into()),
            Arg::Long("host-root") => args.host_root = parser.value()?.into(),
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
            config: Some("/etc/c.json".into()),
            host_root: "/node".into(),
            liveness_file: Some("/run/liveness".into()),
            log_format: Format::Json,
            log_level: Level::DEBUG,
            termination_log: "/tmp/log".into(),
        };
        let arguments = [
            "--config",
            "/etc/c.json",
            "--host-root=/node",
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
            (&["--config"], "--config"),
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
