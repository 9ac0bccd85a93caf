//! Two rules that probe the same condition of the same node.
//!
//! If both of their reporters wrote it, each would overwrite what the other found. So the younger
//! rule's reporters keep off the nodes where older rules make all of their probes, and leave out a
//! probe that older rules make on every node that the younger one can cover. Both follow from the
//! rules' selectors alone, so that no pod restarts because a node came or went. What is left is a
//! rule that has a probe of its own to make where it shares another: its reporters run there, and are
//! told the older rules' selectors, so that each can see on its Node what to leave to others.

use std::collections::BTreeMap;
use std::ops::Deref;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::NodeSet;
use crate::{Node, Rule};

/// Conditions of a rule that older rules probe as well.
pub type Conflicts = BTreeMap<String, Conflict>;

/// What a rule's reporters do in view of what older rules' do.
#[derive(Clone, Debug)]
pub struct Share {
    /// What older rules probe on nodes that this one can cover as well.
    pub conflicts: Conflicts,
    /// Where there is a probe left to make.
    pub nodes: NodeSet,
    /// By condition, the nodes among them where its reporters leave it to older rules'.
    pub yields: BTreeMap<String, Vec<LabelSelector>>,
}

/// A condition of a rule that older rules probe as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Names of the older rules, oldest first: of those that share a node with the rule now, or of
    /// all of them where none does.
    pub older: Vec<String>,
    /// Whether one of them shares a node with the rule now.
    pub met: bool,
    /// What becomes of the rule's own probe.
    pub outcome: Outcome,
}

/// What becomes of a probe that older rules make as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Older rules make it wherever the rule can apply: its reporters leave it out.
    LeftOut,
    /// Its reporters do not run where older rules make it.
    Apart,
    /// Its reporters run where older rules make it, for other probes or because where else to run is
    /// too much for a node affinity. There they do not write it.
    Yields,
}

impl Share {
    /// That of a rule with which no other probes anything.
    pub fn alone(rule: &Rule) -> Self {
        Self { conflicts: Conflicts::new(), nodes: rule.nodes.clone(), yields: BTreeMap::new() }
    }

    /// That of a rule among others that have reporters. Existing nodes only decide what the status reports.
    pub fn of<'a, N: Deref<Target = Node>>(
        rule: &Rule,
        others: impl Iterator<Item = &'a Rule>,
        existing: &[N],
    ) -> Self {
        let older = others.filter(|other| other.age() < rule.age());
        let rivals: Vec<&Rule> = older
            .filter(|older| older.probed.iter().any(|probed| rule.probed.contains(probed)))
            .filter(|older| !older.deleting && older.nodes.meets(&rule.nodes))
            .collect();
        let share_a_node =
            |rival: &Rule| existing.iter().any(|n| rule.selects(n) && rival.selects(n));
        let rivals: Vec<Rival<'_>> =
            rivals.into_iter().map(|rule| Rival { rule, met: share_a_node(rule) }).collect();
        let left: Vec<(&String, Option<NodeSet>)> = rule
            .probed
            .iter()
            .map(|condition| (condition, left_of(&rule.nodes, condition, &rivals)))
            .collect();
        let nothing = Some(NodeSet::none());
        let nodes = left.iter().fold(nothing, |all, (_, left)| all?.and(left.clone()?));
        let nodes = nodes.unwrap_or_else(|| rule.nodes.clone());
        let conflicts: Conflicts = left
            .iter()
            .filter_map(|(condition, left)| {
                let outcome = outcome(left.as_ref(), &nodes);
                Some(((*condition).clone(), conflict(condition, &rivals, outcome)?))
            })
            .collect();
        let shared = conflicts.iter().filter(|(_, conflict)| conflict.outcome == Outcome::Yields);
        let yields =
            shared.map(|(condition, _)| (condition.clone(), selectors(condition, &rivals)));
        Self { nodes, yields: yields.collect(), conflicts }
    }

    /// Whether the rule's reporters make its probe of a condition.
    pub(super) fn has(&self, condition: &str) -> bool {
        self.conflicts.get(condition).is_none_or(|known| known.outcome != Outcome::LeftOut)
    }
}

/// An older rule with a condition in common.
struct Rival<'a> {
    rule: &'a Rule,
    /// Whether it shares a node with the younger rule now.
    met: bool,
}

/// Where nobody older probes a condition; `None` if that is too much for a node affinity.
///
/// An older rule that itself leaves the probe to another counts as well: that other one is older
/// than both, and makes it there.
fn left_of(nodes: &NodeSet, condition: &String, rivals: &[Rival<'_>]) -> Option<NodeSet> {
    let rivals = rivals.iter().filter(|rival| rival.rule.probed.contains(condition));
    rivals.into_iter().try_fold(nodes.clone(), |left, rival| left.without(&rival.rule.nodes))
}

/// What becomes of a probe that is left to make on some nodes, by reporters that run on these.
fn outcome(left: Option<&NodeSet>, run_on: &NodeSet) -> Outcome {
    let Some(left) = left else { return Outcome::Yields };
    if left.is_empty() {
        return Outcome::LeftOut;
    }
    match run_on.without(left) {
        Some(twice) if twice.is_empty() => Outcome::Apart,
        _ => Outcome::Yields,
    }
}

/// Where older rules probe a condition, whether or not a node is there now.
fn selectors(condition: &String, rivals: &[Rival<'_>]) -> Vec<LabelSelector> {
    let rivals = rivals.iter().filter(|rival| rival.rule.probed.contains(condition));
    rivals.map(|rival| rival.rule.node_selector.clone()).collect()
}

/// `None` if nobody older probes the condition.
fn conflict(condition: &String, rivals: &[Rival<'_>], outcome: Outcome) -> Option<Conflict> {
    let rivals = rivals.iter().filter(|rival| rival.rule.probed.contains(condition));
    let (met, unmet): (Vec<_>, Vec<_>) = rivals.partition(|rival| rival.met);
    let named = if met.is_empty() { &unmet } else { &met };
    let older: Vec<_> = named.iter().map(|rival| rival.rule.name.clone()).collect();
    (!older.is_empty()).then_some(Conflict { older, met: !met.is_empty(), outcome })
}
