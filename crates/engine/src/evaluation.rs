//! The evaluation of a rule's requirements on a node.

use std::time::Duration;

use node_readiness_api::{
    Claim, ConditionEvaluation, ConditionPolicy, ConditionRequirement, ConditionStatus, HoldCause,
    RequirementEvaluation,
};
use smallvec::SmallVec;

use crate::signals::Signal;
use crate::{Node, NodeCondition, Rule, claims};

/// The number of requirements that are stored inline: as many as fit in the space of a pointer. There is an
/// evaluation for each node and rule.
const FEW: usize = 16;

/// The maximum number of requirements that a message names.
const MAX_NAMED: usize = 8;

/// The evaluation of a rule's requirements on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether the rule's policy is satisfied.
    pub satisfied: bool,
    /// Each of the rule's conditions as found on the node, in the rule's order.
    pub found: SmallVec<[Found; FEW]>,
    /// Each of the rule's other requirements as found, in the rule's order.
    pub signals: SmallVec<[SignalState; FEW]>,
    /// Why the node is held although the policy is satisfied.
    pub held_by: Option<Delay>,
}

impl SignalState {
    /// Returns the state of an observed requirement.
    pub(crate) fn of(met: bool) -> Self {
        if met { Self::Met } else { Self::Unmet }
    }
}

/// Why a node is held although it meets the requirements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Kubelet does not report.
    Unreachable,
    /// The requirements have been met for less than `minReadySeconds`.
    MinReady,
}

/// The result for one condition on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The node does not have the condition.
    Absent,
    /// The condition has this status.
    Status(ConditionStatus),
    /// The condition is stale: its heartbeat stopped for longer than the rule allows. It counts as Unknown.
    Stale,
    /// The condition was reported before the node's last boot and not since. It counts as Unknown.
    Outdated,
    /// The rule's own probes decide the condition, and it existed before they reported it. It counts as Unknown.
    Leftover,
}

/// The result for another requirement on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalState {
    /// The node meets it.
    Met,
    /// The node does not meet it.
    Unmet,
    /// The node met it before its last boot, and not observably since.
    Outdated,
    /// It is not observed yet.
    Unobserved,
}

impl Found {
    /// Returns the known status on the node.
    fn current(self) -> ConditionStatus {
        match self {
            Self::Status(status) => status,
            Self::Absent | Self::Stale | Self::Outdated | Self::Leftover => {
                ConditionStatus::Unknown
            }
        }
    }

    /// Returns the status that counts, given the default for a missing condition.
    fn counts_as(self, default: Option<ConditionStatus>) -> ConditionStatus {
        match (self, default) {
            (Self::Absent, Some(default)) => default,
            (found, _) => found.current(),
        }
    }

    fn satisfies(self, condition: &ConditionRequirement) -> bool {
        self.counts_as(condition.default_status) == condition.required_status
    }
}

/// A requirement that is not met, as found.
#[derive(Clone, Copy, Debug)]
enum Unmet<'r> {
    Condition(&'r ConditionRequirement, Found),
    Signal(&'r Signal, SignalState),
}

impl Unmet<'_> {
    /// Returns whether the rule observes it itself: by its probes, or by the operator's watches.
    fn is_own(self, rule: &Rule) -> bool {
        match self {
            Self::Condition(condition, _) => rule.probes(&condition.type_),
            Self::Signal(..) => true,
        }
    }

    /// Returns whether it was observed.
    fn is_observed(self) -> bool {
        match self {
            Self::Condition(_, found) => matches!(found, Found::Status(_) | Found::Stale),
            Self::Signal(_, state) => state != SignalState::Unobserved,
        }
    }
}

