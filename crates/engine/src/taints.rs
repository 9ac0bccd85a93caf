//! The rules' taints on one node: which should be there, which may be changed, and what that does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use node_readiness_api::{Claims, RuleTaint};

use crate::claims::is_held;
use crate::decision::{Decision, Intent};
use crate::{RuleSet, Shared, Taint};

/// A change to one taint of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the rule that the change is made for.
    pub rule: String,
    /// The taint.
    pub taint: RuleTaint,
    /// What happens to it.
    pub kind: ChangeKind,
}

/// What happens to a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there and comes.
    Added,
    /// It was there without a record, set by kubelet or by hand, and a rule holds it from now on.
    Adopted,
    /// It goes.
    Removed,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Adopted => "adopted",
            Self::Removed => "removed",
        })
    }
}

/// The rules' taints on one node, seen from three sides.
pub(crate) struct Taints<'a> {
    /// Those that rules want on the node, each with the rule's name. Of rules that want the same key
    /// and effect with different values, the oldest decides.
    desired: Vec<(&'a RuleTaint, &'a str)>,
    /// What there is to know of taints, by key and effect. One that is not here is somebody else's.
    known: BTreeMap<(&'a str, &'a str), Known<'a>>,
}

/// What there is to know of one taint.
#[derive(Default)]
struct Known<'a> {
    /// Which of the desired taints it is, if it is one.
    desired: Option<usize>,
    /// The taint with the rule that has a hand in it: what is claimed, and what belongs to rules that
    /// act on the node now. No other may be changed by the plan.
    managed: Option<(&'a RuleTaint, &'a str)>,
    /// Whether a claim says that its rule holds it.
    claimed: bool,
    /// Whether a frozen rule holds it. It stays if it is there, and does not come back if not.
    kept: bool,
}

impl<'a> Taints<'a> {
    /// The taints that follow from what every rule wants of a node, and from its record.
    pub(crate) fn of(decisions: &[Decision<'a>], recorded: &'a Claims, rules: &RuleSet) -> Self {
        let mut taints = Self { desired: Vec::new(), known: BTreeMap::new() };
        // A claim says more exactly than mere interest which rule lets go of a taint, so claims come
        // first.
        for (name, claim) in recorded.iter().filter(|(_, claim)| is_held(claim)) {
            let known = taints.entry(&claim.taint);
            known.managed.get_or_insert((&claim.taint, name));
            known.claimed = true;
            known.kept |= rules.is_unreadable(name);
        }
        for Decision { rule, intent, .. } in decisions {
            match intent {
                Intent::Hold { .. } => taints.want(&rule.taint, &rule.name),
                Intent::Release | Intent::Complete => {
                    taints.entry(&rule.taint).managed.get_or_insert((&rule.taint, &rule.name));
                }
                Intent::Freeze => {
                    if let Some(claim) = recorded.get(&rule.name).filter(|claim| is_held(claim)) {
                        taints.entry(&claim.taint).kept = true;
                    }
                }
                Intent::Defer | Intent::Withdraw => {}
            }
        }
        taints
    }

    fn entry(&mut self, taint: &'a RuleTaint) -> &mut Known<'a> {
        self.known.entry((&taint.key, taint.effect.as_str())).or_default()
    }

    fn want(&mut self, taint: &'a RuleTaint, rule: &'a str) {
        let next = self.desired.len();
        let known = self.entry(taint);
        known.managed.get_or_insert((taint, rule));
        if known.desired.is_none() {
            known.desired = Some(next);
            self.desired.push((taint, rule));
        }
    }

    /// The node's taints with those of rules as they should be, and all others untouched.
    pub(crate) fn merged(&self, current: &[Taint]) -> Vec<Taint> {
        let mut there = vec![false; self.desired.len()];
        let mut merged = Vec::with_capacity(current.len() + self.desired.len());
        for taint in current {
            let known = self.known.get(&(&*taint.key, &*taint.effect));
            if let Some(wanted) = known.and_then(|known| known.desired) {
                there[wanted] = true;
                let value = Shared::new(&self.desired[wanted].0.value);
                merged.push(Taint { value, ..taint.clone() });
            } else if known.is_none_or(|known| known.managed.is_none() || known.kept) {
                merged.push(taint.clone());
            }
        }
        let missing = self.desired.iter().zip(there).filter(|(_, there)| !there);
        merged.extend(missing.map(|((wanted, _), _)| Taint::from(*wanted)));
        merged
    }

    /// What that does to the taints that are there.
    pub(crate) fn changes(&self, current: &[Taint]) -> Vec<Change> {
        let change = |taint: &RuleTaint, rule: &str, kind| Change {
            rule: rule.to_owned(),
            taint: taint.clone(),
            kind,
        };
        let there: BTreeSet<_> =
            current.iter().map(|taint| (&*taint.key, &*taint.effect)).collect();
        let arrivals = self.desired.iter().filter_map(|(wanted, rule)| {
            let key = (&*wanted.key, wanted.effect.as_str());
            if !there.contains(&key) {
                Some(change(wanted, rule, ChangeKind::Added))
            } else if !self.known[&key].claimed {
                Some(change(wanted, rule, ChangeKind::Adopted))
            } else {
                None
            }
        });
        let departures = self.known.iter().filter_map(|(key, known)| {
            let (taint, rule) = known.managed?;
            let goes = known.desired.is_none() && !known.kept && there.contains(key);
            goes.then(|| change(taint, rule, ChangeKind::Removed))
        });
        arrivals.chain(departures).collect()
    }
}
