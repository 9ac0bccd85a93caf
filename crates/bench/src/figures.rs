//! The figures with their limits.
//!
//! A figure that a run cannot measure, because it had too few nodes, has no verdict.

use crate::requests::{of, reads};
use crate::results::{Latencies, Memory, Phase, Results};

/// The number of nodes from which the limits of memory and steady state apply.
pub(crate) const MANY: usize = 5000;

/// A figure with its limit.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) figure: &'static str,
    pub(crate) found: String,
    pub(crate) bar: &'static str,
    /// Whether the limit is met; `None` if this run cannot measure it.
    pub(crate) met: Option<bool>,
}

impl Row {
    pub(crate) fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        }
    }
}

/// All figures with limits. `others` are results of runs with other numbers of nodes.
pub(crate) fn rows(results: &Results, others: &[Results]) -> Vec<Row> {
    let mut rows = vec![
        at_most(
            "taint all nodes, cold start, ÷ baseline",
            results.cold_start_ratio(),
            "≤ 1.2",
            1.2,
        ),
        at_most("flip and untaint all nodes, ÷ baseline", results.flip_ratio(), "≤ 1.2", 1.2),
        latency(
            "condition or pod seen → taint changed (shown in a watch), idle cluster, p99",
            results.idle.iter(),
            "≤ 50 ms",
            50.0,
        ),
        latency(
            "the same while every node flips at full speed, p99",
            results.rounds.iter().filter_map(|round| round.flip.latencies.as_ref()),
            "≤ 1 s",
            1000.0,
        ),
        met_without_operator(results),
        node_writes(results),
        status_writes(results),
        steady_writes(&results.steady),
        reads_after_start(results),
        events(results),
        steady_cpu(results),
    ];
    if let Some(found) = &results.memory {
        rows.extend(memory(results.nodes, found));
    }
    if let Some(bytes) = results.pod_bytes {
        rows.push(Row {
            figure: "operator's memory for each pod that a rule requires",
            found: format!("{:.2} KB", bytes / 1000.0),
            bar: "≤ 2 KB",
            met: Some(bytes <= 2000.0),
        });
    }
    rows.push(growth(results, others));
    rows.push(Row {
        figure: "engine, evaluations of a node under a rule, a second on one core",
        found: format!("{:.2} million", results.evaluations_per_second / 1e6),
        bar: "≥ 1 million",
        met: Some(results.evaluations_per_second >= 1e6),
    });
    rows
}

fn at_most(figure: &'static str, ratio: f64, bar: &'static str, most: f64) -> Row {
    Row { figure, found: format!("{ratio:.2}"), bar, met: Some(ratio <= most) }
}

/// The worst of several rounds.
fn latency<'a>(
    figure: &'static str,
    rounds: impl Iterator<Item = &'a Latencies>,
    bar: &'static str,
    most: f64,
) -> Row {
    let p99 = |Latencies { answered, shown }: &Latencies| (answered.p99, shown.p99);
    let worst = rounds.map(p99).reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)));
    let found = match worst {
        Some((answered, shown)) => format!("{answered:.0} ms ({shown:.0} ms)"),
        None => "–".to_owned(),
    };
    Row { figure, found, bar, met: worst.map(|(answered, _)| answered <= most) }
}

/// How much longer the untainting takes if an operator has to start first.
fn met_without_operator(results: &Results) -> Row {
    let seconds = |phase: &Phase| phase.seconds;
    let without = results.rounds.iter().map(|round| seconds(&round.flip)).reduce(f64::max);
    let longer = results.met_without_operator.as_ref().map(seconds).zip(without);
    let longer = longer.map(|(with, without)| with - without);
    Row {
        figure: "start of an operator, conditions met before, heartbeats of 300 s → all untainted: longer than a flip by",
        found: longer.map_or_else(|| "–".to_owned(), |longer| format!("{longer:+.2} s")),
        bar: "≤ 2 s",
        met: longer.map(|longer| longer <= 2.0),
    }
}

fn node_writes(results: &Results) -> Row {
    let Results { rounds, storm, restart, .. } = results;
    let per_change = |phase: &Phase| {
        ratio(of(&phase.requests, "PATCH nodes"), u64::try_from(phase.changes).unwrap_or(u64::MAX))
    };
    let starts = rounds.iter().map(|round| per_change(&round.cold_start)).fold(0.0, f64::max);
    let flips = rounds.iter().map(|round| per_change(&round.flip)).fold(0.0, f64::max);
    let (storm, restart) = (per_change(storm), per_change(restart));
    Row {
        figure: "writes of a node for each change of its taints: cold start, flip, storm (killed in the middle)",
        found: format!("{starts:.3}, {flips:.3}, {storm:.3} ({restart:.3})"),
        bar: "≤ 1",
        // A killed operator loses the answers to its requests, which are sent again.
        met: Some(starts.max(flips).max(storm) <= 1.0),
    }
}

