//! Flags of the Go project that this operator maps to its own or ignores.
//!
//! All are accepted, so the arguments of its Deployment stay valid. The operator logs each flag that it ignores,
//! with the reason.
#![allow(clippy::doc_markdown, reason = "these comments are the help text, which has no Markdown")]

use clap::ValueEnum;

use super::go_syntax::boolean;
use super::values::LogFormat;

/// Flags of the Go project. A flag that is not given has no effect.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Flags of the Go node-readiness-controller")]
pub struct GoFlags {
    /// true: log text at level debug. false: log JSON at level info.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    zap_devel: Option<bool>,

    /// Format of the log; takes precedence over --log-format.
    #[arg(long, value_name = "FORM")]
    zap_encoder: Option<ZapEncoder>,

    /// Log level: debug, info, error, panic, or a number: 1 is debug, more is trace. Takes precedence over
    /// --log-level.
    #[arg(long, value_name = "LEVEL", value_parser = zap_level)]
    zap_log_level: Option<&'static str>,

    /// Accepted and ignored.
    #[arg(long, value_name = "LEVEL")]
    zap_stacktrace_level: Option<String>,

    /// Accepted and ignored.
    #[arg(long, value_name = "ENCODING")]
    zap_time_encoding: Option<String>,

    /// Accepted and ignored.
    #[arg(long, value_name = "ADDRESS")]
    pprof_bind_address: Option<String>,

    /// Accepted and ignored.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    enable_webhook: Option<bool>,

    /// Accepted and ignored.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    enable_node_state_metrics: Option<bool>,

    /// Accepted and ignored.
    #[arg(long, value_name = "NUMBER")]
    kube_api_qps: Option<f64>,

    /// Accepted and ignored.
    #[arg(long, value_name = "NUMBER")]
    kube_api_burst: Option<i64>,

    /// Accepted and ignored.
    #[arg(long, value_name = "NUMBER")]
    node_concurrent_reconciles: Option<i64>,

    /// Accepted and ignored.
    #[arg(long, value_name = "NUMBER")]
    rule_concurrent_reconciles: Option<i64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ZapEncoder {
    Json,
    Console,
}

impl GoFlags {
    /// Returns the format of the log, if one of these flags sets it.
    pub(crate) fn log_format(&self) -> Option<LogFormat> {
        match (self.zap_encoder, self.zap_devel) {
            (Some(ZapEncoder::Json), _) | (None, Some(false)) => Some(LogFormat::Json),
            (Some(ZapEncoder::Console), _) | (None, Some(true)) => Some(LogFormat::Text),
            (None, None) => None,
        }
    }

    /// Returns the level of the log, if one of these flags sets it.
    pub(crate) fn log_level(&self) -> Option<&str> {
        self.zap_log_level.or(match self.zap_devel {
            Some(true) => Some("debug"),
            Some(false) => Some("info"),
            None => None,
        })
    }

    /// Returns the ignored flags that were given, each with the reason.
    pub(crate) fn idle(&self) -> Vec<(&'static str, &'static str)> {
        // Names every field, so that a new field does not compile until its effect is decided.
        let Self {
            zap_devel: _,
            zap_encoder: _,
            zap_log_level: _,
            zap_stacktrace_level,
            zap_time_encoding,
            pprof_bind_address,
            enable_webhook,
            enable_node_state_metrics,
            kube_api_qps,
            kube_api_burst,
            node_concurrent_reconciles,
            rule_concurrent_reconciles,
        } = self;
        let no_limit = "the API server limits its clients (Priority and Fairness), and the operator \
                        backs off when it is refused";
        [
            (
                zap_stacktrace_level.is_some(),
                "--zap-stacktrace-level",
                "errors are logged with their causes instead of stack traces",
            ),
            (zap_time_encoding.is_some(), "--zap-time-encoding", "times are logged in RFC 3339"),
            (
                pprof_bind_address
                    .as_ref()
                    .is_some_and(|address| !matches!(address.as_str(), "" | "0")),
                "--pprof-bind-address",
                "pprof is a profiler of Go programs; use perf",
            ),
            (
                *enable_webhook == Some(true),
                "--enable-webhook",
                "there is no webhook: the CustomResourceDefinition rejects invalid rules, and \
                 rules that share a taint do not conflict",
            ),
            (
                enable_node_state_metrics.is_some(),
                "--enable-node-state-metrics",
                "node_readiness_nodes_by_state costs nothing and is always served",
            ),
            (kube_api_qps.is_some(), "--kube-api-qps", no_limit),
            (kube_api_burst.is_some(), "--kube-api-burst", no_limit),
            (
                node_concurrent_reconciles.is_some(),
                "--node-concurrent-reconciles",
                "up to 96 nodes are written at the same time, fewer if the API server is slow",
            ),
            (
                rule_concurrent_reconciles.is_some(),
                "--rule-concurrent-reconciles",
                "up to 8 rules are reconciled at the same time",
            ),
        ]
        .into_iter()
        .filter_map(|(given, flag, reason)| given.then_some((flag, reason)))
        .collect()
    }
}

/// Parses a log level of zap.
fn zap_level(text: &str) -> Result<&'static str, String> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => return Ok("debug"),
        "info" => return Ok("info"),
        "warn" => return Ok("warn"),
        "error" | "dpanic" | "panic" | "fatal" => return Ok("error"),
        _ => {}
    }
    match text.parse() {
        Ok(1_u8) => Ok("debug"),
        Ok(2..) => Ok("trace"),
        Ok(0) | Err(_) => Err("must be debug, info, error, panic or a positive number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Args;

    fn go_flags(flags: &[&str]) -> GoFlags {
        let line = ["operator", "--reporter-image=i"].iter().chain(flags).map(Into::into);
        Args::from_go(line).unwrap().go_flags
    }

    #[test]
    fn without_flags_nothing_is_set_and_nothing_reported() {
        let none = go_flags(&[]);
        assert!(none.log_format().is_none() && none.log_level().is_none());
        assert!(none.idle().is_empty());
    }

    #[test]
    fn zap_flags_set_format_and_level_of_the_log() {
        let devel = go_flags(&["--zap-devel"]);
        assert_eq!((devel.log_format(), devel.log_level()), (Some(LogFormat::Text), Some("debug")));
        let flags = ["-zap-devel", "-zap-encoder=json", "-zap-log-level", "error"];
        let all = go_flags(&flags);
        assert_eq!((all.log_format(), all.log_level()), (Some(LogFormat::Json), Some("error")));
        assert_eq!(go_flags(&["--zap-log-level=5"]).log_level(), Some("trace"));
        assert!(Args::from_go(["operator", "--zap-log-level=0"].map(Into::into)).is_err());
    }

    #[test]
    fn each_ignored_flag_is_reported_with_a_reason() {
        let flags = [
            "--pprof-bind-address=:6060",
            "--enable-webhook",
            "--enable-node-state-metrics=true",
            "--kube-api-qps=-1",
            "--kube-api-burst",
            "-1",
            "-node-concurrent-reconciles=4",
            "-rule-concurrent-reconciles",
            "4",
            "--zap-stacktrace-level=error",
            "--zap-time-encoding=iso8601",
        ];
        let idle = go_flags(&flags).idle();
        assert_eq!(idle.len(), 9);
        assert!(idle.iter().all(|(flag, reason)| flag.starts_with("--") && !reason.is_empty()));
    }

    #[test]
    fn a_flag_that_is_off_is_not_logged() {
        assert!(go_flags(&["--enable-webhook=false", "--pprof-bind-address="]).idle().is_empty());
    }
}
