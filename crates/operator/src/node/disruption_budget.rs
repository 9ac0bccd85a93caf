//! How many regressed nodes rules may hold: `maxUnavailable`.
//!
//! A plan reserves the room that it needs, so that two nodes that are planned at the same time cannot take
//! the same room. The reservation ends when the outcome of the plan is known.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use node_readiness_engine::{CoveredNodes, Node, NodePlan, NodeState, RegressedNodes, RuleSet};

/// The regressed nodes that rules hold, and those that wait for room.
#[derive(Default)]
pub(super) struct DisruptionBudget {
    held: RegressedNodes,
    covered: CoveredNodes,
    /// The rules that `covered` was counted for; `None` after nodes were listed again.
    counted: Option<Arc<RuleSet>>,
    /// By node: names of the rules whose room a plan reserved and whose outcome is not known yet.
    reserved: HashMap<String, Vec<String>>,
    /// By uid of the rule: nodes that wait for room.
    deferred: HashMap<Arc<str>, BTreeSet<String>>,
    /// Whether all nodes have been listed once.
    listed: bool,
}

impl DisruptionBudget {
    /// The regressed nodes that rules hold.
    pub(super) fn held(&self) -> &RegressedNodes {
        &self.held
    }

    /// The nodes that rules cover, as of the last [`Self::count_covered`].
    pub(super) fn covered(&self) -> &CoveredNodes {
        &self.covered
    }

    /// Counts the covered nodes again if the rules or the list of nodes changed.
    pub(super) fn count_covered(
        &mut self,
        rules: &Arc<RuleSet>,
        nodes: impl FnOnce() -> Vec<Arc<Node>>,
    ) {
        if !self.counted.as_ref().is_some_and(|counted| Arc::ptr_eq(counted, rules)) {
            self.covered = CoveredNodes::count(rules, nodes().iter().map(AsRef::as_ref));
            self.counted = Some(Arc::clone(rules));
        }
    }

    /// Updates the counts for a node that was added or changed. A leader does not read its own writes
    /// back: its count is ahead of its cache.
    pub(super) fn node_changed(&mut self, node: &Node, leads: bool) {
        if let Some(rules) = &self.counted {
            self.covered.follow(rules, node);
        }
        if !leads {
            self.held.follow(node);
        }
    }

    /// Removes a deleted node. Returns the nodes that may take its room.
    pub(super) fn node_deleted(&mut self, node: &str) -> BTreeSet<String> {
        self.reserved.remove(node);
        self.covered.forget(node);
        self.held.forget(node);
        for nodes in self.deferred.values_mut() {
            nodes.remove(node);
        }
        match self.counted.clone() {
            Some(rules) => self.take_admissible(&rules),
            None => self.take_deferred(),
        }
    }

    /// Replaces the counts after all nodes were listed. Returns the nodes that were deferred before, because
    /// it is not known yet how many of them there is room for.
    pub(super) fn nodes_listed(
        &mut self,
        nodes: &[Arc<Node>],
        names: &HashSet<&str>,
        leads: bool,
    ) -> BTreeSet<String> {
        self.reserved.retain(|node, _| names.contains(node.as_str()));
        self.held.retain(names);
        for deferred in self.deferred.values_mut() {
            deferred.retain(|node| names.contains(node.as_str()));
        }
        self.counted = None;
        // A list shows the state at the moment when it began, so a leader keeps its own count.
        if !self.listed || !leads {
            self.listed = true;
            self.recount(nodes);
        }
        self.take_deferred()
    }

    /// Reserves the room that a plan needs. An earlier reservation of the node stays, because the rules may
    /// have changed.
    pub(super) fn reserve(&mut self, node: &str, plan: &NodePlan) {
        let mut reserved = plan.regressed.clone();
        reserved.retain(|rule| self.held.hold(rule, node));
        if !reserved.is_empty() {
            self.reserved.entry(node.to_owned()).or_default().extend(reserved);
        }
    }

    /// Ends the reservation of a node whose plan was not applied.
    pub(super) fn cancel(&mut self, node: &str) {
        for rule in self.reserved.remove(node).unwrap_or_default() {
            self.held.release(&rule, node);
        }
    }

    /// Records a plan, which was applied unless `failed`. Returns the deferred nodes for which there is room
    /// now.
    pub(super) fn record(
        &mut self,
        node: &str,
        rules: &RuleSet,
        plan: &NodePlan,
        failed: bool,
    ) -> BTreeSet<String> {
        if !failed {
            self.held.set(node, &plan.regressed);
        }
        // Also of rules that do not cover the node any more.
        for deferred in self.deferred.values_mut() {
            deferred.remove(node);
        }
        for result in plan.results.iter().filter(|result| result.state == NodeState::Deferred) {
            let deferred = self.deferred.entry(Arc::clone(&result.rule_uid)).or_default();
            deferred.insert(node.to_owned());
        }
        self.take_admissible(rules)
    }

    /// Removes from the deferred nodes as many as there is room for, and returns them.
    fn take_admissible(&mut self, rules: &RuleSet) -> BTreeSet<String> {
        let Self { held, covered, deferred, .. } = self;
        let mut admissible = BTreeSet::new();
        deferred.retain(|uid, nodes| !nodes.is_empty() && rules.by_uid(uid).is_some());
        for (uid, nodes) in deferred {
            let Some(rule) = rules.by_uid(uid) else { continue };
            for _ in 0..held.room(rule, covered.of(rule)) {
                let Some(node) = nodes.pop_first() else { break };
                admissible.insert(node);
            }
        }
        admissible
    }

    /// Removes all deferred nodes and returns them.
    fn take_deferred(&mut self) -> BTreeSet<String> {
        self.deferred.drain().flat_map(|(_, nodes)| nodes).collect()
    }

    /// Counts the held nodes again from the nodes' records, and adds the reservations.
    fn recount(&mut self, nodes: &[Arc<Node>]) {
        self.held = RegressedNodes::recount(nodes.iter().map(AsRef::as_ref));
        for (node, rules) in &self.reserved {
            for rule in rules {
                self.held.hold(rule, node);
            }
        }
    }
}
