//! Makes a rule's status from its evaluations.

mod conditions;
mod reporters;

use conditions::{Verdict, accepted, few, nodes_ready, ready, stamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use node_readiness_api::{
    DryRunResults, NodeCounts, NodeEvaluation, NodeFailure, NodeReadinessRuleStatus, TaintPresence,
};

use crate::{Entry, NodeState, Rule};
pub use reporters::{ReporterReport, Reporters};

/// The maximum number of nodes in each list of a status.
pub const MAX_NODES: usize = 100;

/// The status of a rule that can be evaluated.
///
/// `covered` is the number of covered nodes, `entries` are their evaluations, `unwatched` is why the operator cannot
/// watch what the rule requires, and `previous` is the present status, whose conditions keep their transition times.
pub fn fold<'a>(
    rule: &Rule,
    covered: usize,
    entries: impl Iterator<Item = (&'a str, &'a Entry)>,
    report: &ReporterReport<'_>,
    unwatched: Option<&str>,
    previous: Option<&NodeReadinessRuleStatus>,
    now: Timestamp,
) -> NodeReadinessRuleStatus {
    let generation = rule.generation;
    // Evaluations of an older spec do not count.
    let entries: Vec<_> = entries.filter(|(_, entry)| entry.generation == generation).collect();
    let counts = count(covered, &entries);
    let named = select(&entries);
    let omitted = counts.matched - saturated(named.len());
    let mut conditions = vec![
        accepted(),
        ready(rule, entries.len(), counts, report.reporters, unwatched),
        nodes_ready(rule, &entries, counts),
    ];
    conditions.extend(reporters::ready(report));
    NodeReadinessRuleStatus {
        observed_generation: generation,
        conditions: stamp(conditions, generation, previous, now),
        nodes: Some(counts),
        reporter: match report.reporters {
            Reporters::Applied { status, .. } => Some(status.clone()),
            _ => None,
        },
        applied_nodes: applied(rule, &named),
        failed_nodes: named.iter().filter_map(|(node, entry)| failure(node, entry)).collect(),
        node_evaluations: named.iter().map(|(node, entry)| evaluation(rule, node, entry)).collect(),
        nodes_omitted: (omitted > 0).then_some(omitted),
        dry_run_results: rule.dry_run.then(|| dry_run(&entries)),
    }
}

/// The status of a deleted rule while nodes still carry its taint or record. Earlier results stay.
pub fn deleting(
    claimed: &[String],
    generation: Option<i64>,
    previous: Option<&NodeReadinessRuleStatus>,
    now: Timestamp,
) -> NodeReadinessRuleStatus {
    let number = claimed.len();
    let nodes = few(claimed.iter(), Clone::clone);
    let message = format!(
        "the rule stays until no node has its taint or record; {number} nodes still have one: {nodes}; see their events"
    );
    let conditions = vec![
        accepted(),
        Verdict::new("Ready", false, "Deleting", message),
        Verdict::unknown("NodesReady", "Deleting", "the rule is being deleted; see Ready"),
    ];
    NodeReadinessRuleStatus {
        observed_generation: generation,
        conditions: stamp(conditions, generation, previous, now),
        ..previous.cloned().unwrap_or_default()
    }
}

/// The status of a rule that cannot be evaluated. Earlier results stay, as do the rule's effects on nodes.
pub fn rejected(
    cause: &str,
    generation: Option<i64>,
    previous: Option<&NodeReadinessRuleStatus>,
    now: Timestamp,
) -> NodeReadinessRuleStatus {
    let conditions = vec![
        Verdict::new("Accepted", false, "Invalid", cause.to_owned()),
        Verdict::new(
            "Ready",
            false,
            "NotAccepted",
            "the rule is not in effect; see Accepted".to_owned(),
        ),
        Verdict::unknown("NodesReady", "NotAccepted", "nodes are not evaluated; see Accepted"),
    ];
    NodeReadinessRuleStatus {
        observed_generation: generation,
        conditions: stamp(conditions, generation, previous, now),
        ..previous.cloned().unwrap_or_default()
    }
}

