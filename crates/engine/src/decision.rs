//! What one rule wants of one node.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use node_readiness_api::{Claim, ClaimState, EnforcementMode, HoldCause};

use crate::claims::is_held;
use crate::heartbeats::Heartbeats;
use crate::max_unavailable::{CoveredNodes, RegressedNodes};
use crate::{Evaluation, Node, NodeCondition, Rule, RuleSet, bootstrap, claims, node, reboot};

/// How long after its creation a rule waits for the first verdict of its own probes on a node that was
/// in service before: longer than reporters take to start.
const PENDING_FOR: Duration = Duration::from_mins(2);

/// What a plan depends on beside the node and the rules.
#[derive(Clone, Copy, Debug)]
pub struct PlanContext<'a> {
    /// The time to record changes under.
    pub now: Timestamp,
    /// For how long the operator has been running, by a clock that does not jump.
    pub uptime: Duration,
    /// Which conditions still beat.
    pub heartbeats: &'a Heartbeats,
    /// How many nodes rules hold because they regressed.
    pub regressed_nodes: &'a RegressedNodes,
    /// How many nodes rules cover.
    pub covered_nodes: &'a CoveredNodes,
}

/// How a node stands to a rule that covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// The conditions are not met: the rule holds its taint on the node.
    Held,
    /// The conditions are met.
    Ready,
    /// The conditions were met once, and the rule is bootstrap-only.
    Bootstrapped,
    /// The conditions are no longer met, and the node is not held because the rule holds as many
    /// regressed nodes as it may.
    Deferred,
    /// The node was in service before the rule was created, and the first verdict of the rule's own
    /// probes is still to come.
    Pending,
}

/// What a rule wants of a node.
pub(crate) enum Intent {
    /// Keep the taint on it, for this cause.
    Hold(HoldCause),
    /// The node regressed, and the rule holds as many of those as it may: leave it released.
    Defer,
    /// The node was in service before the rule, which does not know yet: leave it as it is.
    Wait,
    /// The conditions are met: let go of the taint.
    Release,
    /// The conditions of a bootstrap-only rule are met for the first time: let go of the taint and
    /// of the node.
    Complete,
    /// Nothing: the rule does not cover the node. What it claims goes.
    Withdraw,
    /// Nothing any more: the rule is bootstrap-only and was completed here. What it claims goes, and so
    /// does its taint if somebody puts it on again.
    Completed,
    /// The rule changes nothing: what it claims stays.
    Freeze,
}

/// A rule with what it wants of the node, and how the node stands to it if it covers it.
pub(crate) struct Decision<'r> {
    pub rule: &'r Rule,
    pub intent: Intent,
    pub state: Option<(NodeState, Evaluation)>,
    /// When to look again although nothing changes.
    pub recheck_in: Option<Duration>,
}

/// What a rule wants of a node, and how the node stands to it if it covers it.
pub(crate) fn decide<'r>(
    node: &Node,
    rule: &'r Rule,
    rules: &RuleSet,
    claim: Option<&Claim>,
    context: &PlanContext<'_>,
) -> Decision<'r> {
    if !rule.covers(node) {
        let intent = if rule.is_frozen() { Intent::Freeze } else { Intent::Withdraw };
        return Decision { rule, intent, state: None, recheck_in: None };
    }
    let PlanContext { uptime, heartbeats, .. } = *context;
    let silent_for = |type_: &str| heartbeats.silent_for(node, type_, uptime);
    let is_outdated = |condition: &NodeCondition| {
        let is_reported = || {
            let observed = heartbeats.is_reported_since_boot(node, &condition.type_);
            observed.unwrap_or_else(|| reboot::is_reported_since_ready(node, condition))
        };
        reboot::is_unrecorded(node) && !is_reported()
    };
    let is_leftover =
        |condition: &NodeCondition| is_leftover(node, condition, rule, rules, claim, context);
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

/// Whether a condition that the rule's own probes decide was there before they reported it, such as one
/// that the reporter of an earlier rule wrote. Where older rules probe it as well, the oldest one's
/// reporter writes it.
///
/// A node that the rule has let go of was reported on. On one that it holds the record has the heartbeat
/// that does not count. Of any other a condition counts that was written after the rule was created, by
/// the node's clock or before the operator's eyes.
fn is_leftover(
    node: &Node,
    condition: &NodeCondition,
    rule: &Rule,
    rules: &RuleSet,
    claim: Option<&Claim>,
    context: &PlanContext<'_>,
) -> bool {
    let type_ = &*condition.type_;
    if !rule.probes(type_) || bootstrap::is_recorded(node, rule) {
        return false;
    }
    let writer = rules.iter().find(|other| other.probes(type_) && other.covers(node));
    let created = writer.unwrap_or(rule).created;
    // One without a heartbeat is not written by a reporter, and has nothing to tell old from new by.
    if condition.heartbeat().is_none() || condition.heartbeat() > node::seconds_of(&Time(created)) {
        return false;
    }
    if let Some(claim) = claim {
        return claim.cause.is_some() && claims::records_as_expired(claim, condition);
    }
    let PlanContext { now, uptime, heartbeats, .. } = *context;
    let age = Duration::try_from(now.duration_since(created)).unwrap_or_default();
    !heartbeats.has_beaten_within(node, type_, uptime, age)
}

/// For how long yet a node whose conditions are not met is left alone because it was in service before
/// the rule was created, and the rule's own probes have not said anything about it.
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
    // A clock that is behind that of the API server counts as if the rule had just been created.
    let age = Duration::try_from(now.duration_since(rule.created)).unwrap_or_default();
    PENDING_FOR.checked_sub(age).filter(|left| !left.is_zero())
}

/// Whether the node was in service before the rule was created, and the rule has not touched it.
fn was_in_service(node: &Node, rule: &Rule, claim: Option<&Claim>) -> bool {
    claim.is_none()
        && node.joined_before(rule.created)
        && !node.carries(&rule.taint)
        && !bootstrap::is_recorded(node, rule)
}

/// Whether to hold a node whose conditions are not met. New nodes and rebooted ones always are, and those
/// that are held stay so; those that the rule had released, or that were in service before it and failed
/// its own probes, only while it may hold more of them.
fn hold(
    node: &Node,
    rule: &Rule,
    claim: Option<&Claim>,
    evaluation: &Evaluation,
    context: &PlanContext<'_>,
) -> (Intent, NodeState) {
    // A node that a bootstrap-only rule was done with is one that it released, whatever the rule has
    // become since.
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

/// How long until the first of a rule's conditions will have been silent for too long.
fn next_silence(rule: &Rule, silent_for: impl Fn(&str) -> Option<Duration>) -> Option<Duration> {
    let conditions = rule.conditions.iter().zip(&rule.stale_after);
    let left = conditions.filter_map(|(condition, stale_after)| {
        let left = (*stale_after)?.checked_sub(silent_for(&condition.type_)?)?;
        (!left.is_zero()).then_some(left)
    });
    left.min()
}