impl Evaluation {
    /// Evaluates a node against a rule's requirements.
    ///
    /// `claim` is the rule's claim on the node. Of a condition, `silent_for` returns the time without a new
    /// heartbeat, `is_outdated` whether it was reported before a boot that is not recorded yet, and `is_leftover`
    /// whether it existed before the rule's own probes reported it. `find` looks for another requirement.
    pub fn of(
        node: &Node,
        rule: &Rule,
        claim: Option<&Claim>,
        silent_for: impl Fn(&str) -> Option<Duration>,
        is_outdated: impl Fn(&NodeCondition) -> bool,
        is_leftover: impl Fn(&NodeCondition) -> bool,
        find: impl Fn(&Signal) -> SignalState,
    ) -> Self {
        let rebooted = claim.is_some_and(|claim| claim.cause == Some(HoldCause::Rebooted));
        let found: SmallVec<[Found; FEW]> = rule
            .conditions
            .iter()
            .zip(&rule.stale_after)
            .zip(&rule.reset_by_reboot)
            .map(|((condition, stale_after), reset_by_reboot)| {
                let Some(found) = node.find_condition(&condition.type_) else {
                    return Found::Absent;
                };
                let is_recorded =
                    || claim.is_some_and(|claim| claims::records_as_expired(claim, found));
                let is_stale = |limit| {
                    let silent_for = silent_for(&condition.type_);
                    silent_for.is_some_and(|silent| silent >= limit) || is_recorded()
                };
                if *reset_by_reboot && (is_outdated(found) || (rebooted && is_recorded())) {
                    Found::Outdated
                } else if is_leftover(found) {
                    Found::Leftover
                } else if stale_after.is_some_and(is_stale) {
                    Found::Stale
                } else {
                    Found::Status(found.status)
                }
            })
            .collect();
        let signals: SmallVec<[SignalState; FEW]> = rule.signals.iter().map(find).collect();
        let conditions = rule.conditions.iter().zip(&found);
        let mut met = conditions
            .map(|(condition, found)| found.satisfies(condition))
            .chain(signals.iter().map(|state| *state == SignalState::Met));
        let satisfied = match rule.policy {
            ConditionPolicy::AllOf => met.all(|met| met),
            ConditionPolicy::AnyOf => met.any(|met| met),
        };
        Self { satisfied, found, signals, held_by: None }
    }

    /// Returns whether the node lacks one of the conditions, even if a default applies, or another requirement.
    pub fn has_missing(&self) -> bool {
        self.found.contains(&Found::Absent) || self.signals.contains(&SignalState::Unmet)
    }

    /// Returns whether the rule could be satisfied by what is not observed yet.
    pub(crate) fn is_undecided(&self, rule: &Rule) -> bool {
        let is_unobserved =
            |unmet: Unmet<'_>| matches!(unmet, Unmet::Signal(_, SignalState::Unobserved));
        match rule.policy {
            _ if self.satisfied => false,
            ConditionPolicy::AllOf => self.unmet(rule).all(is_unobserved),
            ConditionPolicy::AnyOf => self.unmet(rule).any(is_unobserved),
        }
    }

    /// Returns whether one of the conditions is stale.
    pub fn has_stale(&self) -> bool {
        self.found.contains(&Found::Stale)
    }

    /// Returns whether the conditions would be met without the stale ones.
    pub(crate) fn is_unmet_by_staleness_alone(&self, rule: &Rule) -> bool {
        let is_stale = |unmet: Unmet<'_>| matches!(unmet, Unmet::Condition(_, Found::Stale));
        self.has_stale() && self.unmet(rule).all(is_stale)
    }

    /// Returns whether one of the requirements was observed before the node's last boot and not since.
    pub(crate) fn has_outdated(&self) -> bool {
        self.found.contains(&Found::Outdated) || self.signals.contains(&SignalState::Outdated)
    }

    /// Returns whether the next heartbeat of one of the conditions changes the evaluation.
    pub fn awaits_heartbeat(&self) -> bool {
        let awaits = |found| matches!(found, Found::Stale | Found::Outdated | Found::Leftover);
        self.found.iter().copied().any(awaits)
    }

