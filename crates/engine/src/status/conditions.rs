//! The conditions `Accepted`, `Ready` and `NodesReady` of a rule.
//!
//! `Ready` follows kstatus, by which Flux, Helm and Argo CD decide whether an object is rolled out: it is True
//! as soon as the rule is in effect. Held nodes do not make it False, because holding them is the purpose of
//! the rule. `NodesReady` reports them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use node_readiness_api::{NodeCounts, NodeReadinessRuleStatus};

use super::reporters::{self, Reporters};
use super::{is_ready, saturated};
use crate::{Entry, Rule};

/// The maximum number of nodes that a condition's message names.
const MAX_NAMED: usize = 3;

/// A condition without its transition time.
pub(super) struct Verdict {
    type_: &'static str,
    /// `True`, `False` or `Unknown`.
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Verdict {
    pub(super) fn new(
        type_: &'static str,
        status: bool,
        reason: &'static str,
        message: String,
    ) -> Self {
        Self { type_, status: if status { "True" } else { "False" }, reason, message }
    }

    pub(super) fn unknown(type_: &'static str, reason: &'static str, message: &str) -> Self {
        Self { type_, status: "Unknown", reason, message: message.to_owned() }
    }

    /// Returns the verdict as another condition.
    fn into_type(self, type_: &'static str) -> Self {
        Self { type_, ..self }
    }
}

pub(super) fn accepted() -> Verdict {
    Verdict::new("Accepted", true, "Accepted", "the rule is valid".to_owned())
}

/// Whether the rule is in effect: its current spec is evaluated on every covered node, the operator can write
/// at least one of them and watch what the rule requires, and the objects of its reporters are in place.
pub(super) fn ready(
    rule: &Rule,
    evaluated: usize,
    counts: NodeCounts,
    reporters: &Reporters,
    unwatched: Option<&str>,
) -> Verdict {
    let NodeCounts { matched, failed, .. } = counts;
    let verdict = |status, reason, message| Verdict::new("Ready", status, reason, message);
    if let Some(verdict) = evaluating("Ready", evaluated, matched) {
        return verdict;
    }
    if failed > 0 && failed == matched {
        let message = format!("none of {matched} nodes could be written; see NodesReady");
        return verdict(false, "NodesFailed", message);
    }
    // A suspended rule is in effect in any state of its reporters.
    if rule.suspend {
        let message = "the rule is suspended: nothing changes until spec.suspend is false";
        return verdict(true, "Suspended", message.to_owned());
    }
    if let Some(cause) = unwatched {
        let message = format!("requirements are not observed, and nodes stay as they are: {cause}");
        return verdict(false, "NotObserved", message);
    }
    if let Some(missing) = reporters::missing(reporters) {
        return missing.into_type("Ready");
    }
    if rule.dry_run {
        let message = format!(
            "the rule is evaluated on {matched} nodes and changes none: spec.dryRun is true"
        );
        return verdict(true, "DryRun", message);
    }
    verdict(true, "InEffect", format!("the rule is in effect on {matched} nodes"))
}

/// Whether all covered nodes meet the requirements.
pub(super) fn nodes_ready(rule: &Rule, entries: &[(&str, &Entry)], counts: NodeCounts) -> Verdict {
    let NodeCounts { matched, ready, pending, failed, deferred, .. } = counts;
    let verdict = |status, reason, message| Verdict::new("NodesReady", status, reason, message);
    if matched == 0 {
        let hint =
            "no node matches spec.nodeSelector; compare it with kubectl get nodes --show-labels";
        return verdict(true, "NoNodes", hint.to_owned());
    }
    if let Some(verdict) = evaluating("NodesReady", entries.len(), matched) {
        return verdict;
    }
    if failed > 0 {
        let failures = entries.iter().filter_map(|(node, e)| Some((node, e.failure.as_ref()?)));
        let failures = few(failures, |(node, failure)| format!("{node}: {}", failure.message));
        let message = format!("{failed} of {matched} nodes could not be written: {failures}");
        return verdict(false, "NodesFailed", message);
    }
    if ready < matched {
        let unready = entries.iter().filter(|(_, entry)| !is_ready(entry));
        let causes = few(unready, |(node, entry)| {
            format!("{node}: {}", entry.evaluation.describe_unmet(rule))
        });
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
        } else if pending > 0 {
            format!(
                "{number} of {matched} nodes are not ready, {pending} of them were in service before \
                 and wait for the first observation: {causes}"
            )
        } else {
            format!("{number} of {matched} nodes are held: {causes}")
        };
        let reason = if deferred > 0 {
            "NodesDeferred"
        } else if pending == number {
            "NodesPending"
        } else {
            "NodesHeld"
        };
        return verdict(false, reason, message);
    }
    verdict(true, "NodesReady", format!("all {matched} nodes meet the requirements"))
}

/// False while nodes wait for their first evaluation under the current spec.
fn evaluating(type_: &'static str, evaluated: usize, matched: u32) -> Option<Verdict> {
    let remaining = matched.saturating_sub(saturated(evaluated));
    let message = format!("{remaining} of {matched} nodes are not evaluated yet");
    (remaining > 0).then(|| Verdict::new(type_, false, "Evaluating", message))
}

/// Describes the first few items of a list, and counts the others.
pub(super) fn few<T>(mut items: impl Iterator<Item = T>, words: impl Fn(T) -> String) -> String {
    let named: Vec<_> = items.by_ref().take(MAX_NAMED).map(words).collect();
    let named = named.join("; ");
    match items.count() {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

/// Sets the times of conditions: an unchanged status keeps the time of its last transition.
pub(super) fn stamp(
    verdicts: Vec<Verdict>,
    generation: Option<i64>,
    previous: Option<&NodeReadinessRuleStatus>,
    now: Timestamp,
) -> Vec<Condition> {
    let before = |type_: &str| previous?.conditions.iter().find(|c| c.type_ == type_);
    verdicts
        .into_iter()
        .map(|Verdict { type_, status, reason, message }| {
            let last_transition_time = before(type_)
                .filter(|before| before.status == status)
                .map_or(Time(now), |before| before.last_transition_time.clone());
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                observed_generation: generation,
                last_transition_time,
            }
        })
        .collect()
}
