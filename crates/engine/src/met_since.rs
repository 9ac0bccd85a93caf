//! Since when nodes meet the requirements of rules with `minReadySeconds`, by observed time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::{RuleResult, RuleSet};

/// Since when nodes meet the requirements of rules with `minReadySeconds`. Times are the operator's uptime, so a
/// restart of the operator begins anew.
#[derive(Debug, Default)]
pub struct MetSince {
    /// By name of the node, and by uid of the rule.
    nodes: HashMap<String, Vec<(Arc<str>, Duration)>>,
}

impl MetSince {
    /// Records the results of a plan.
    pub fn observe(&mut self, node: &str, results: &[RuleResult], rules: &RuleSet, now: Duration) {
        // Most clusters have no such rule.
        if self.nodes.is_empty() && rules.iter().all(|rule| rule.min_ready.is_zero()) {
            return;
        }
        let known = self.nodes.remove(node).unwrap_or_default();
        let met = results.iter().filter(|result| {
            let counts = |uid| rules.by_uid(uid).is_some_and(|rule| !rule.min_ready.is_zero());
            result.evaluation.satisfied && counts(&result.rule_uid)
        });
        let since = met.map(|result| {
            let known = known.iter().find(|(uid, _)| *uid == result.rule_uid);
            (Arc::clone(&result.rule_uid), known.map_or(now, |(_, since)| *since))
        });
        let since: Vec<_> = since.collect();
        if !since.is_empty() {
            self.nodes.insert(node.to_owned(), since);
        }
    }

    /// Returns for how long a node has met the requirements of a rule.
    pub(crate) fn met_for(&self, node: &str, rule_uid: &str, now: Duration) -> Duration {
        let rules = self.nodes.get(node);
        let since = rules.and_then(|rules| rules.iter().find(|(uid, _)| **uid == *rule_uid));
        since.map_or(Duration::ZERO, |(_, since)| now.saturating_sub(*since))
    }

    /// Removes a deleted node.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Removes every node that does not exist.
    pub fn retain(&mut self, exists: &HashSet<&str>) {
        self.nodes.retain(|node, _| exists.contains(node.as_str()));
    }
}
