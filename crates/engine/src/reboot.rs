//! Reboots of nodes.
//!
//! What was reported before a reboot says nothing about the node that came back: its agents may not run
//! yet. kubelet reports the boot in `status.nodeInfo.bootID`. The operator records on the node the boot
//! that it last saw, in the same patch as taints and claims, so that a reboot is noticed also by an
//! operator that did not run meanwhile.

use node_readiness_api::{BOOT_ID_ANNOTATION, ConditionStatus, TaintEffect};

use crate::decision::{Decision, Intent};
use crate::patch::Record;
use crate::{Node, NodeCondition, Rule, RuleSet};

/// Whether the node runs another boot than the one that is recorded on it. One without a record was not
/// in the hands of a rule that asks for it.
pub(crate) fn is_unrecorded(node: &Node) -> bool {
    let recorded = node.annotation(BOOT_ID_ANNOTATION);
    node.boot_id().is_some() && recorded.is_some() && recorded != node.boot_id()
}

/// Whether a node may be rebooting: its kubelet has not reported for so long that Kubernetes says so. No pod
/// can land there until it reports again, and then one may before a reboot is seen. So a rule that reboots
/// concern takes its taint before that. One that evicts does not: a node that only lost its network keeps
/// its pods.
pub(crate) fn may_be_under_way(node: &Node, rule: &Rule) -> bool {
    rule.is_reset_by_reboots()
        && rule.taint.effect != TaintEffect::NoExecute
        && node.condition("Ready") == Some(ConditionStatus::Unknown)
}

/// Whether a condition was reported since the node's last boot, as far as the node itself shows it: a
/// reboot makes kubelet report the condition `Ready` anew. Both times are by the node's own clock.
pub(crate) fn is_reported_since_ready(node: &Node, condition: &NodeCondition) -> bool {
    let transition = node.find_condition("Ready").and_then(NodeCondition::transition);
    transition.is_some() && condition.heartbeat() >= transition
}

/// What becomes of the recorded boot. Rules that write nothing to the node do not need the record, and
/// do not remove it either.
pub(crate) fn next_record(node: &Node, decisions: &[Decision<'_>], rules: &RuleSet) -> Record {
    let recorded = node.annotation(BOOT_ID_ANNOTATION);
    let needs = |decision: &Decision<'_>| match decision.intent {
        Intent::Hold(_)
        | Intent::Defer
        | Intent::Release
        | Intent::Complete
        | Intent::Completed => true,
        Intent::Wait | Intent::Withdraw | Intent::Freeze => false,
    };
    if decisions.iter().any(|d| d.rule.is_reset_by_reboots() && needs(d)) {
        return match node.boot_id() {
            Some(boot) if recorded != Some(boot) => Record::Write(boot.to_owned()),
            _ => Record::Keep,
        };
    }
    let keeps = |decision: &Decision<'_>| matches!(decision.intent, Intent::Freeze);
    if recorded.is_none() || decisions.iter().any(keeps) || !rules.unreadable().is_empty() {
        return Record::Keep;
    }
    Record::Remove
}
