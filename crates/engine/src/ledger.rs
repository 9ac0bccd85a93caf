//! What was found and done, node by node: the memory between node path and rule status.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::jiff::Timestamp;

use crate::{Finding, Grip, NodePlan};

/// What is known of one node under one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// How the node was found.
    pub finding: Finding,
    /// What the rule does to it: what was applied, not what was planned.
    pub grip: Grip,
    /// When this came to be so.
    pub since: Timestamp,
    /// Why the node could not be written, if it could not.
    pub failure: Option<Failure>,
}

impl Entry {
    /// Whether a finding says the same as this entry's. What was planned is not part of it: that
    /// shows in the grip once it is applied.
    fn tells_of(&self, finding: &Finding) -> bool {
        let Finding { rule_uid: _, generation, standing, evaluation, before: _, after: _ } =
            finding;
        let known = &self.finding;
        (known.generation, known.standing) == (*generation, *standing)
            && known.evaluation == *evaluation
    }
}

/// Why a node could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Machine-readable cause.
    pub reason: String,
    /// The cause in the API server's words.
    pub message: String,
}

/// Every entry, by rule and node.
///
/// It is written from what was *applied*, so that a status cannot tell what was only intended.
#[derive(Debug, Default)]
pub struct Ledger {
    rules: BTreeMap<String, BTreeMap<String, Entry>>,
}

impl Ledger {
    /// Enters how a node was found, and why it could not be written if it could not. Returns the
    /// uids of the rules for which that is news.
    pub fn enter(
        &mut self,
        node: &str,
        plan: &NodePlan,
        failure: Option<&Failure>,
        now: Timestamp,
    ) -> HashSet<String> {
        let covering: HashSet<&str> = plan.findings.iter().map(|f| f.rule_uid.as_str()).collect();
        let mut news = self.remove(node, |uid| !covering.contains(uid));
        for finding in &plan.findings {
            let entries = self.rules.entry(finding.rule_uid.clone()).or_default();
            let grip = if failure.is_some() { finding.before } else { finding.after };
            let tells = |known: &Entry| (known.grip, known.failure.as_ref()) == (grip, failure);
            if entries.get(node).is_some_and(|known| tells(known) && known.tells_of(finding)) {
                continue;
            }
            let (finding, failure) = (finding.clone(), failure.cloned());
            news.insert(finding.rule_uid.clone());
            entries.insert(node.to_owned(), Entry { finding, grip, since: now, failure });
        }
        news
    }

    /// Forgets a node that is gone. Returns the uids of the rules that covered it.
    pub fn forget(&mut self, node: &str) -> HashSet<String> {
        self.remove(node, |_| true)
    }

    /// Forgets a rule that is gone.
    pub fn forget_rule(&mut self, uid: &str) {
        self.rules.remove(uid);
    }

    /// Forgets every node that is not named.
    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) -> HashSet<String> {
        let gone: HashSet<String> = self
            .rules
            .values()
            .flat_map(BTreeMap::keys)
            .filter(|node| !exists(node))
            .cloned()
            .collect();
        gone.iter().flat_map(|node| self.forget(node)).collect()
    }

    /// What is known of a node under a rule.
    pub fn entry(&self, rule_uid: &str, node: &str) -> Option<&Entry> {
        self.rules.get(rule_uid)?.get(node)
    }

    /// Entries of a rule by node.
    pub fn of(&self, rule_uid: &str) -> impl Iterator<Item = (&str, &Entry)> {
        self.rules.get(rule_uid).into_iter().flatten().map(|(node, entry)| (node.as_str(), entry))
    }

    fn remove(&mut self, node: &str, concerns: impl Fn(&str) -> bool) -> HashSet<String> {
        let mut removed = HashSet::new();
        for (uid, entries) in &mut self.rules {
            if concerns(uid) && entries.remove(node).is_some() {
                removed.insert(uid.clone());
            }
        }
        self.rules.retain(|_, entries| !entries.is_empty());
        removed
    }
}