fn status_writes(results: &Results) -> Row {
    let rate = |phase: &Phase| {
        let writes = count(of(&phase.requests, "PATCH nodereadinessrules/status"));
        // The first may come at once, so there is one more than seconds.
        writes / count(u64::try_from(results.rules).unwrap_or(1)) / (phase.seconds_to_rest + 1.0)
    };
    let phases = results.rounds.iter().flat_map(|round| [&round.cold_start, &round.flip]);
    let most = phases.chain([&results.storm]).map(rate).fold(0.0, f64::max);
    Row {
        figure: "writes of a rule's status, a second",
        found: format!("{most:.2}"),
        bar: "≤ 1",
        met: Some(most <= 1.0),
    }
}

fn steady_writes(steady: &Phase) -> Row {
    let statuses = of(&steady.requests, "PATCH nodereadinessrules/status");
    let nodes = of(&steady.requests, "PATCH nodes");
    let events = of(&steady.requests, "POST events");
    Row {
        figure: "writes in steady state: status, nodes, events",
        found: format!("{statuses}, {nodes}, {events}"),
        bar: "none",
        met: Some(statuses + nodes + events == 0),
    }
}

fn reads_after_start(results: &Results) -> Row {
    let phases = results.rounds.iter().map(|round| &round.flip);
    let phases = phases.chain([&results.storm, &results.steady]);
    let found: u64 = phases.map(|phase| reads(&phase.requests)).sum();
    Row {
        figure: "reads after start other than watches: nodes, rules, events",
        found: found.to_string(),
        bar: "none",
        met: Some(found == 0),
    }
}

fn events(results: &Results) -> Row {
    let found = results.events;
    Row {
        figure: "events before the taint that they report",
        found: format!("{} of {}", found.early, found.written),
        bar: "none",
        met: (found.written > 0).then_some(found.early == 0),
    }
}

fn steady_cpu(results: &Results) -> Row {
    let share = 100.0 * results.steady.cpu_seconds / results.steady.seconds;
    Row {
        figure: "processor time in steady state, of one core (bar: 5,000 nodes)",
        found: format!("{share:.1} %"),
        bar: "< 2 %",
        met: (results.nodes >= MANY || share >= 2.0).then_some(share < 2.0),
    }
}

/// The figures of memory, for this number of nodes.
pub(crate) fn memory(nodes: usize, found: &Memory) -> [Row; 2] {
    let Memory { most_resident_kib, churn_seconds, churn_kib, .. } = found;
    let mib = |kib: u64| count(kib) / 1024.0;
    let churned = churn_kib.iter().copied().max().unwrap_or(0).max(*most_resident_kib);
    let half = churn_kib.len() / 2;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
    let (early, late) = (most(&churn_kib[..half]), most(&churn_kib[half..]));
    let enough = nodes >= MANY;
    [
        Row {
            figure: "resident memory, nodes of 40 KB, 10 rules (bar: 5,000 nodes)",
            found: format!("{:.1} MiB", mib(churned)),
            bar: "≤ 64 MB",
            met: (enough || churned > 64_000_000 / 1024).then_some(churned * 1024 <= 64_000_000),
        },
        Row {
            figure: "growth from the first half of the churn to the second (bar: 10 minutes)",
            found: format!("{:+.1} MiB in {churn_seconds} s", mib(late) - mib(early)),
            bar: "none (≤ 2 %)",
            met: (*churn_seconds >= 600).then_some(ratio(late, early) <= 1.02),
        },
    ]
}

fn growth(results: &Results, others: &[Results]) -> Row {
    let figure = "growth from 1,000 to 10,000 nodes: time ÷ baseline (÷ nodes), bytes of status";
    let bar = "≤ 1.15, constant";
    let of = |nodes: usize| {
        let all = others.iter().chain([results]);
        all.filter(|r| r.rules == results.rules).find(|r| r.nodes == nodes)
    };
    let (Some(small), Some(large)) = (of(1000), of(10_000)) else {
        return Row { figure, found: "takes results of both".to_owned(), bar, met: None };
    };
    let time = |results: &Results| results.cold_start_seconds() + results.flip_seconds();
    let by_nodes = time(large) / time(small) / 10.0;
    // The API server itself takes longer for each node when there are more.
    let grown = by_nodes / (large.baseline_seconds() / small.baseline_seconds() / 10.0);
    let (before, after) = (small.status_bytes, large.status_bytes);
    // Counts have more digits.
    let constant = after.abs_diff(before) <= before / 50;
    Row {
        figure,
        found: format!("{grown:.2} ({by_nodes:.2}), {before} → {after}"),
        bar,
        met: Some(grown <= 1.15 && constant),
    }
}

fn ratio(a: u64, b: u64) -> f64 {
    count(a) / count(b.max(1))
}

fn count(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
