//! The condition `ReporterReady` of a rule.

use node_readiness_api::ReporterStatus;

use super::conditions::{Verdict, few};
use crate::reporter::{Overlap, Overlaps, Refusal};

/// The state of a rule's reporters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reporters {
    /// The rule has no probes.
    None,
    /// Their objects are in place, and Kubernetes has not processed the DaemonSet of this namespace and name
    /// yet.
    Starting(String),
    /// Their objects are in place.
    Applied {
        /// The status of the DaemonSet.
        status: ReporterStatus,
        /// The object and the first field that somebody else set, which the operator accepts.
        changed: Option<String>,
        /// Why pods do not run or are not created, as Kubernetes reports it.
        trouble: Option<String>,
    },
    /// Their objects could not be applied. The message names object and cause.
    Failed(String),
    /// A foreign object has the name of one of their objects. The message names it, its owner and the remedy.
    NameTaken(String),
    /// The rule asks for more than the operator allows.
    Refused(Refusal),
    /// The operator just applied the policy that limits them, and API servers need time to see it.
    AwaitingPolicy,
}

/// Everything that `ReporterReady` reports.
#[derive(Clone, Copy, Debug)]
pub struct ReporterReport<'a> {
    /// The state of the reporters.
    pub reporters: &'a Reporters,
    /// Where older rules decide the rule's conditions.
    pub overlaps: &'a Overlaps,
    /// The covered nodes on which no reporter can run, each with the reason.
    pub unsupported: &'a [(String, String)],
}

/// Returns the condition for a rule with probes. Failures of the objects take precedence.
pub(super) fn ready(report: &ReporterReport<'_>) -> Option<Verdict> {
    let ReporterReport { reporters, overlaps, unsupported } = *report;
    match reporters {
        Reporters::Failed(_) | Reporters::NameTaken(_) | Reporters::Refused(_) => state(reporters),
        _ => overlap(overlaps, reporters)
            .or_else(|| no_place(unsupported, reporters))
            .or_else(|| state(reporters)),
    }
}

/// The condition of a rule that covers nodes on which no reporter can run.
fn no_place(unsupported: &[(String, String)], reporters: &Reporters) -> Option<Verdict> {
    let (Reporters::Applied { .. }, false) = (reporters, unsupported.is_empty()) else {
        return None;
    };
    let number = unsupported.len();
    let nodes = few(unsupported.iter(), |(node, why)| format!("{node} ({why})"));
    let message = format!(
        "no reporter can run on {number} of the rule's nodes: {nodes}; exclude them by spec.nodeSelector{}",
        count(reporters)
    );
    Some(Verdict::new("ReporterReady", false, "NodesUnsupported", message))
}

/// Describes how many reporters are ready and why the others do not run, as the end of a sentence.
fn count(reporters: &Reporters) -> String {
    let Reporters::Applied { status, trouble, .. } = reporters else { return String::new() };
    let ReporterStatus { desired, ready, .. } = status;
    let trouble = trouble.as_ref().filter(|_| ready < desired);
    let trouble = trouble.map(|trouble| format!("; {trouble}")).unwrap_or_default();
    format!("; {ready} of {desired} reporters of this rule are ready{trouble}")
}

/// The condition of a rule of which older rules decide conditions on shared nodes.
fn overlap(overlaps: &Overlaps, reporters: &Reporters) -> Option<Verdict> {
    if overlaps.is_empty() {
        return None;
    }
    let decided = few(overlaps.iter(), |(condition, Overlap { older, nodes, first })| {
        let older = older.join(", ");
        format!("{condition} by {older} on {nodes} nodes (first {first})")
    });
    let own = count(reporters);
    let message = format!(
        "older NodeReadinessRules decide conditions of this rule where both cover the node: {decided}; remove the \
         probe from one of them, or make their nodeSelectors disjoint{own}"
    );
    Some(Verdict::new("ReporterReady", false, "ProbeConflict", message))
}

/// The objects of the reporters that are not in place. Missing pods do not count, because one broken node must
/// not fail a rollout.
pub(super) fn missing(reporters: &Reporters) -> Option<Verdict> {
    match reporters {
        Reporters::None | Reporters::Applied { .. } => None,
        _ => state(reporters),
    }
}

fn state(reporters: &Reporters) -> Option<Verdict> {
    let verdict =
        |status, reason, message| Some(Verdict::new("ReporterReady", status, reason, message));
    match reporters {
        Reporters::None => None,
        Reporters::Failed(message) => verdict(false, "ApplyFailed", message.clone()),
        Reporters::NameTaken(message) => verdict(false, "NameTaken", message.clone()),
        Reporters::Refused(Refusal { reason, message }) => verdict(false, reason, message.clone()),
        Reporters::AwaitingPolicy => verdict(
            false,
            "AwaitingPolicy",
            "reporters start as soon as the policy that limits them is in force".to_owned(),
        ),
        Reporters::Starting(name) => {
            verdict(false, "ReportersNotReady", format!("DaemonSet {name} has not started yet"))
        }
        Reporters::Applied { status, changed, trouble } => {
            let ReporterStatus { daemon_set, desired, ready } = status;
            let changed = changed.as_ref().map(|changed| format!("; {changed}"));
            let changed = changed.unwrap_or_default();
            let count = format!("{ready} of {desired} reporters are ready{changed}");
            if ready < desired {
                let trouble = trouble.as_ref().map(|trouble| format!("; {trouble}"));
                let count = count + &trouble.unwrap_or_default();
                let (namespace, name) = daemon_set.split_once('/').unwrap_or_default();
                let hint =
                    format!("see kubectl -n {namespace} describe daemonset {name} and its pods");
                verdict(false, "ReportersNotReady", format!("{count}; {hint}"))
            } else {
                verdict(true, "ReportersReady", count)
            }
        }
    }
}
