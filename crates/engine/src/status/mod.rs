//! Folding what is known of a rule into its status.

mod reporters;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use node_readiness_api::{
    DryRunResults, NodeCounts, NodeEvaluation, NodeFailure, NodeReadinessRuleStatus, TaintPresence,
};

use crate::reporter::Conflicts;
use crate::{Entry, Rule, Standing};
pub use reporters::Reporters;

/// How many nodes a status names at most in each of its lists.
pub const MAX_NODES: usize = 100;

/// How many nodes a condition's message names at most.
const MAX_NAMED: usize = 3;

/// The status of a rule that can be evaluated.
///
/// `covered` is how many nodes it covers, `entries` are what the ledger has of them; `previous` is
/// the status as it stands, from which the conditions keep the times of their last transitions.
pub fn fold<'a>(
    rule: &Rule,
    covered: usize,
    entries: impl Iterator<Item = (&'a str, &'a Entry)>,
    reporters: &Reporters,
    conflicts: &Conflicts,
    previous: Option<&NodeReadinessRuleStatus>,
    now: Timestamp,
) -> NodeReadinessRuleStatus {
    let generation = rule.generation;
    // What was found under an older spec says nothing about this one.
    let entries: Vec<_> = entries.filter(|(_, entry)| entry.generation == generation).collect();
    let counts = count(covered, &entries);
    let named = select(&entries);
    let omitted = counts.matched - saturated(named.len());
    let mut conditions = vec![accepted(), ready(rule, &entries, counts)];
    conditions.extend(reporters::ready(reporters, conflicts));
    NodeReadinessRuleStatus {
        observed_generation: generation,
        conditions: stamp(conditions, generation, previous, now),
        nodes: Some(counts),
        reporter: match reporters {
            Reporters::Applied(status, _) => Some(status.clone()),
            _ => None,
        },
        applied_nodes: applied(rule, &named),
        failed_nodes: named.iter().filter_map(|(node, entry)| failure(node, entry)).collect(),
        node_evaluations: named.iter().map(|(node, entry)| evaluation(rule, node, entry)).collect(),
        nodes_omitted: (omitted > 0).then_some(omitted),
        dry_run_results: rule.dry_run.then(|| dry_run(&entries)),
    }
}

/// The status of a rule that is being deleted while nodes still carry something of it. What was known
/// of them is kept.
pub fn deleting(
    claimed: &[String],
    generation: Option<i64>,
    previous: Option<&NodeReadinessRuleStatus>,
    now: Timestamp,
) -> NodeReadinessRuleStatus {
    let number = claimed.len();
    let nodes = few(claimed.iter(), Clone::clone);
    let message = format!(
        "the rule stays until {number} nodes are clean of its taint and record: {nodes}; see their events"
    );
    let conditions = vec![accepted(), Verdict::new("Ready", false, "Deleting", message)];
    NodeReadinessRuleStatus {
        observed_generation: generation,
        conditions: stamp(conditions, generation, previous, now),
        ..previous.cloned().unwrap_or_default()
    }
}

/// The status of a rule that cannot be evaluated. What was known of its nodes is kept, as is what
/// the rule did to them.
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
            "the rule cannot be carried out; see Accepted".to_owned(),
        ),
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
        // A node that was evaluated and is gone by now is still among the entries for a moment.
        matched: saturated(covered.max(entries.len())),
        ready: number(entries, is_ready),
        held: number(entries, |entry| entry.grip.held),
        failed: number(entries, |entry| entry.failure.is_some()),
        deferred: number(entries, |entry| entry.standing == Standing::Deferred),
        stale: number(entries, |entry| entry.evaluation.has_stale()),
    }
}

fn number(entries: &[(&str, &Entry)], counts: impl Fn(&Entry) -> bool) -> u32 {
    saturated(entries.iter().filter(|(_, entry)| counts(entry)).count())
}

