//! Two rules that probe the same condition of the same node.
//!
//! If both of their reporters wrote it, each would overwrite what the other found. So where an older
//! rule covers every node of a younger one, the younger rule's reporters leave that probe out. Where
//! it covers only some of them the probe stays, since nobody else would make it on the others, and
//! both rules' reporters write on those that they share: the younger rule's status says so.

use std::collections::BTreeMap;
use std::ops::Deref;

use crate::{Node, Rule, RuleSet};

/// Conditions that older rules probe on nodes of a rule.
pub type Conflicts = BTreeMap<String, Conflict>;

/// An older rule that probes a condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Name of the older rule.
    pub older: String,
    /// Whether it covers every node of the younger one, whose reporters then leave the probe out.
    pub everywhere: bool,
}

/// The conflicts of a rule with older ones, given all rules and nodes.
pub fn conflicts<N: Deref<Target = Node>>(rule: &Rule, rules: &RuleSet, nodes: &[N]) -> Conflicts {
    let older = rules.iter().take_while(|older| older.uid != rule.uid);
    let rivals: Vec<_> = older
        .filter(|older| !older.deleting && older.probed.iter().any(|p| rule.probed.contains(p)))
        .collect();
    if rivals.is_empty() {
        return Conflicts::new();
    }
    let covered: Vec<&Node> = nodes.iter().map(|n| &**n).filter(|n| rule.covers(n)).collect();
    let mut conflicts = Conflicts::new();
    for rival in rivals {
        let shared = covered.iter().filter(|node| rival.covers(node)).count();
        if shared == 0 {
            continue;
        }
        let conflict = Conflict { older: rival.name.clone(), everywhere: shared == covered.len() };
        for condition in rule.probed.iter().filter(|probed| rival.probed.contains(probed)) {
            let known = conflicts.entry(condition.clone()).or_insert_with(|| conflict.clone());
            if conflict.everywhere && !known.everywhere {
                *known = conflict.clone();
            }
        }
    }
    conflicts
}
