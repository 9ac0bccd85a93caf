//! Reboots of nodes.
//!
//! Conditions from before a reboot do not describe the rebooted node, because its agents may not run yet.
//! kubelet reports the boot in `status.nodeInfo.bootID`. The operator records the boot on the node, in the same
//! patch as taints and claims. So it detects a reboot even if no operator ran in the meantime.

use node_readiness_api::{BOOT_ID_ANNOTATION, ConditionStatus, TaintEffect};

use crate::decision::{Decision, Intent};
use crate::patch::Record;
use crate::{Node, NodeCondition, Rule, RuleSet};

/// Returns whether the node runs another boot than the recorded one. A node without a record has no rule that
/// depends on reboots.
pub(crate) fn is_unrecorded(node: &Node) -> bool {
    let recorded = node.annotation(BOOT_ID_ANNOTATION);
    node.boot_id().is_some() && recorded.is_some() && recorded != node.boot_id()
}

/// Returns whether a node may be rebooting: its kubelet has not reported for so long that `Ready` is Unknown.
/// When kubelet reports again, a pod may start before the operator sees the reboot. So a rule that depends on
/// reboots holds the node in advance. A rule that evicts does not hold it, so a node that only lost its network
/// keeps its pods.
pub(crate) fn may_be_under_way(node: &Node, rule: &Rule) -> bool {
    rule.is_reset_by_reboots()
        && rule.taint.effect != TaintEffect::NoExecute
        && node.condition("Ready") == Some(ConditionStatus::Unknown)
}

/// Returns whether a condition was reported since the node's last boot, by the node's own conditions: kubelet
/// changes the condition `Ready` after a reboot. Both times are by the node's own clock.
pub(crate) fn is_reported_since_ready(node: &Node, condition: &NodeCondition) -> bool {
    let transition = node.find_condition("Ready").and_then(NodeCondition::transition);
    transition.is_some() && condition.heartbeat() >= transition
}

/// Returns the change of the recorded boot. Rules that write nothing to the node neither need nor remove the
/// record.
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
