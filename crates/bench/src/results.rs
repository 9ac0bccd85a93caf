//! The results of one run, as plain values that are stored as JSON.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::fixture::SignalKind;
use crate::requests::Requests;
use crate::watching::Counts;

/// How many points of a curve are kept.
const POINTS: usize = 200;

/// The results of one run.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Results {
    /// When, in RFC 3339.
    pub(crate) at: String,
    pub(crate) machine: String,
    pub(crate) nodes: usize,
    pub(crate) rules: usize,
    /// What the rules require. Older results lack it.
    #[serde(default)]
    pub(crate) signals: SignalKind,
    /// Bytes of an operator's memory for each pod that rules require.
    #[serde(default)]
    pub(crate) pod_bytes: Option<f64>,
    /// Bytes of a node, as the API server gives it as JSON.
    pub(crate) node_bytes: usize,
    pub(crate) rounds: Vec<Round>,
    /// The baseline once more, after all rounds.
    pub(crate) last_baseline: Baseline,
    pub(crate) storm: Phase,
    pub(crate) restart: Phase,
    /// The time from an operator's start until all nodes are untainted, if the conditions were met before.
    /// Older results lack it.
    #[serde(default)]
    pub(crate) met_without_operator: Option<Phase>,
    pub(crate) steady: Phase,
    /// One node at a time, while nothing else happens.
    pub(crate) idle: Option<Latencies>,
    pub(crate) events: Events,
    /// Bytes of the largest status of a rule.
    pub(crate) status_bytes: usize,
    pub(crate) memory: Option<Memory>,
    /// Evaluations of a node under a rule, a second on one core.
    pub(crate) evaluations_per_second: f64,
}

/// The baseline, and the operator at the same work.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Round {
    pub(crate) baseline: Baseline,
    pub(crate) cold_start: Phase,
    pub(crate) flip: Phase,
}

/// The measurements of a bare client.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Baseline {
    pub(crate) taint_seconds: f64,
    pub(crate) flip_seconds: f64,
    #[serde(skip)]
    pub(crate) taint_curve: Curve,
    #[serde(skip)]
    pub(crate) flip_curve: Curve,
}

/// The measurements of one phase of the operator.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Phase {
    pub(crate) seconds: f64,
    /// The seconds until nothing was written any more, including events and status.
    pub(crate) seconds_to_rest: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_kib: u64,
    pub(crate) most_resident_kib: u64,
    pub(crate) requests: Requests,
    /// How many times the taints of a node changed.
    pub(crate) changes: usize,
    /// Only if an operator ran all the time.
    pub(crate) latencies: Option<Latencies>,
    #[serde(skip)]
    pub(crate) curve: Curve,
}

/// The latency from a seen condition to changed taints.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Latencies {
    /// Until the API server has confirmed them.
    pub(crate) answered: Percentiles,
    /// Until the watch has shown them.
    pub(crate) shown: Percentiles,
}

/// Of so many durations, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) most: f64,
}

/// Events of the cold start, and those that came before their taint.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Events {
    pub(crate) written: usize,
    pub(crate) early: usize,
}

/// Memory, with large nodes and ten rules.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Memory {
    pub(crate) node_bytes: usize,
    pub(crate) rules: usize,
    /// Resident kibibytes: at most while everything was read and tainted, and then at the end of
    /// each tenth of the churn.
    pub(crate) most_resident_kib: u64,
    pub(crate) churn_seconds: u64,
    pub(crate) churn_kib: Vec<u64>,
}

/// How many nodes were done, by seconds since the start: for the plot, and not stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Curve(pub(crate) Vec<(f64, usize)>);

impl Curve {
    /// Keeps as many points as a plot can show.
    pub(crate) fn of(
        noted: &[(Instant, Counts)],
        begun: Instant,
        done: impl Fn(&Counts) -> usize,
    ) -> Self {
        let step = noted.len().div_ceil(POINTS).max(1);
        let last = noted.last().filter(|_| noted.len() % step != 1);
        let points = noted.iter().step_by(step).chain(last);
        let since = |at: &Instant| at.saturating_duration_since(begun).as_secs_f64();
        Self(points.map(|(at, counts)| (since(at), done(counts))).collect())
    }
}

impl Percentiles {
    pub(crate) fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort();
        let Some(most) = durations.last() else { return Self::default() };
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        // The smallest that at least so many of a hundred do not exceed.
        let at = |percent: usize| ms(durations[(durations.len() * percent).div_ceil(100) - 1]);
        Self { count: durations.len(), p50: at(50), p90: at(90), p99: at(99), most: ms(*most) }
    }
}

impl Results {
    /// Every measurement of the baseline.
    pub(crate) fn baselines(&self) -> impl Iterator<Item = &Baseline> {
        self.rounds.iter().map(|round| &round.baseline).chain([&self.last_baseline])
    }

    /// Mean seconds of the cold starts.
    pub(crate) fn cold_start_seconds(&self) -> f64 {
        mean(self.rounds.iter().map(|round| round.cold_start.seconds))
    }

    /// Mean seconds of the flips.
    pub(crate) fn flip_seconds(&self) -> f64 {
        mean(self.rounds.iter().map(|round| round.flip.seconds))
    }

    /// Mean seconds of the baseline at all of it.
    pub(crate) fn baseline_seconds(&self) -> f64 {
        mean(self.baselines().map(|baseline| baseline.taint_seconds + baseline.flip_seconds))
    }

    /// Seconds of a cold start as a ratio to the baseline.
    pub(crate) fn cold_start_ratio(&self) -> f64 {
        self.cold_start_seconds() / mean(self.baselines().map(|baseline| baseline.taint_seconds))
    }

    /// Seconds of the flip as a ratio to the baseline.
    pub(crate) fn flip_ratio(&self) -> f64 {
        self.flip_seconds() / mean(self.baselines().map(|baseline| baseline.flip_seconds))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_that_so_many_do_not_exceed() {
        let all = (1..=200).map(Duration::from_millis).collect();
        let Percentiles { count, p50, p90, p99, most } = Percentiles::of(all);
        assert_eq!(count, 200);
        for (found, wanted) in [(p50, 100.0), (p90, 180.0), (p99, 198.0), (most, 200.0)] {
            assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        }
    }
}
