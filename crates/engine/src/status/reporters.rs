//! What a rule's status tells of its reporters: the condition `ReporterReady`.
//!
//! How the reporters came to be as they are is not known here.

use node_readiness_api::ReporterStatus;

use super::conditions::{Verdict, few};
use crate::reporter::{Conflict, Conflicts, Outcome, Refusal};

/// How the reporters of a rule are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reporters {
    /// The rule has no probes.
    None,
    /// Their objects are in place, and Kubernetes has not looked at the DaemonSet of this namespace
    /// and name yet.
    Starting(String),
    /// Their objects are in place.
    Applied {
        /// What the DaemonSet reports.
        status: ReporterStatus,
        /// What somebody else set otherwise than it is generated, which is accepted: the object and the
        /// field.
        changed: Option<String>,
        /// What keeps pods from running or from being created, in Kubernetes' words.
        trouble: Option<String>,
    },
    /// Their objects could not be put in place; the message names object and cause.
    Failed(String),
    /// Their objects are not in place because another has such a name; the message names it, whose
    /// it is and the remedy.
    NameTaken(String),
    /// They may not run as the rule asks for.
    Refused(Refusal),
    /// What limits what they may do was written a moment ago, and API servers take a moment to see
    /// it.
    AwaitingPolicy,
}

/// All that there is to report of a rule's reporters.
#[derive(Clone, Copy, Debug)]
pub struct ReporterReport<'a> {
    /// How they are.
    pub reporters: &'a Reporters,
    /// Which of the rule's conditions older rules probe as well.
    pub conflicts: &'a Conflicts,
    /// The nodes that the rule covers and on which no reporter can run, each with why.
    pub unsupported: &'a [(String, String)],
}

/// The condition, for a rule with probes. What keeps reporters from running as they should comes
/// first.
pub(super) fn ready(report: &ReporterReport<'_>) -> Option<Verdict> {
    let ReporterReport { reporters, conflicts, unsupported } = *report;
    match reporters {
        Reporters::Failed(_) | Reporters::NameTaken(_) | Reporters::Refused(_) => state(reporters),
        _ => conflict(conflicts, reporters)
            .or_else(|| no_place(unsupported, reporters))
            .or_else(|| state(reporters)),
    }
}

/// What a rule is told that covers nodes on which no reporter can run. Nobody reports its conditions there.
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

/// How many reporters are ready and what keeps the others from running, to end a sentence with.
fn count(reporters: &Reporters) -> String {
    let Reporters::Applied { status, trouble, .. } = reporters else { return String::new() };
    let ReporterStatus { desired, ready, .. } = status;
    let trouble = trouble.as_ref().filter(|_| ready < desired);
    let trouble = trouble.map(|trouble| format!("; {trouble}")).unwrap_or_default();
    format!("; {ready} of {desired} reporters of this rule are ready{trouble}")
}

/// What a rule is told whose conditions older rules probe on nodes that it covers as well. Of several
/// the one that asks most for a person.
fn conflict(conflicts: &Conflicts, reporters: &Reporters) -> Option<Verdict> {
    let reported = conflicts.iter().filter(|(_, c)| c.met || c.outcome == Outcome::LeftOut);
    let (condition, Conflict { older, outcome, .. }) = reported.max_by_key(|(_, c)| c.outcome)?;
    let older = few(older.iter(), Clone::clone);
    let what = match outcome {
        Outcome::LeftOut => "wherever this rule applies",
        Outcome::Apart | Outcome::Yields => "on some of this rule's nodes",
    };
    let own = count(reporters);
    let message = format!(
        "condition {condition} is probed by the older NodeReadinessRule {older} as well, {what}, and \
         there only the older one's reporters write it; remove the probe from one of them, or make \
         their nodeSelectors disjoint{own}"
    );
    Some(Verdict::new("ReporterReady", false, "ProbeConflict", message))
}

/// What of the reporters is not in place yet, or cannot be. Reporters that do not run on some nodes
/// are in place: one broken node must not keep a rule from being rolled out.
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
            verdict(false, "ReportersNotReady", format!("DaemonSet {name} has yet to start"))
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
