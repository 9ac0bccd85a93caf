//! The reporter's metrics for Prometheus.
//!
//! Names and labels are those of the Go project's reporter. Label values are fixed words of this module, so the
//! number of series is fixed too.

mod serve;

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::probe::Outcome;
pub use serve::serve;

/// Seconds, as in the Go project's reporter.
const DURATION: [f64; 8] = [0.005, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const HEALTHY: Labels = [("result", "healthy")];
const UNHEALTHY: Labels = [("result", "unhealthy")];
const ERROR: Labels = [("result", "error")];
const SUCCESS: Labels = [("result", "success")];
const SKIPPED: Labels = [("result", "skipped")];

type Labels = [(&'static str, &'static str); 1];

/// The metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Series>);

#[derive(Debug)]
struct Series {
    duration: Histogram,
    checks: Family<Labels, Counter>,
    writes: Family<Labels, Counter>,
    config_read: Gauge,
}

/// The result of a pass of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The Node was written.
    Success,
    /// The Node could not be read or written, except because of a conflict.
    Error,
    /// The Node was up to date.
    Skipped,
}

impl Default for Metrics {
    fn default() -> Self {
        let series = Series {
            duration: Histogram::new(DURATION),
            checks: Family::default(),
            writes: Family::default(),
            config_read: Gauge::default(),
        };
        // All series exist from the start, because `rate` misses the first event of a new one.
        for labels in [HEALTHY, UNHEALTHY, ERROR] {
            drop(series.checks.get_or_create(&labels));
        }
        for labels in [SUCCESS, ERROR, SKIPPED] {
            drop(series.writes.get_or_create(&labels));
        }
        Self(Arc::new(series))
    }
}

impl Metrics {
    /// Records a probe with its duration.
    pub(crate) fn checked(&self, outcome: &Outcome, took: Duration) {
        self.0.duration.observe(took.as_secs_f64());
        self.0.checks.get_or_create(&result(outcome)).inc();
    }

    /// Records a pass of the writer.
    pub(crate) fn wrote(&self, write: Write) {
        let labels = match write {
            Write::Success => SUCCESS,
            Write::Error => ERROR,
            Write::Skipped => SKIPPED,
        };
        self.0.writes.get_or_create(&labels).inc();
    }

    /// Records whether the last configuration could be used.
    pub(crate) fn config_read(&self, usable: bool) {
        self.0.config_read.set(i64::from(usable));
    }

    /// Returns all metrics in the text format of `OpenMetrics`.
    fn exposition(&self) -> String {
        const PREFIX: &str = "node_readiness_reporter";
        let mut registry = Registry::with_prefix(PREFIX);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The reporter's version", build);
        registry.register_with_unit(
            "check_duration",
            "How long a probe took",
            Unit::Seconds,
            self.0.duration.clone(),
        );
        registry.register(
            "checks",
            "Probes by what they found; error is for those that came to no result",
            self.0.checks.clone(),
        );
        registry.register(
            "condition_writes",
            "Attempts to bring the Node up to date; skipped is for one that needed no write",
            self.0.writes.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the last configuration could be used; 0 before the first one",
            self.0.config_read.clone(),
        );
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

/// A probe that timed out is an error. For the Go project's reporter, a probe without an HTTP answer is one
/// too; for a Pod's probe that is an ordinary failure.
fn result(outcome: &Outcome) -> Labels {
    match outcome.reason {
        _ if outcome.healthy => HEALTHY,
        "ProbeFailed" | "EndpointNotReady" => UNHEALTHY,
        _ => ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start_and_none_is_added() {
        let metrics = Metrics::default();
        let series = |text: &str| {
            text.lines()
                .filter_map(|line| line.rsplit_once(' '))
                .map(|(name, _)| name.to_owned())
                .collect::<Vec<_>>()
        };
        let before = series(&metrics.exposition());
        for (healthy, reason) in
            [(true, "EndpointOK"), (false, "ProbeFailed"), (false, "ProbeTimedOut")]
        {
            let outcome = Outcome { healthy, reason, message: "m".into() };
            metrics.checked(&outcome, Duration::from_millis(200));
        }
        for write in [Write::Success, Write::Error, Write::Skipped, Write::Skipped] {
            metrics.wrote(write);
        }
        metrics.config_read(true);
        let text = metrics.exposition();
        assert_eq!(series(&text), before);
        for line in [
            concat!(
                "node_readiness_reporter_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
            "node_readiness_reporter_checks_total{result=\"healthy\"} 1",
            "node_readiness_reporter_checks_total{result=\"unhealthy\"} 1",
            "node_readiness_reporter_checks_total{result=\"error\"} 1",
            "node_readiness_reporter_condition_writes_total{result=\"success\"} 1",
            "node_readiness_reporter_condition_writes_total{result=\"error\"} 1",
            "node_readiness_reporter_condition_writes_total{result=\"skipped\"} 2",
            "node_readiness_reporter_check_duration_seconds_bucket{le=\"0.1\"} 0",
            "node_readiness_reporter_check_duration_seconds_bucket{le=\"0.25\"} 3",
            "node_readiness_reporter_check_duration_seconds_count 3",
            "node_readiness_reporter_config_last_reload_successful 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
    }
}
