//! What one rule wants of one node.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use node_readiness_api::{Claim, ClaimState, EnforcementMode, HoldCause};

use crate::heartbeats::Heartbeats;
use crate::regressions::{Coverage, Regressions};
use crate::{Evaluation, Node, Rule, completion};

/// What a plan depends on beside the node and the rules.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The time to record changes under.
    pub now: Timestamp,
    /// For how long the operator has been running, by a clock that does not jump.
    pub uptime: Duration,
    /// Which conditions still beat.
    pub heartbeats: &'a Heartbeats,
    /// How many nodes rules hold because they regressed.
    pub regressions: &'a Regressions,
    /// How many nodes rules cover.
    pub coverage: &'a Coverage,
}

/// How a node stands to a rule that covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The conditions are not met: the rule holds its taint on the node.
    Held,
    /// The conditions are met.
    Ready,
    /// The conditions were met once, and the rule is bootstrap-only.
    Bootstrapped,
    /// The conditions are no longer met, and the node is not held because the rule holds as many
    /// regressed nodes as it may.
    Deferred,
}

/// What a rule wants of a node.
pub(crate) enum Intent {
    /// Keep the taint on it, for this cause.
    Hold(HoldCause),
    /// The node regressed, and the rule holds as many of those as it may: leave it released.
    Defer,
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
    pub standing: Option<(Standing, Evaluation)>,
    /// When to look again although nothing changes.
    pub recheck_in: Option<Duration>,
}

/// What a rule wants of a node, and how the node stands to it if it covers it.
pub(crate) fn decide<'r>(
    node: &Node,
    rule: &'r Rule,
    claim: Option<&Claim>,
    situation: &Situation<'_>,
) -> Decision<'r> {
    if !rule.covers(node) {
        let intent = if rule.is_frozen() { Intent::Freeze } else { Intent::Withdraw };
        return Decision { rule, intent, standing: None, recheck_in: None };
    }
    let Situation { uptime, heartbeats, .. } = *situation;
    let silent_for = |type_: &str| heartbeats.silent_for(node, type_, uptime);
    let evaluation = Evaluation::of(node, rule, claim, silent_for);
    let recheck_in = next_silence(rule, silent_for);
    let bootstrap = rule.mode == EnforcementMode::BootstrapOnly;
    let (intent, standing) = if bootstrap && completion::is_recorded(node, rule) {
        (Intent::Completed, Standing::Bootstrapped)
    } else if !evaluation.satisfied {
        hold(node, rule, claim, &evaluation, situation)
    } else if bootstrap {
        (Intent::Complete, Standing::Bootstrapped)
    } else {
        (Intent::Release, Standing::Ready)
    };
    let intent = if rule.is_frozen() { Intent::Freeze } else { intent };
    Decision { rule, intent, standing: Some((standing, evaluation)), recheck_in }
}

/// Whether to hold a node whose conditions are not met. New nodes always are, and those that are held
/// stay so; those that the rule had released only while it may hold more of them.
fn hold(
    node: &Node,
    rule: &Rule,
    claim: Option<&Claim>,
    evaluation: &Evaluation,
    situation: &Situation<'_>,
) -> (Intent, Standing) {
    // A node that a bootstrap-only rule was done with is one that it released, whatever the rule has
    // become since.
    let released = match claim.map(|claim| claim.state) {
        Some(state) => state == ClaimState::Released,
        None => completion::is_recorded(node, rule),
    };
    if released {
        let covered = situation.coverage.of(rule);
        if !situation.regressions.admits(rule, node.name(), covered) {
            return (Intent::Defer, Standing::Deferred);
        }
    }
    let cause = if !released && !claim.is_some_and(Claim::is_regression) {
        HoldCause::Bootstrap
    } else if evaluation.is_unmet_by_staleness_alone(rule) {
        HoldCause::Stale
    } else {
        HoldCause::Regressed
    };
    (Intent::Hold(cause), Standing::Held)
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
