//! The nodes that each rule holds because they regressed, against its `maxUnavailable`.
//!
//! The count comes from the records on the nodes, so a restart of the operator changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{Node, Rule, RuleSet, claims};

/// The covered nodes of each rule whose limit is a percentage, by uid.
#[derive(Debug, Default)]
pub struct CoveredNodes(HashMap<Arc<str>, HashSet<String>>);

impl CoveredNodes {
    /// Counts the nodes of the rules whose limit is a percentage.
    pub fn count<'n>(rules: &RuleSet, nodes: impl IntoIterator<Item = &'n Node>) -> Self {
        let relative = rules.iter().filter(|rule| is_relative(rule));
        let mut covered_nodes =
            Self(relative.map(|rule| (Arc::clone(&rule.uid), HashSet::new())).collect());
        if !covered_nodes.0.is_empty() {
            for node in nodes {
                covered_nodes.follow(rules, node);
            }
        }
        covered_nodes
    }

    /// Counts one node again under the same rules.
    pub fn follow(&mut self, rules: &RuleSet, node: &Node) {
        for (uid, covered) in &mut self.0 {
            if rules.by_uid(uid).is_some_and(|rule| rule.covers(node)) {
                if !covered.contains(node.name()) {
                    covered.insert(node.name().to_owned());
                }
            } else {
                covered.remove(node.name());
            }
        }
    }

    /// Removes a deleted node.
    pub fn forget(&mut self, node: &str) {
        for covered in self.0.values_mut() {
            covered.remove(node);
        }
    }

    /// Returns how many nodes a rule covers, if its limit is a percentage.
    pub fn of(&self, rule: &Rule) -> usize {
        self.0.get(&rule.uid).map_or(0, HashSet::len)
    }
}

/// The nodes that are held because they regressed, by the name of the rule.
#[derive(Debug, Default)]
pub struct RegressedNodes {
    rules: HashMap<String, HashSet<String>>,
}

impl RegressedNodes {
    /// Counts again from the records of every node.
    pub fn recount<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> Self {
        let mut regressed_nodes = Self::default();
        for node in nodes {
            regressed_nodes.follow(node);
        }
        regressed_nodes
    }

    /// Counts one node again from its record. A standby follows the leader's writes in this way. A node that is
    /// being deleted does not count.
    pub fn follow(&mut self, node: &Node) {
        if node.is_terminating() {
            return self.forget(node.name());
        }
        let held =
            claims::recorded(node).claims.into_iter().filter(|(_, claim)| claim.is_regression());
        self.set(node.name(), &held.map(|(rule, _)| rule).collect::<Vec<_>>());
    }

    /// Returns whether a rule that covers this many nodes may hold this node.
    pub fn admits(&self, rule: &Rule, node: &str, covered: usize) -> bool {
        let held = self.rules.get(&rule.name);
        held.is_some_and(|held| held.contains(node))
            || held.map_or(0, HashSet::len) < limit(rule, covered)
    }

    /// Returns how many more nodes a rule that covers this many may hold.
    pub fn room(&self, rule: &Rule, covered: usize) -> usize {
        let held = self.rules.get(&rule.name).map_or(0, HashSet::len);
        limit(rule, covered).saturating_sub(held)
    }

    /// Records that a rule holds a regressed node. Returns whether that is new.
    pub fn hold(&mut self, rule: &str, node: &str) -> bool {
        self.rules.entry(rule.to_owned()).or_default().insert(node.to_owned())
    }

    /// Records that a rule no longer holds a node.
    pub fn release(&mut self, rule: &str, node: &str) {
        if let Some(held) = self.rules.get_mut(rule) {
            held.remove(node);
        }
    }

    /// Records that exactly these rules hold a node.
    pub fn set(&mut self, node: &str, rules: &[String]) {
        self.forget(node);
        for rule in rules {
            self.hold(rule, node);
        }
    }

    /// Removes every node that does not exist.
    pub fn retain(&mut self, exists: &HashSet<&str>) {
        self.rules.retain(|_, held| {
            held.retain(|node| exists.contains(node.as_str()));
            !held.is_empty()
        });
    }

    /// Removes a deleted node.
    pub fn forget(&mut self, node: &str) {
        self.rules.retain(|_, held| {
            held.remove(node);
            !held.is_empty()
        });
    }
}

/// Returns whether a rule's limit is a percentage of the covered nodes.
fn is_relative(rule: &Rule) -> bool {
    matches!(rule.max_unavailable, Some(IntOrString::String(_)))
}

/// Returns a rule's limit in nodes. A percentage is rounded up, as for a DaemonSet, so a
/// small cluster has a limit of at least one.
fn limit(rule: &Rule, covered: usize) -> usize {
    match &rule.max_unavailable {
        None => usize::MAX,
        Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
        Some(IntOrString::String(percent)) => {
            let percent = percent.trim_end_matches('%').parse::<usize>().unwrap_or(0);
            (covered * percent).div_ceil(100)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(record: &serde_json::Value) -> Node {
        let annotations = json!({"readiness.k8s.io/rules": record.to_string()});
        let node = json!({"metadata": {"name": "n", "annotations": annotations}});
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn a_standby_follows_the_records_of_the_leader() {
        let claim = |state: &str| {
            json!({"r": {
                "taint": {"key": "readiness.k8s.io/a", "effect": "NoSchedule"},
                "state": state, "since": "2026-01-01T00:00:00Z", "regressed": true,
            }})
        };
        let mut regressed_nodes = RegressedNodes::default();
        regressed_nodes.follow(&node(&claim("held")));
        assert_eq!(regressed_nodes.rules["r"].len(), 1);
        regressed_nodes.follow(&node(&claim("released")));
        assert!(regressed_nodes.rules.is_empty());
    }
}
