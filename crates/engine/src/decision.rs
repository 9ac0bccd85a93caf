//! The decision of one rule about one node.

use std::sync::LazyLock;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use node_readiness_api::{
    Claim, ClaimState, EnforcementMode, HoldCause, HoldTimeout, HoldTimeoutAction,
};

use crate::claims::is_held;
use crate::containers::{Containers, Pods};
use crate::heartbeats::{Heartbeats, NodeHeartbeats};
use crate::max_unavailable::{CoveredNodes, RegressedNodes};
use crate::signals::{Signal, Signals};
use crate::{
    Delay, Evaluation, MetSince, Node, NodeCondition, Rule, RuleSet, SignalState, bootstrap,
    claims, node, quantity, reboot,
};

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
    /// What rules require besides conditions, as observed.
    pub signals: &'a Signals,
    /// Since when nodes meet the requirements of rules with `minReadySeconds`.
    pub met_since: &'a MetSince,
    /// The nodes that rules hold because they regressed.
    pub regressed_nodes: &'a RegressedNodes,
    /// The nodes that rules cover.
    pub covered_nodes: &'a CoveredNodes,
}

impl PlanContext<'static> {
    /// Returns the context of an operator that has observed nothing yet.
    pub fn unobserved(now: Timestamp, uptime: Duration) -> Self {
        type Nothing = (Heartbeats, Signals, MetSince, RegressedNodes, CoveredNodes);
        static NOTHING: LazyLock<Nothing> = LazyLock::new(Nothing::default);
        let (heartbeats, signals, met_since, regressed_nodes, covered_nodes) = &*NOTHING;
        Self { now, uptime, heartbeats, signals, met_since, regressed_nodes, covered_nodes }
    }
}

/// The state of a node with respect to a rule that covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// The requirements are not met: the rule holds its taint on the node.
    Held,
    /// The requirements are met.
    Ready,
    /// The requirements were met once, and the rule is bootstrap-only.
    Bootstrapped,
    /// The requirements are no longer met, and the node is not held because `maxUnavailable` is used up.
    Deferred,
    /// The node was in service before the rule was created, and the rule's own probes have not reported yet. Or the
    /// rule had released it, and its requirements are not observed yet.
    Pending,
    /// The requirements are not met, and the rule has released the node, because it was held for longer than
    /// `holdTimeout`.
    Overdue,
}

/// The intent of a rule for a node.
pub(crate) enum Intent {
    /// Keep the taint on the node, for this cause.
    Hold(HoldCause),
    /// Leave the node released, although it regressed, because `maxUnavailable` is used up.
    Defer,
    /// Leave the node unchanged, because it was in service before the rule and the first verdict is missing.
    Wait,
    /// Remove the taint, because the requirements are met or the node is overdue.
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
    /// Whether the node was held for longer than `holdTimeout` and has not been ready since.
    pub overdue: bool,
    /// The containers of required pods to record.
    pub containers: Containers,
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
        let (state, overdue, containers, recheck_in) = (None, false, Containers::new(), None);
        return Decision { rule, intent, state, overdue, containers, recheck_in };
    }
    let pods = Pods { node, rule, claim, heartbeats, signals: context.signals };
    let mut evaluation = evaluate(node, rule, rules, pods, context.now);
    let (mut intent, mut state, pending) = by_evaluation(node, rule, claim, &evaluation, context);
    let (mut delayed, mut on_time) = (None, None);
    if let Some((delay, cause, wait)) = delay(node, rule, claim, &intent, state, context) {
        evaluation.held_by = Some(delay);
        (intent, state) = (Intent::Hold(cause), NodeState::Held);
        delayed = wait;
    }
    let mut overdue = state == NodeState::Overdue;
    if let (Intent::Hold(cause), Some(timeout)) = (&intent, rule.hold_timeout)
        // No pod starts while kubelet is silent, and when it reports again, the hold ends.
        && *cause != HoldCause::Unreachable
    {
        on_time = overdue_in(timeout, claim, context.now);
        overdue = on_time.is_none();
        if overdue && timeout.action == HoldTimeoutAction::Release {
            (intent, state) = (Intent::Release, NodeState::Overdue);
        }
    }
    let intent = if rule.is_frozen() { Intent::Freeze } else { intent };
    let containers = match intent {
        Intent::Release if state == NodeState::Ready => pods.of_released(),
        Intent::Hold(HoldCause::Rebooted) => pods.of_rebooted(),
        _ => pods.recorded(),
    };
    let silence = next_silence(rule, |type_| heartbeats.silent_for(type_));
    let recheck_in = [silence, pending, delayed, on_time].into_iter().flatten().min();
    Decision { rule, intent, state: Some((state, evaluation)), overdue, containers, recheck_in }
}

/// Decides by the evaluation alone. Returns also when to decide again although nothing changes.
fn by_evaluation(
    node: &Node,
    rule: &Rule,
    claim: Option<&Claim>,
    evaluation: &Evaluation,
    context: &PlanContext<'_>,
) -> (Intent, NodeState, Option<Duration>) {
    let is_bootstrap_only = rule.mode == EnforcementMode::BootstrapOnly;
    let completed = is_bootstrap_only && bootstrap::is_recorded(node, rule);
    let pending = || pending_for(node, rule, claim, evaluation, context.now);
    let (intent, state) = if completed && (evaluation.satisfied || !evaluation.has_outdated()) {
        (Intent::Completed, NodeState::Bootstrapped)
    } else if evaluation.satisfied && is_bootstrap_only {
        (Intent::Complete, NodeState::Bootstrapped)
    } else if evaluation.satisfied {
        (Intent::Release, NodeState::Ready)
    } else if evaluation.is_undecided(rule) {
        keep(node, rule, claim)
    } else if let Some(wait) = pending() {
        return (Intent::Wait, NodeState::Pending, Some(wait));
    } else if was_released_overdue(rule, claim) && !evaluation.has_outdated() {
        (Intent::Release, NodeState::Overdue)
    } else {
        hold(node, rule, claim, evaluation, context)
    };
    (intent, state, None)
}

