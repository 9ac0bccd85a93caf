//! The decision of one rule about one node.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use node_readiness_api::{Claim, ClaimState, EnforcementMode, HoldCause};

use crate::claims::is_held;
use crate::heartbeats::{Heartbeats, NodeHeartbeats};
use crate::max_unavailable::{CoveredNodes, RegressedNodes};
use crate::{Evaluation, Node, NodeCondition, Rule, RuleSet, bootstrap, claims, node, reboot};

/// How long after its creation a rule waits for the first verdict of its own probes, on a node that was in
/// service before. Reporters start in less time.
const PENDING_FOR: Duration = Duration::from_mins(2);

/// The inputs of a plan in addition to the node and the rules.
#[derive(Clone, Copy, Debug)]
pub struct PlanContext<'a> {
    /// The time that records of changes get.
    pub now: Timestamp,
    /// How long the operator has been running, by a monotonic clock.
    pub uptime: Duration,
    /// The heartbeats of conditions.
    pub heartbeats: &'a Heartbeats,
    /// The nodes that rules hold because they regressed.
    pub regressed_nodes: &'a RegressedNodes,
    /// The nodes that rules cover.
    pub covered_nodes: &'a CoveredNodes,
}

/// The state of a node with respect to a rule that covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// The conditions are not met: the rule holds its taint on the node.
    Held,
    /// The conditions are met.
    Ready,
    /// The conditions were met once, and the rule is bootstrap-only.
    Bootstrapped,
    /// The conditions are no longer met, and the node is not held because `maxUnavailable` is used up.
    Deferred,
    /// The node was in service before the rule was created, and the rule's own probes have not reported yet.
    Pending,
}

/// The intent of a rule for a node.
pub(crate) enum Intent {
    /// Keep the taint on the node, for this cause.
    Hold(HoldCause),
    /// Leave the node released, although it regressed, because `maxUnavailable` is used up.
    Defer,
    /// Leave the node unchanged, because it was in service before the rule and the first verdict is missing.
    Wait,
    /// Remove the taint, because the conditions are met.
    Release,
    /// Remove the taint and record the bootstrap, because the conditions of a bootstrap-only rule are met for
    /// the first time.
    Complete,
    /// Remove the claim, because the rule does not cover the node.
    Withdraw,
    /// Remove the claim, and the taint if somebody added it again, because the bootstrap-only rule was
    /// completed on this node.
    Completed,
    /// Change nothing and keep the claim.
    Freeze,
}

/// A rule with its intent for the node, and the node's state if the rule covers it.
pub(crate) struct Decision<'r> {
    pub rule: &'r Rule,
    pub intent: Intent,
    pub state: Option<(NodeState, Evaluation)>,
    /// When to requeue the node although nothing changes.
    pub recheck_in: Option<Duration>,
}

/// Returns the rule's intent for a node, and the node's state if the rule covers it.
pub(crate) fn decide<'r>(
    node: &Node,
    rule: &'r Rule,
    rules: &RuleSet,
    claim: Option<&Claim>,
    heartbeats: NodeHeartbeats<'_>,
    context: &PlanContext<'_>,
) -> Decision<'r> {
    if !rule.covers(node) {
        let intent = if rule.is_frozen() { Intent::Freeze } else { Intent::Withdraw };
        return Decision { rule, intent, state: None, recheck_in: None };
    }
    let silent_for = |type_: &str| heartbeats.silent_for(type_);
    let is_outdated = |condition: &NodeCondition| {
        let is_reported = || {
            let observed = heartbeats.is_reported_since_boot(&condition.type_);
            observed.unwrap_or_else(|| reboot::is_reported_since_ready(node, condition))
        };
        reboot::is_unrecorded(node) && !is_reported()
    };
    let is_leftover = |condition: &NodeCondition| {
        is_leftover(node, condition, rule, rules, claim, heartbeats, context.now)
    };
    let evaluation = Evaluation::of(node, rule, claim, silent_for, is_outdated, is_leftover);
    let recheck_in = next_silence(rule, silent_for);
    let is_bootstrap_only = rule.mode == EnforcementMode::BootstrapOnly;
    let completed = is_bootstrap_only && bootstrap::is_recorded(node, rule);
    let mut waits_for = None;
    let (intent, state) = if completed && (evaluation.satisfied || !evaluation.has_outdated()) {
        (Intent::Completed, NodeState::Bootstrapped)
    } else if !evaluation.satisfied {
        waits_for = pending_for(node, rule, claim, &evaluation, context.now);
        match waits_for {
            Some(_) => (Intent::Wait, NodeState::Pending),
            None => hold(node, rule, claim, &evaluation, context),
        }
    } else if is_bootstrap_only {
        (Intent::Complete, NodeState::Bootstrapped)
    } else {
        (Intent::Release, NodeState::Ready)
    };
    let is_met = matches!(state, NodeState::Ready | NodeState::Bootstrapped);
    let (intent, state) = if is_met && reboot::may_be_under_way(node, rule) {
        (Intent::Hold(HoldCause::Unreachable), NodeState::Held)
    } else {
        (intent, state)
    };
    let intent = if rule.is_frozen() { Intent::Freeze } else { intent };
    let recheck_in = recheck_in.into_iter().chain(waits_for).min();
    Decision { rule, intent, state: Some((state, evaluation)), recheck_in }
}

