//! Whether a node meets a rule's conditions.

use node_readiness_api::{ConditionEvaluation, ConditionPolicy, ConditionStatus};

use crate::{Node, Rule};

/// How a node stands to a rule's conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether the rule's policy is satisfied.
    pub satisfied: bool,
    /// Status of each of the rule's conditions on the node, in the rule's order; `None` where the
    /// node does not have the condition.
    pub found: Vec<Option<ConditionStatus>>,
}

impl Evaluation {
    /// Evaluates a node against a rule's conditions.
    pub fn of(node: &Node, rule: &Rule) -> Self {
        let found: Vec<_> = rule.conditions.iter().map(|c| node.condition(&c.type_)).collect();
        let mut holds = rule.conditions.iter().zip(&found).map(|(condition, found)| {
            found.or(condition.default_status).unwrap_or(ConditionStatus::Unknown)
                == condition.required_status
        });
        let satisfied = match rule.policy {
            ConditionPolicy::AllOf => holds.all(|holds| holds),
            ConditionPolicy::AnyOf => holds.any(|holds| holds),
        };
        Self { satisfied, found }
    }

    /// Whether the node lacks one of the conditions, even where a default stands in for it.
    pub fn has_missing(&self) -> bool {
        self.found.contains(&None)
    }

    /// The same in the form of the rule's status.
    pub fn results(&self, rule: &Rule) -> Vec<ConditionEvaluation> {
        rule.conditions
            .iter()
            .zip(&self.found)
            .map(|(condition, found)| ConditionEvaluation {
                type_: condition.type_.clone(),
                current_status: found.unwrap_or(ConditionStatus::Unknown),
                required_status: condition.required_status,
                default_status: condition.default_status,
            })
            .collect()
    }

    /// What is amiss, for people: `example.com/Ready is False, must be True`.
    pub fn unmet(&self, rule: &Rule) -> String {
        let unmet = rule.conditions.iter().zip(&self.found).filter_map(|(condition, found)| {
            let required = condition.required_status;
            let type_ = &condition.type_;
            match found.or(condition.default_status) {
                Some(status) if status == required => None,
                Some(status) => Some(format!("{type_} is {status}, must be {required}")),
                None => Some(format!("{type_} is not reported, must be {required}")),
            }
        });
        unmet.collect::<Vec<_>>().join("; ")
    }
}