/// Returns why to hold a node that meets the requirements: the reason, the cause for the record, and for how long.
fn delay(
    node: &Node,
    rule: &Rule,
    claim: Option<&Claim>,
    intent: &Intent,
    state: NodeState,
    context: &PlanContext<'_>,
) -> Option<(Delay, HoldCause, Option<Duration>)> {
    let is_met = matches!(state, NodeState::Ready | NodeState::Bootstrapped);
    if is_met && reboot::may_be_under_way(node, rule) {
        return Some((Delay::Unreachable, HoldCause::Unreachable, None));
    }
    if !is_met || matches!(intent, Intent::Completed) {
        return None;
    }
    let left = min_ready_left(node, rule, claim, context)?;
    Some((Delay::MinReady, cause_of(claim), Some(left)))
}

/// Evaluates a rule's requirements on a node.
fn evaluate(
    node: &Node,
    rule: &Rule,
    rules: &RuleSet,
    pods: Pods<'_>,
    now: Timestamp,
) -> Evaluation {
    let Pods { claim, heartbeats, signals, .. } = pods;
    let silent_for = |type_: &str| heartbeats.silent_for(type_);
    let is_outdated = |condition: &NodeCondition| {
        let is_reported = || {
            let observed = heartbeats.is_reported_since_boot(&condition.type_);
            observed.unwrap_or_else(|| reboot::is_reported_since_ready(node, condition))
        };
        reboot::is_unrecorded(node) && !is_reported()
    };
    let is_leftover = |condition: &NodeCondition| {
        is_leftover(node, condition, rule, rules, claim, heartbeats, now)
    };
    let state_of = |signal: &Signal| match signal {
        Signal::Pods { name, source, .. } => pods.state(name, source),
        Signal::Resource { name, minimum, .. } => {
            let found = node.allocatable().get(name).and_then(quantity::nanos);
            SignalState::of(found.is_some_and(|found| found >= *minimum))
        }
        Signal::CsiDriver(_) | Signal::ResourceDriver(_) => {
            let known = signals.has_driver(node.name(), signal);
            known.map_or(SignalState::Unobserved, SignalState::of)
        }
    };
    Evaluation::of(node, rule, claim, silent_for, is_outdated, is_leftover, state_of)
}

/// Leaves a node as it is until the rule's requirements are observed. A node that the rule does not know yet is held,
/// unless it was in service before the rule.
fn keep(node: &Node, rule: &Rule, claim: Option<&Claim>) -> (Intent, NodeState) {
    match claim.map(|claim| claim.state) {
        Some(ClaimState::Held) => (Intent::Freeze, NodeState::Held),
        Some(ClaimState::Released) => (Intent::Freeze, NodeState::Pending),
        None if was_in_service(node, rule, claim) => (Intent::Wait, NodeState::Pending),
        None => (Intent::Hold(HoldCause::Bootstrap), NodeState::Held),
    }
}

/// Returns how much longer a held node must meet the requirements before it is released.
fn min_ready_left(
    node: &Node,
    rule: &Rule,
    claim: Option<&Claim>,
    context: &PlanContext<'_>,
) -> Option<Duration> {
    let is_held = claim.map_or_else(|| node.carries(&rule.taint), is_held);
    let met_for = context.met_since.met_for(node.name(), &rule.uid, context.uptime);
    rule.min_ready.checked_sub(met_for).filter(|left| is_held && !left.is_zero())
}

/// Returns why a node is held that stays held.
fn cause_of(claim: Option<&Claim>) -> HoldCause {
    let Some(claim) = claim else { return HoldCause::Bootstrap };
    let before = if claim.is_regression() { HoldCause::Regressed } else { HoldCause::Bootstrap };
    claim.cause.unwrap_or(before)
}

/// Returns whether a rule released a node because it was overdue, and would do so again.
fn was_released_overdue(rule: &Rule, claim: Option<&Claim>) -> bool {
    let releases =
        rule.hold_timeout.is_some_and(|timeout| timeout.action == HoldTimeoutAction::Release);
    releases && claim.is_some_and(|claim| claim.overdue && !is_held(claim))
}

/// Returns the time until a held node is overdue; `None` if it is.
fn overdue_in(timeout: HoldTimeout, claim: Option<&Claim>, now: Timestamp) -> Option<Duration> {
    let since = claim.filter(|claim| is_held(claim)).map_or(now, |claim| claim.since.0);
    // The time may be another operator's, whose clock is ahead.
    let held_for = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let limit = Duration::from_secs(timeout.seconds.into());
    limit.checked_sub(held_for).filter(|left| !left.is_zero())
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
    if !was_in_service(node, rule, claim) || evaluation.awaits_observation(rule) != Some(true) {
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
    // Pods are usually not Ready after a reboot, so none of them is outdated.
    let is_rebooted = evaluation.has_outdated()
        || (rule.resets_pods() && reboot::is_unrecorded(node))
        || recorded == Some(HoldCause::Rebooted);
    if is_rebooted {
        return (Intent::Hold(HoldCause::Rebooted), NodeState::Held);
    }
    let released = match claim.map(|claim| claim.state) {
        Some(state) => state == ClaimState::Released,
        None => {
            bootstrap::is_recorded(node, rule)
                || (was_in_service(node, rule, claim)
                    && evaluation.awaits_observation(rule).is_some())
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