fn saturated(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn is_ready(entry: &Entry) -> bool {
    matches!(entry.standing, Standing::Ready | Standing::Bootstrapped)
}

fn is_held(entry: &Entry) -> bool {
    entry.standing == Standing::Held
}

/// The nodes that the lists name: all while they are few, and beyond that those that need a person,
/// failed ones before those that are not ready.
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
        taint_status: if entry.grip.tainted {
            TaintPresence::Present
        } else {
            TaintPresence::Absent
        },
        last_evaluation_time: Time(entry.since),
    }
}

fn dry_run(entries: &[(&str, &Entry)]) -> DryRunResults {
    let taints_to_add = number(entries, |e| is_held(e) && !e.grip.tainted);
    // What a completed bootstrap finds is not its own, and what another rule holds stays.
    let taints_to_remove = number(entries, |e| {
        e.standing == Standing::Ready && e.grip.tainted && !e.grip.held_by_another
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

/// A condition before it has its time.
struct Verdict {
    type_: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn new(type_: &'static str, status: bool, reason: &'static str, message: String) -> Self {
        Self { type_, status, reason, message }
    }
}

fn accepted() -> Verdict {
    Verdict::new("Accepted", true, "Accepted", "the rule is carried out".to_owned())
}

fn ready(rule: &Rule, entries: &[(&str, &Entry)], counts: NodeCounts) -> Verdict {
    let NodeCounts { matched, ready, failed, deferred, .. } = counts;
    let verdict = |status, reason, message| Verdict::new("Ready", status, reason, message);
    if matched == 0 {
        let hint =
            "no node matches spec.nodeSelector; compare it with kubectl get nodes --show-labels";
        return verdict(true, "NoNodes", hint.to_owned());
    }
    let pending = matched - saturated(entries.len());
    if pending > 0 {
        let message = format!("{pending} of {matched} nodes are yet to be evaluated");
        return verdict(false, "Evaluating", message);
    }
    if failed > 0 {
        let failures = entries.iter().filter_map(|(node, e)| Some((node, e.failure.as_ref()?)));
        let failures = few(failures, |(node, failure)| format!("{node}: {}", failure.message));
        let message = format!("{failed} of {matched} nodes could not be written: {failures}");
        return verdict(false, "NodesFailed", message);
    }
    if ready < matched {
        let unready = entries.iter().filter(|(_, entry)| !is_ready(entry));
        let causes =
            few(unready, |(node, entry)| format!("{node}: {}", entry.evaluation.unmet(rule)));
        let number = matched - ready;
        let message = if rule.suspend {
            format!(
                "{number} of {matched} nodes are not ready, and the rule is suspended: {causes}"
            )
        } else if rule.dry_run {
            format!("{number} of {matched} nodes would be held: {causes}")
        } else if deferred > 0 {
            format!(
                "{number} of {matched} nodes are not ready, {deferred} of them not held because of \
                 maxUnavailable: {causes}"
            )
        } else {
            format!("{number} of {matched} nodes are held: {causes}")
        };
        let reason = if deferred > 0 { "NodesDeferred" } else { "NodesHeld" };
        return verdict(false, reason, message);
    }
    verdict(true, "NodesReady", format!("all {matched} nodes meet the conditions"))
}

/// The first few of a list in words, and how many more there are.
fn few<T>(mut items: impl Iterator<Item = T>, words: impl Fn(T) -> String) -> String {
    let named: Vec<_> = items.by_ref().take(MAX_NAMED).map(words).collect();
    let named = named.join("; ");
    match items.count() {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

/// Gives conditions their times: that of the last transition while the status is as it was.
fn stamp(
    verdicts: Vec<Verdict>,
    generation: Option<i64>,
    previous: Option<&NodeReadinessRuleStatus>,
    now: Timestamp,
) -> Vec<Condition> {
    let before = |type_: &str| previous?.conditions.iter().find(|c| c.type_ == type_);
    verdicts
        .into_iter()
        .map(|Verdict { type_, status, reason, message }| {
            let status = if status { "True" } else { "False" }.to_owned();
            let last_transition_time = before(type_)
                .filter(|before| before.status == status)
                .map_or(Time(now), |before| before.last_transition_time.clone());
            Condition {
                type_: type_.to_owned(),
                status,
                reason: reason.to_owned(),
                message,
                observed_generation: generation,
                last_transition_time,
            }
        })
        .collect()
}