type Named<'a> = Vec<(&'a str, &'a Entry)>;

fn count(covered: usize, entries: &[(&str, &Entry)]) -> NodeCounts {
    NodeCounts {
        // An evaluation of a node that was just deleted may still exist for a moment.
        matched: saturated(covered.max(entries.len())),
        ready: number(entries, is_ready),
        held: number(entries, |entry| entry.taint_state.held),
        pending: number(entries, |entry| entry.state == NodeState::Pending),
        failed: number(entries, |entry| entry.failure.is_some()),
        deferred: number(entries, |entry| entry.state == NodeState::Deferred),
        stale: number(entries, |entry| entry.evaluation.has_stale()),
        overdue: number(entries, |entry| entry.overdue),
    }
}

fn number(entries: &[(&str, &Entry)], counts: impl Fn(&Entry) -> bool) -> u32 {
    saturated(entries.iter().filter(|(_, entry)| counts(entry)).count())
}

fn saturated(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn is_ready(entry: &Entry) -> bool {
    matches!(entry.state, NodeState::Ready | NodeState::Bootstrapped)
}

fn is_held(entry: &Entry) -> bool {
    entry.state == NodeState::Held
}

/// Returns the nodes that the lists name: all if they are few, and otherwise those that need attention, failed
/// nodes before nodes that are not ready.
fn select<'a>(entries: &[(&'a str, &'a Entry)]) -> Named<'a> {
    if entries.len() <= MAX_NODES {
        return entries.to_vec();
    }
    let failed = entries.iter().filter(|(_, e)| e.failure.is_some());
    let unready = entries.iter().filter(|(_, e)| e.failure.is_none() && !is_ready(e));
    failed.chain(unready).take(MAX_NODES).copied().collect()
}

fn applied(rule: &Rule, named: &Named<'_>) -> Vec<String> {
    if rule.is_frozen() {
        return Vec::new();
    }
    named.iter().filter(|(_, e)| e.failure.is_none()).map(|(node, _)| (*node).to_owned()).collect()
}

fn failure(node: &str, entry: &Entry) -> Option<NodeFailure> {
    let failure = entry.failure.as_ref()?;
    Some(NodeFailure {
        node_name: node.to_owned(),
        reason: failure.reason.clone(),
        message: failure.message.chars().take(1024).collect(),
        last_evaluation_time: Time(entry.since),
    })
}

fn evaluation(rule: &Rule, node: &str, entry: &Entry) -> NodeEvaluation {
    NodeEvaluation {
        node_name: node.to_owned(),
        condition_results: entry.evaluation.results(rule),
        requirement_results: entry.evaluation.requirement_results(rule),
        taint_status: if entry.taint_state.tainted {
            TaintPresence::Present
        } else {
            TaintPresence::Absent
        },
        last_evaluation_time: Time(entry.since),
    }
}

fn dry_run(entries: &[(&str, &Entry)]) -> DryRunResults {
    let taints_to_add = number(entries, |e| is_held(e) && !e.taint_state.tainted);
    // A completed bootstrap changes nothing, and a taint that another rule holds stays.
    let taints_to_remove = number(entries, |e| {
        e.state == NodeState::Ready && e.taint_state.tainted && !e.taint_state.held_by_another
    });
    let risky_operations = number(entries, |e| e.evaluation.has_missing());
    let parts: Vec<_> = [
        (taints_to_add, format!("would add {taints_to_add} taints")),
        (taints_to_remove, format!("would remove {taints_to_remove} taints")),
        (risky_operations, format!("{risky_operations} nodes have missing conditions")),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(_, text)| text)
    .collect();
    DryRunResults {
        affected_nodes: saturated(entries.len()),
        taints_to_add,
        taints_to_remove,
        risky_operations,
        summary: if parts.is_empty() { "No changes needed".to_owned() } else { parts.join(", ") },
    }
}
