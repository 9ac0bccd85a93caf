//! Conditions that several rules probe on the same nodes. The oldest rule that covers a node decides there.

use std::collections::BTreeMap;
use std::ops::Deref;

use crate::{Node, Rule};

/// The conditions of a rule that older rules decide, by type.
pub type Overlaps = BTreeMap<String, Overlap>;

/// Where older rules decide a condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Names of the older rules, by name.
    pub older: Vec<String>,
    /// The number of the rule's nodes on which one of them decides.
    pub nodes: usize,
    /// The first of these nodes, by name.
    pub first: String,
}

/// Returns where older rules decide a rule's conditions. `others` are the rules that have reporters.
pub fn overlaps<'a, N: Deref<Target = Node>>(
    rule: &Rule,
    others: impl Iterator<Item = &'a Rule>,
    nodes: &[N],
) -> Overlaps {
    let mut older: Vec<_> = others
        .filter(|other| !other.deleting && other.age() < rule.age())
        .filter(|other| other.probed.iter().any(|probed| rule.probed.contains(probed)))
        .collect();
    older.sort_by(|a, b| a.age().cmp(&b.age()));
    let mut overlaps = Overlaps::new();
    // Most rules share no condition.
    if older.is_empty() {
        return overlaps;
    }
    for node in nodes.iter().filter(|node| rule.covers(node)) {
        let older: Vec<_> = older.iter().filter(|other| other.covers(node)).collect();
        for condition in &rule.probed {
            let Some(decides) = older.iter().find(|other| other.probes(condition)) else {
                continue;
            };
            let first = node.name().to_owned();
            let overlap = overlaps.entry(condition.clone()).or_insert(Overlap {
                older: Vec::new(),
                nodes: 0,
                first,
            });
            overlap.nodes += 1;
            if node.name() < overlap.first.as_str() {
                node.name().clone_into(&mut overlap.first);
            }
            if let Err(place) = overlap.older.binary_search(&decides.name) {
                overlap.older.insert(place, decides.name.clone());
            }
        }
    }
    overlaps
}