    /// Returns the types of the conditions that do not count because of their heartbeat.
    pub(crate) fn expired_types<'r>(&self, rule: &'r Rule) -> impl Iterator<Item = &'r str> {
        let found = rule.conditions.iter().zip(&self.found);
        let expired =
            found.filter(|(_, f)| matches!(f, Found::Stale | Found::Outdated | Found::Leftover));
        expired.map(|(condition, _)| &*condition.type_)
    }

    /// Returns `Some` if only requirements are not met that the rule observes itself: whether a first observation is
    /// still missing and could change that.
    pub(crate) fn awaits_observation(&self, rule: &Rule) -> Option<bool> {
        let mut unmet = self.unmet(rule);
        match rule.policy {
            ConditionPolicy::AllOf => {
                let unmet: SmallVec<[_; FEW]> = unmet.collect();
                let own = unmet.iter().all(|unmet| unmet.is_own(rule));
                own.then(|| !unmet.iter().any(|unmet| unmet.is_observed()))
            }
            ConditionPolicy::AnyOf => {
                let own = !rule.probed.is_empty() || !rule.signals.is_empty();
                own.then(|| unmet.any(|unmet| unmet.is_own(rule) && !unmet.is_observed()))
            }
        }
    }

    /// Returns the evaluation in the form of the rule's status.
    pub fn results(&self, rule: &Rule) -> Vec<ConditionEvaluation> {
        rule.conditions
            .iter()
            .zip(&self.found)
            .map(|(condition, found)| ConditionEvaluation {
                type_: condition.type_.clone(),
                current_status: found.current(),
                required_status: condition.required_status,
                default_status: condition.default_status,
            })
            .collect()
    }

    /// Returns the requirements besides conditions in the form of the rule's status. If there are many, only those
    /// that are not met, because a status has a list of them for each of a hundred nodes.
    pub fn requirement_results(&self, rule: &Rule) -> Vec<RequirementEvaluation> {
        let all = rule.signals.len() <= FEW;
        let signals = rule.signals.iter().zip(&self.signals);
        let signals = signals.filter(|(_, state)| all || **state != SignalState::Met).take(FEW);
        let results = signals.map(|(signal, state)| RequirementEvaluation {
            requirement: signal.to_string(),
            met: *state == SignalState::Met,
            message: describe_signal(signal, *state).unwrap_or_default(),
        });
        results.collect()
    }

    /// Describes the requirements that are not met: `example.com/Ready is False, must be True`. If all are, describes
    /// why the node is held nevertheless.
    pub fn describe_unmet(&self, rule: &Rule) -> String {
        match self.held_by {
            Some(Delay::Unreachable) => return "kubelet does not report".to_owned(),
            Some(Delay::MinReady) => {
                let seconds = rule.min_ready.as_secs();
                return format!("has met the requirements for less than {seconds} s");
            }
            None => {}
        }
        let unmet = rule.conditions.iter().zip(&self.found).zip(&rule.stale_after).filter_map(
            |((condition, found), stale_after)| {
                if found.satisfies(condition) {
                    return None;
                }
                let how = describe(*found, condition.default_status, *stale_after);
                let required = condition.required_status;
                Some(format!("{} {how}, must be {required}", condition.type_))
            },
        );
        let signals = rule.signals.iter().zip(&self.signals);
        let signals = signals.filter_map(|(signal, state)| describe_signal(signal, *state));
        let mut unmet = unmet.chain(signals);
        let named = unmet.by_ref().take(MAX_NAMED).collect::<Vec<_>>().join("; ");
        match unmet.count() {
            0 => named,
            more => format!("{named}; and {more} more"),
        }
    }

    /// Returns the names of the requirements that are not met, in the rule's order: types of conditions, and others as
    /// `pods/calico`.
    pub fn unmet_names(&self, rule: &Rule) -> impl Iterator<Item = String> {
        self.unmet(rule).map(|unmet| match unmet {
            Unmet::Condition(condition, _) => condition.type_.clone(),
            Unmet::Signal(signal, _) => signal.to_string(),
        })
    }

    /// Returns the requirements that are not met.
    fn unmet<'r>(&self, rule: &'r Rule) -> impl Iterator<Item = Unmet<'r>> {
        let conditions = rule.conditions.iter().zip(self.found.iter().copied());
        let conditions = conditions
            .filter(|(condition, found)| !found.satisfies(condition))
            .map(|(condition, found)| Unmet::Condition(condition, found));
        let signals = rule.signals.iter().zip(self.signals.iter().copied());
        let signals = signals
            .filter(|(_, state)| *state != SignalState::Met)
            .map(|(signal, state)| Unmet::Signal(signal, state));
        conditions.chain(signals)
    }
}

/// Describes why a requirement is not met.
fn describe_signal(signal: &Signal, state: SignalState) -> Option<String> {
    match state {
        SignalState::Met => None,
        SignalState::Unmet => Some(signal.unmet()),
        SignalState::Outdated => Some(signal.outdated()),
        SignalState::Unobserved => Some(signal.unobserved()),
    }
}

fn describe(
    found: Found,
    default: Option<ConditionStatus>,
    stale_after: Option<Duration>,
) -> String {
    match (found, default) {
        (Found::Absent, None) => "is not reported".to_owned(),
        (Found::Absent, Some(default)) => format!("is {default} by default"),
        (Found::Status(status), _) => format!("is {status}"),
        (Found::Stale, _) => {
            let limit = stale_after.unwrap_or_default().as_secs();
            format!("had no heartbeat for {limit} s and counts as Unknown")
        }
        (Found::Outdated, _) => {
            "has not been reported since the node rebooted and counts as Unknown".to_owned()
        }
        (Found::Leftover, _) => {
            "existed before the rule's own probes reported it and counts as Unknown".to_owned()
        }
    }
}
