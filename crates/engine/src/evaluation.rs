//! The evaluation of a rule's conditions on a node.

use std::time::Duration;

use node_readiness_api::{
    Claim, ConditionEvaluation, ConditionPolicy, ConditionRequirement, ConditionStatus, HoldCause,
};
use smallvec::SmallVec;

use crate::{Node, NodeCondition, Rule, claims};

/// The number of conditions that are stored inline: as many as fit in the space of a pointer. There is an
/// evaluation for each node and rule.
const FEW: usize = 16;

/// The evaluation of a rule's conditions on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether the rule's policy is satisfied.
    pub satisfied: bool,
    /// Each of the rule's conditions as found on the node, in the rule's order.
    pub found: SmallVec<[Found; FEW]>,
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

impl Evaluation {
    /// Evaluates a node against a rule's conditions.
    ///
    /// `claim` is the rule's claim on the node. Of a condition, `silent_for` returns the time without a new
    /// heartbeat, `is_outdated` whether it was reported before a boot that is not recorded yet, and `is_leftover`
    /// whether it existed before the rule's own probes reported it.
    pub fn of(
        node: &Node,
        rule: &Rule,
        claim: Option<&Claim>,
        silent_for: impl Fn(&str) -> Option<Duration>,
        is_outdated: impl Fn(&NodeCondition) -> bool,
        is_leftover: impl Fn(&NodeCondition) -> bool,
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
        let mut holds =
            rule.conditions.iter().zip(&found).map(|(condition, found)| found.satisfies(condition));
        let satisfied = match rule.policy {
            ConditionPolicy::AllOf => holds.all(|holds| holds),
            ConditionPolicy::AnyOf => holds.any(|holds| holds),
        };
        Self { satisfied, found }
    }

    /// Returns whether the node lacks one of the conditions, even if a default applies.
    pub fn has_missing(&self) -> bool {
        self.found.contains(&Found::Absent)
    }

    /// Returns whether one of the conditions is stale.
    pub fn has_stale(&self) -> bool {
        self.found.contains(&Found::Stale)
    }

    /// Returns whether the conditions would be met without the stale ones.
    pub(crate) fn is_unmet_by_staleness_alone(&self, rule: &Rule) -> bool {
        self.has_stale() && self.unmet(rule).all(|(_, found)| found == Found::Stale)
    }

    /// Returns whether one of the conditions was reported before the node's last boot and not since.
    pub(crate) fn has_outdated(&self) -> bool {
        self.found.contains(&Found::Outdated)
    }

    /// Returns whether the next heartbeat of one of the conditions changes the evaluation.
    pub fn awaits_heartbeat(&self) -> bool {
        self.has_stale() || self.has_outdated() || self.found.contains(&Found::Leftover)
    }

    /// Returns the types of the conditions that do not count because of their heartbeat.
    pub(crate) fn expired_types<'r>(&self, rule: &'r Rule) -> impl Iterator<Item = &'r str> {
        let found = rule.conditions.iter().zip(&self.found);
        let expired =
            found.filter(|(_, f)| matches!(f, Found::Stale | Found::Outdated | Found::Leftover));
        expired.map(|(condition, _)| &*condition.type_)
    }

    /// Returns `Some` if only conditions of the rule's own probes are not met: whether their first verdict is
    /// still missing and could change that.
    pub(crate) fn awaits_own_probes(&self, rule: &Rule) -> Option<bool> {
        let is_decided = |found: Found| matches!(found, Found::Status(_) | Found::Stale);
        let mut unmet = self.unmet(rule);
        match rule.policy {
            ConditionPolicy::AllOf => {
                let unmet: SmallVec<[_; FEW]> = unmet.collect();
                let own = unmet.iter().all(|(condition, _)| rule.probes(&condition.type_));
                own.then(|| !unmet.iter().any(|(_, found)| is_decided(*found)))
            }
            ConditionPolicy::AnyOf => {
                let own = !rule.probed.is_empty();
                own.then(|| unmet.any(|(c, found)| rule.probes(&c.type_) && !is_decided(found)))
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

    /// Describes the conditions that are not met: `example.com/Ready is False, must be True`.
    pub fn describe_unmet(&self, rule: &Rule) -> String {
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
        let unmet = unmet.collect::<Vec<_>>().join("; ");
        if unmet.is_empty() { "kubelet does not report".to_owned() } else { unmet }
    }

    /// Returns the types of the conditions that are not met, in the rule's order.
    pub fn unmet_types<'r>(&self, rule: &'r Rule) -> impl Iterator<Item = &'r str> {
        self.unmet(rule).map(|(condition, _)| &*condition.type_)
    }

    /// Returns the conditions that are not met, as found.
    fn unmet<'r>(&self, rule: &'r Rule) -> impl Iterator<Item = (&'r ConditionRequirement, Found)> {
        let found = rule.conditions.iter().zip(self.found.iter().copied());
        found.filter(|(condition, found)| !found.satisfies(condition))
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
