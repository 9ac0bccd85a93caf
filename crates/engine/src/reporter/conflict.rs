//! Two rules that probe the same condition of the same node.
//!
//! If both of their reporters wrote it, each would overwrite what the other found, for ever. So the
//! older rule's does, and the younger rule's leaves that probe out.

use std::collections::BTreeMap;
use std::ops::Deref;

use crate::{Node, Rule, RuleSet};

/// Conditions that a rule leaves to the probes of older rules, each with the name of the oldest of
/// them.
pub type Yielded = BTreeMap<String, String>;

/// What a rule has to leave to older ones, given all rules and nodes.
pub fn yielded<N: Deref<Target = Node>>(rule: &Rule, rules: &RuleSet, nodes: &[N]) -> Yielded {
    let mut yielded = Yielded::new();
    let older = rules.iter().take_while(|older| older.uid != rule.uid);
    for older in older.filter(|older| !older.deleting) {
        let shared: Vec<_> = rule.probed.iter().filter(|p| older.probed.contains(p)).collect();
        let meet = || nodes.iter().any(|node| rule.covers(node) && older.covers(node));
        if shared.is_empty() || !meet() {
            continue;
        }
        for condition in shared {
            yielded.entry(condition.clone()).or_insert_with(|| older.name.clone());
        }
    }
    yielded
}