/// Returns whether a condition of the rule's own probes existed before they reported it, such as one that an
/// earlier rule's reporter wrote. If older rules probe it too, the oldest covering rule's reporter writes it.
///
/// On a released node, the probes have reported. On a held node, the record has the heartbeat that does not
/// count. On any other node, a condition counts if it was written after the rule was created, by the node's
/// clock or as the operator observed it.
fn is_leftover(
    node: &Node,
    condition: &NodeCondition,
    rule: &Rule,
    rules: &RuleSet,
    claim: Option<&Claim>,
    heartbeats: NodeHeartbeats<'_>,
    now: Timestamp,
) -> bool {
    let type_ = &*condition.type_;
    if !rule.probes(type_) || bootstrap::is_recorded(node, rule) {
        return false;
    }
    let writer = rules.iter().find(|other| other.probes(type_) && other.covers(node));
    let created = writer.unwrap_or(rule).created;
    // A condition without a heartbeat was not written by a reporter, and its age is unknown.
    if condition.heartbeat().is_none() || condition.heartbeat() > node::seconds_of(&Time(created)) {
        return false;
    }
    if let Some(claim) = claim {
        return claim.cause.is_some() && claims::records_as_expired(claim, condition);
    }
    let age = Duration::try_from(now.duration_since(created)).unwrap_or_default();
    !heartbeats.has_beaten_within(type_, age)
}

/// Returns how much longer a node stays pending: it was in service before the rule, and the rule's own probes
/// have not reported yet.
fn pending_for(
    node: &Node,
    rule: &Rule,
    claim: Option<&Claim>,
    evaluation: &Evaluation,
    now: Timestamp,
) -> Option<Duration> {
    if !was_in_service(node, rule, claim) || evaluation.awaits_own_probes(rule) != Some(true) {
        return None;
    }
    // If the local clock is behind the API server's, the rule counts as just created.
    let age = Duration::try_from(now.duration_since(rule.created)).unwrap_or_default();
    PENDING_FOR.checked_sub(age).filter(|left| !left.is_zero())
}

/// Returns whether the node was in service before the rule was created, and the rule has not changed it yet.
fn was_in_service(node: &Node, rule: &Rule, claim: Option<&Claim>) -> bool {
    claim.is_none()
        && node.joined_before(rule.created)
        && !node.carries(&rule.taint)
        && !bootstrap::is_recorded(node, rule)
}

/// Decides whether to hold a node whose conditions are not met. The rule always holds new and rebooted nodes
/// and keeps held ones. It holds nodes that it had released, or that were in service before it and failed its
/// own probes, only if `maxUnavailable` permits.
fn hold(
    node: &Node,
    rule: &Rule,
    claim: Option<&Claim>,
    evaluation: &Evaluation,
    context: &PlanContext<'_>,
) -> (Intent, NodeState) {
    // A rule that was bootstrap-only and completed has released the node, even if it was edited since.
    let recorded = claim.and_then(|claim| claim.cause).filter(|_| claim.is_some_and(is_held));
    if evaluation.has_outdated() || recorded == Some(HoldCause::Rebooted) {
        return (Intent::Hold(HoldCause::Rebooted), NodeState::Held);
    }
    let released = match claim.map(|claim| claim.state) {
        Some(state) => state == ClaimState::Released,
        None => {
            bootstrap::is_recorded(node, rule)
                || (was_in_service(node, rule, claim)
                    && evaluation.awaits_own_probes(rule).is_some())
        }
    };
    if released {
        let covered = context.covered_nodes.of(rule);
        if !context.regressed_nodes.admits(rule, node.name(), covered) {
            return (Intent::Defer, NodeState::Deferred);
        }
    }
    let cause = if !released && !claim.is_some_and(Claim::is_regression) {
        HoldCause::Bootstrap
    } else if evaluation.is_unmet_by_staleness_alone(rule) {
        HoldCause::Stale
    } else {
        HoldCause::Regressed
    };
    (Intent::Hold(cause), NodeState::Held)
}

/// Returns the time until the first of a rule's conditions becomes stale.
fn next_silence(rule: &Rule, silent_for: impl Fn(&str) -> Option<Duration>) -> Option<Duration> {
    let conditions = rule.conditions.iter().zip(&rule.stale_after);
    let left = conditions.filter_map(|(condition, stale_after)| {
        let left = (*stale_after)?.checked_sub(silent_for(&condition.type_)?)?;
        (!left.is_zero()).then_some(left)
    });
    left.min()
}
