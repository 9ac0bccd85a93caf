//! Whether a node meets a rule's conditions.

use std::time::Duration;

use node_readiness_api::{
    Claim, ConditionEvaluation, ConditionPolicy, ConditionRequirement, ConditionStatus,
};
use smallvec::SmallVec;

use crate::{Node, Rule, claims};

/// How many conditions a rule has at most for what was found to take no memory of its own: as many as
/// fit where the pointer to it would be. There is an evaluation for each node and rule.
const FEW: usize = 16;

/// How a node stands to a rule's conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether the rule's policy is satisfied.
    pub satisfied: bool,
    /// Each of the rule's conditions as it was found on the node, in the rule's order.
    pub found: SmallVec<[Found; FEW]>,
}

/// How one condition was found on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The node does not have it.
    Absent,
    /// It has this status.
    Status(ConditionStatus),
    /// Its heartbeat stopped for longer than the rule allows: it counts as Unknown.
    Stale,
}

impl Found {
    /// The status that the node has, as far as it can be told.
    fn current(self) -> ConditionStatus {
        match self {
            Self::Status(status) => status,
            Self::Absent | Self::Stale => ConditionStatus::Unknown,
        }
    }

    /// The status that counts, given what an absent condition counts as.
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
    /// Evaluates a node against a rule's conditions. `claim` is the rule's record on the node;
    /// `silent_for` is how long the operator has seen no new heartbeat of a condition.
    pub fn of(
        node: &Node,
        rule: &Rule,
        claim: Option<&Claim>,
        silent_for: impl Fn(&str) -> Option<Duration>,
    ) -> Self {
        let found: SmallVec<[Found; FEW]> = rule
            .conditions
            .iter()
            .zip(&rule.stale_after)
            .map(|(condition, stale_after)| {
                let Some(found) = node.find_condition(&condition.type_) else {
                    return Found::Absent;
                };
                let is_stale = stale_after.is_some_and(|limit| {
                    silent_for(&condition.type_).is_some_and(|silent| silent >= limit)
                        || claim.is_some_and(|claim| claims::records_as_stale(claim, found))
                });
                if is_stale { Found::Stale } else { Found::Status(found.status) }
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

    /// Whether the node lacks one of the conditions, even where a default stands in for it.
    pub fn has_missing(&self) -> bool {
        self.found.contains(&Found::Absent)
    }

    /// Whether the heartbeat of one of the conditions stopped.
    pub fn has_stale(&self) -> bool {
        self.found.contains(&Found::Stale)
    }

    /// Whether the conditions are met but for those whose heartbeat stopped.
    pub(crate) fn is_unmet_by_staleness_alone(&self, rule: &Rule) -> bool {
        let mut unmet = rule.conditions.iter().zip(&self.found).filter(|(c, f)| !f.satisfies(c));
        self.has_stale() && unmet.all(|(_, found)| *found == Found::Stale)
    }

    /// Types of the conditions whose heartbeat stopped.
    pub(crate) fn stale_types<'r>(&self, rule: &'r Rule) -> impl Iterator<Item = &'r str> {
        let found = rule.conditions.iter().zip(&self.found);
        found.filter(|(_, found)| **found == Found::Stale).map(|(c, _)| &*c.type_)
    }

    /// The same in the form of the rule's status.
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

    /// What is amiss, for people: `example.com/Ready is False, must be True`.
    pub fn unmet(&self, rule: &Rule) -> String {
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
        unmet.collect::<Vec<_>>().join("; ")
    }

    /// Types of the conditions that are amiss, in the rule's order.
    pub fn unmet_types<'r>(&self, rule: &'r Rule) -> impl Iterator<Item = &'r str> {
        let unmet = rule.conditions.iter().zip(&self.found);
        unmet.filter(|(condition, found)| !found.satisfies(condition)).map(|(c, _)| &*c.type_)
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
    }
}
