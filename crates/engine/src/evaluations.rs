//! The evaluations of nodes, as they were applied. A rule's status is made from them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::{Evaluation, NodePlan, NodeState, TaintState};

/// The evaluation of one node under one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// `metadata.generation` of the evaluated rule.
    pub generation: Option<i64>,
    /// The state of the node.
    pub state: NodeState,
    /// The evaluation of the conditions.
    pub evaluation: Evaluation,
    /// Whether the node was held for longer than `holdTimeout` and has not been ready since.
    pub overdue: bool,
    /// The state of the taint as it was applied.
    pub taint_state: TaintState,
    /// When the evaluation last changed.
    pub since: Timestamp,
    /// Why the node could not be written, if it could not.
    pub failure: Option<Arc<Failure>>,
}

impl Entry {
    /// Returns whether both are equal except for their time.
    fn agrees(&self, other: &Self) -> bool {
        let Self { generation, state, evaluation, overdue, taint_state, since: _, failure } = self;
        (*generation, *state, *overdue, *taint_state)
            == (other.generation, other.state, other.overdue, other.taint_state)
            && (evaluation, failure) == (&other.evaluation, &other.failure)
    }
}

/// Why a node could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Machine-readable cause.
    pub reason: String,
    /// The API server's error message.
    pub message: String,
}

/// Every evaluation, by rule and node.
///
/// The operator records an evaluation after it *applied* the plan, so a status never reports a mere plan.
#[derive(Debug, Default)]
pub struct Evaluations {
    /// By uid of the rule and name of the node.
    rules: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Entry>>,
}

impl Evaluations {
    /// Records the results of a plan, and the failure if it was not applied. Returns the uids of the rules
    /// whose evaluation of the node changed.
    pub fn record(
        &mut self,
        node: &str,
        plan: &NodePlan,
        failure: Option<&Failure>,
        now: Timestamp,
    ) -> HashSet<Arc<str>> {
        let covering: HashSet<&str> = plan.results.iter().map(|f| &*f.rule_uid).collect();
        let mut changed = self.remove(node, |uid| !covering.contains(uid));
        // All evaluations of a node share its name and its failure.
        let failure = failure.cloned().map(Arc::new);
        let mut name: Option<Arc<str>> = None;
        for result in &plan.results {
            let entries = self.rules.entry(Arc::clone(&result.rule_uid)).or_default();
            let taint_state = if failure.is_some() { result.before } else { result.after };
            let entry = Entry {
                generation: result.generation,
                state: result.state,
                evaluation: result.evaluation.clone(),
                overdue: result.overdue,
                taint_state,
                since: now,
                failure: failure.clone(),
            };
            match entries.get_mut(node) {
                Some(known) if known.agrees(&entry) => continue,
                Some(known) => *known = entry,
                None => {
                    let name = name.get_or_insert_with(|| node.into());
                    entries.insert(Arc::clone(name), entry);
                }
            }
            changed.insert(Arc::clone(&result.rule_uid));
        }
        changed
    }

    /// Removes a deleted node. Returns the uids of the rules that covered it.
    pub fn forget(&mut self, node: &str) -> HashSet<Arc<str>> {
        self.remove(node, |_| true)
    }

    /// Removes a deleted rule.
    pub fn forget_rule(&mut self, uid: &str) {
        self.rules.remove(uid);
    }

    /// Removes every node that does not exist.
    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) -> HashSet<Arc<str>> {
        let gone: HashSet<Arc<str>> = self
            .rules
            .values()
            .flat_map(BTreeMap::keys)
            .filter(|node| !exists(node))
            .cloned()
            .collect();
        gone.iter().flat_map(|node| self.forget(node)).collect()
    }

    /// Returns the evaluation of a node under a rule.
    pub fn entry(&self, rule_uid: &str, node: &str) -> Option<&Entry> {
        self.rules.get(rule_uid)?.get(node)
    }

    /// Returns the evaluations of a rule, by node.
    pub fn of(&self, rule_uid: &str) -> impl Iterator<Item = (&str, &Entry)> {
        self.rules.get(rule_uid).into_iter().flatten().map(|(node, entry)| (&**node, entry))
    }

    fn remove(&mut self, node: &str, concerns: impl Fn(&str) -> bool) -> HashSet<Arc<str>> {
        let mut removed = HashSet::new();
        for (uid, entries) in &mut self.rules {
            if concerns(uid) && entries.remove(node).is_some() {
                removed.insert(Arc::clone(uid));
            }
        }
        self.rules.retain(|_, entries| !entries.is_empty());
        removed
    }
}
