//! When the API server confirmed that a node's taints changed.
//!
//! The bench's own watch shows the change too, but later: while both cores are busy, the API server's watches
//! are up to a second behind its answers. The operator logs a line for each taint after the answer, with the
//! time on the same clock.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::jiff::Timestamp;

use crate::results::{Latencies, Percentiles};
use crate::watching::Change;

/// The operator's log line for a changed taint.
const SAYINGS: [&str; 2] = [": taint added ", ": taint removed "];

/// Returns the latencies from seen conditions to changed taints. `log` is the operator's log of this time, with
/// a line for each rule.
///
/// # Errors
///
/// When log and watch do not have the same changes.
pub(crate) fn latencies(log: &str, changes: &[Change], rules: usize) -> anyhow::Result<Latencies> {
    let mut answers: HashMap<&str, Vec<Timestamp>> = HashMap::new();
    for line in log.lines().filter(|line| SAYINGS.iter().any(|saying| line.contains(saying))) {
        let (node, at) = parts(line).with_context(|| format!("a line of the log: {line}"))?;
        answers.entry(node).or_default().push(at);
    }
    let reported: usize = answers.values().map(Vec::len).sum();
    let seen = changes.len() * rules;
    ensure!(
        reported == seen,
        "the operator's log has {reported} changed taints, and the watch has {seen}"
    );
    // A node's changes are in the same order in both, and all of its taints change at once.
    let mut answers: HashMap<_, _> = answers
        .into_iter()
        .map(|(node, times)| (node, times.into_iter().skip(rules - 1).step_by(rules)))
        .collect();
    let (mut answered, mut shown) = (Vec::new(), Vec::new());
    for Change { node, seen, since } in changes {
        let answer = answers.get_mut(node.as_str()).and_then(Iterator::next);
        let answer = answer.with_context(|| format!("the operator's log does not have {node}"))?;
        if let Some(since) = since {
            answered.push(between(*since, answer));
            shown.push(between(*since, *seen));
        }
    }
    Ok(Latencies { answered: Percentiles::of(answered), shown: Percentiles::of(shown) })
}

/// The operator's watch can be ahead of the bench's by more than a patch takes. That counts as no latency.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

fn parts(line: &str) -> Option<(&str, Timestamp)> {
    let (at, rest) = line.split_once(' ')?;
    let (node, _) = rest.split_once("node=\"")?.1.split_once('"')?;
    Some((node, at.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-11-24T13:25:20.500000Z  INFO node_readiness_operator::run: the caches have synced
2026-11-24T13:25:20.600000Z  INFO node_readiness_operator::node::controller: taint added node=\"a\" rule=\"r\"
2026-11-24T13:25:20.700000Z  INFO node_readiness_operator::node::controller: taint added node=\"b\" rule=\"r\"
2026-11-24T13:25:21.600000Z  INFO node_readiness_operator::node::controller: taint removed node=\"a\" rule=\"r\"
";

    fn change(node: &str, since: &str, seen: &str) -> Change {
        let at = |text: &str| format!("2026-11-24T13:25:{text}Z").parse().unwrap();
        Change { node: node.to_owned(), seen: at(seen), since: Some(at(since)) }
    }

    #[test]
    fn changes_of_a_node_are_reported_in_order() {
        let mut changes = vec![
            change("b", "20.690", "20.800"),
            change("a", "20.601", "20.610"),
            change("a", "21.500", "22.500"),
        ];
        let Latencies { answered, shown } = latencies(LOG, &changes, 1).unwrap();
        assert_eq!(format!("{:.0} {:.0}", answered.p50, answered.most), "10 100");
        assert_eq!(format!("{:.0} {:.0}", shown.p50, shown.most), "110 1000");
        changes[2].since = None;
        let Latencies { answered, .. } = latencies(LOG, &changes, 1).unwrap();
        assert_eq!(answered.count, 2, "one does not follow from conditions");
    }

    #[test]
    fn a_change_that_only_log_or_watch_has_is_an_error() {
        assert!(latencies(LOG, &[change("a", "20.500", "20.700")], 1).is_err());
        let other = ["a", "a", "c"].map(|node| change(node, "20.500", "20.700"));
        assert!(latencies(LOG, &other, 1).is_err());
    }
}
