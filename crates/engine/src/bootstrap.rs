//! The node annotation of a completed bootstrap-only rule.

use node_readiness_api::{BOOTSTRAP_COMPLETED_PREFIX, EnforcementMode};
use serde_json::json;

use crate::{Node, Rule, RuleSet};

/// Returns the key of the annotation for a rule.
pub(crate) fn key(rule: &Rule) -> String {
    format!("{BOOTSTRAP_COMPLETED_PREFIX}{}", rule.uid)
}

/// Returns the value of the annotation for a rule.
pub(crate) fn value(rule: &Rule) -> String {
    json!({"rule-name": rule.name}).to_string()
}

/// Returns whether a rule was completed on a node. An older controller wrote the rule's name in place of its
/// uid, which still counts.
pub(crate) fn is_recorded(node: &Node, rule: &Rule) -> bool {
    suffixes(node).any(|suffix| *suffix == *rule.uid || suffix == rule.name)
}

/// Returns the uids, or names, of the rules that were completed on a node.
pub(crate) fn suffixes(node: &Node) -> impl Iterator<Item = &str> {
    node.annotations().filter_map(|(key, _)| key.strip_prefix(BOOTSTRAP_COMPLETED_PREFIX))
}

/// Returns the keys of the annotations that no rule needs any more, or whose rule starts again. The annotation
/// of an unreadable rule stays.
pub(crate) fn obsolete<'n>(
    node: &'n Node,
    rules: &RuleSet,
    begins_anew: impl Fn(&Rule) -> bool,
) -> Vec<&'n str> {
    let needed = |suffix: &str| {
        let unreadable = rules.unreadable().iter();
        let mut unreadable = unreadable.flat_map(|rule| [&rule.uid, &rule.name]);
        unreadable.any(|known| known == suffix)
            || rules.iter().any(|rule| {
                (*suffix == *rule.uid || suffix == rule.name)
                    && !rule.deleting
                    && !begins_anew(rule)
                    && (rule.is_frozen() || rule.mode == EnforcementMode::BootstrapOnly)
            })
    };
    node.annotations()
        .map(|(key, _)| key)
        .filter(|key| {
            key.strip_prefix(BOOTSTRAP_COMPLETED_PREFIX).is_some_and(|suffix| !needed(suffix))
        })
        .collect()
}
