//! The series of one rule.

use std::collections::BTreeMap;

use node_readiness_api::HoldCause;
use prometheus_client::metrics::histogram::Histogram;

/// Buckets in seconds. A plan takes microseconds.
const EVALUATION: [f64; 8] = [1e-6, 5e-6, 2.5e-5, 1e-4, 5e-4, 2.5e-3, 1e-2, 1e-1];
/// Buckets in seconds. A write takes milliseconds, and retries take minutes.
const LATENCY: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];
/// Buckets in seconds. A bootstrap takes seconds to an hour.
const BOOTSTRAP: [f64; 11] =
    [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0];

/// Buckets in seconds. A hold takes seconds to days.
const HOLD: [f64; 12] =
    [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0, 14_400.0, 86_400.0];

/// The series of one rule.
#[derive(Clone, Debug)]
pub(super) struct RuleSeries {
    pub(super) added: Operations,
    pub(super) removed: Operations,
    pub(super) evaluation: Histogram,
    pub(super) failures: BTreeMap<Reason, u64>,
    pub(super) bootstraps: u64,
    pub(super) bootstrap: Histogram,
    /// How long nodes were held, by cause.
    pub(super) holds: BTreeMap<&'static str, Histogram>,
    /// By name of the requirement.
    pub(super) unmet: BTreeMap<String, u64>,
    /// Time of the last reconcile without an error, in seconds after the epoch.
    pub(super) reconciled: Option<i64>,
}

impl RuleSeries {
    /// Returns the durations of holds with this cause. Records of version 0.1.0 have none.
    pub(super) fn hold(&mut self, cause: Option<HoldCause>) -> &mut Histogram {
        let cause = cause.map_or("Unknown", HoldCause::as_str);
        self.holds.entry(cause).or_insert_with(|| Histogram::new(HOLD))
    }
}

/// Additions or removals of taints.
#[derive(Clone, Debug)]
pub(super) struct Operations {
    pub(super) count: u64,
    pub(super) latency: Histogram,
}

/// The failed operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// The rule could not be evaluated, or its records could not be written.
    Evaluation,
    /// A taint could not be added.
    AddTaint,
    /// A taint could not be removed.
    RemoveTaint,
}

impl Reason {
    pub(super) const ALL: [Self; 3] = [Self::Evaluation, Self::AddTaint, Self::RemoveTaint];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Evaluation => "EvaluationError",
            Self::AddTaint => "AddTaintError",
            Self::RemoveTaint => "RemoveTaintError",
        }
    }
}

impl Default for RuleSeries {
    fn default() -> Self {
        Self {
            added: Operations::default(),
            removed: Operations::default(),
            evaluation: Histogram::new(EVALUATION),
            failures: BTreeMap::new(),
            bootstraps: 0,
            bootstrap: Histogram::new(BOOTSTRAP),
            holds: BTreeMap::new(),
            unmet: BTreeMap::new(),
            reconciled: None,
        }
    }
}

impl Default for Operations {
    fn default() -> Self {
        Self { count: 0, latency: Histogram::new(LATENCY) }
    }
}
