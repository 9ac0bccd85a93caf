//! The rules' taints on one node: which are desired, which may change, and the resulting changes.

use std::collections::BTreeMap;
use std::fmt;

use node_readiness_api::{Claims, RuleTaint};

use crate::claims::is_held;
use crate::decision::{Decision, Intent};
use crate::{Interned, RuleSet, Taint};

/// A change to one taint of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the rule that causes the change.
    pub rule: String,
    /// The taint.
    pub taint: RuleTaint,
    /// The kind of the change.
    pub kind: ChangeKind,
    /// Whether it removes a taint that somebody added to a released node: a provider that adds startup taints
    /// late, or an autoscaler that adds them again.
    pub reappeared: bool,
}

/// The kind of a change to a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The rule adds the taint.
    Added,
    /// A rule takes over a taint without a claim, which kubelet or a person had set.
    Adopted,
    /// The rule removes the taint.
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

/// The rules' taints on one node.
pub(crate) struct Taints<'a> {
    /// The taints by which rules hold the node, each with the rule's name. If rules set the same key and effect
    /// with different values, the oldest rule decides.
    desired: Vec<(&'a RuleTaint, &'a str)>,
    /// The known taints, by key and effect. A taint that is missing here belongs to another controller or user.
    known: BTreeMap<(&'a str, &'a str), Known<'a>>,
}

/// A known taint.
#[derive(Default)]
struct Known<'a> {
    /// Whether the node carries the taint.
    there: bool,
    /// The index among the desired taints, if it is one.
    desired: Option<usize>,
    /// The taint with the rule that manages it: a claimed taint, or the taint of a rule that acts on the node
    /// now. The plan may change no other taint.
    managed: Option<(&'a RuleTaint, &'a str)>,
    /// What the node's record states about it.
    recorded: RecordedTaint,
    /// Whether a frozen rule holds it. The plan then does not remove it, and does not add it for that rule.
    kept: bool,
}

/// What a node's record states about a taint, over all rules that manage it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum RecordedTaint {
    /// Nothing.
    #[default]
    Unknown,
    /// A rule had released the node.
    Released,
    /// A rule holds the node with it.
    Held,
}

impl Known<'_> {
    /// Returns whether the node carries the taint after the patch.
    fn stays(&self) -> bool {
        self.desired.is_some() || (self.there && (self.managed.is_none() || self.kept))
    }
}

impl<'a> Taints<'a> {
    /// Derives the taints from every rule's intent, the node's present taints and its record.
    pub(crate) fn of(
        decisions: &[Decision<'a>],
        recorded: &'a Claims,
        rules: &RuleSet,
        current: &'a [Taint],
    ) -> Self {
        let mut taints = Self { desired: Vec::new(), known: BTreeMap::new() };
        // A claim names the rule that holds the taint, so claims take precedence over intents.
        for (name, claim) in recorded.iter().filter(|(_, claim)| is_held(claim)) {
            let known = taints.entry(&claim.taint);
            known.managed.get_or_insert((&claim.taint, name));
            known.recorded = RecordedTaint::Held;
            known.kept |= rules.is_unreadable(name);
        }
        for Decision { rule, intent, .. } in decisions {
            let known = taints.entry(&rule.taint);
            match intent {
                Intent::Hold(_) => {
                    known.managed.get_or_insert((&rule.taint, &rule.name));
                    taints.want(&rule.taint, &rule.name);
                }
                Intent::Release => {
                    known.managed.get_or_insert((&rule.taint, &rule.name));
                    let claim = recorded.get(&rule.name);
                    if claim.is_some_and(|c| !is_held(c) && c.taint == rule.taint) {
                        known.recorded = known.recorded.max(RecordedTaint::Released);
                    }
                }
                Intent::Complete => {
                    known.managed.get_or_insert((&rule.taint, &rule.name));
                }
                Intent::Completed => {
                    known.managed.get_or_insert((&rule.taint, &rule.name));
                    known.recorded = known.recorded.max(RecordedTaint::Released);
                }
                Intent::Freeze => {
                    if let Some(claim) = recorded.get(&rule.name).filter(|claim| is_held(claim)) {
                        taints.entry(&claim.taint).kept = true;
                    }
                }
                Intent::Defer | Intent::Wait | Intent::Withdraw => {}
            }
        }
        for taint in current {
            if let Some(known) = taints.known.get_mut(&(&*taint.key, &*taint.effect)) {
                known.there = true;
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
        if known.desired.is_none() {
            known.desired = Some(next);
            self.desired.push((taint, rule));
        }
    }

    /// Returns whether the node carries a rule's taint before and after the patch.
    pub(crate) fn before_and_after(&self, taint: &RuleTaint) -> (bool, bool) {
        let known = self.known.get(&(&*taint.key, taint.effect.as_str()));
        known.map_or((false, false), |known| (known.there, known.stays()))
    }

    /// Returns the node's taints after the patch. Taints of others stay unchanged.
    pub(crate) fn merged(&self, current: &[Taint]) -> Vec<Taint> {
        let stay = current.iter().filter_map(|taint| {
            let Some(known) = self.known.get(&(&*taint.key, &*taint.effect)) else {
                return Some(taint.clone());
            };
            match known.desired.map(|wanted| self.desired[wanted].0) {
                Some(wanted) if *taint.value != *wanted.value => {
                    Some(Taint { value: Interned::new(&wanted.value), ..taint.clone() })
                }
                _ => known.stays().then(|| taint.clone()),
            }
        });
        let missing = self.desired.iter().filter(|(wanted, _)| !self.before_and_after(wanted).0);
        stay.chain(missing.map(|(wanted, _)| Taint::from(*wanted))).collect()
    }

    /// Returns the changes to the present taints.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let change = |taint: &RuleTaint, rule: &str, kind, reappeared| Change {
            rule: rule.to_owned(),
            taint: taint.clone(),
            kind,
            reappeared,
        };
        let arrivals = self.desired.iter().filter_map(|(wanted, rule)| {
            let known = &self.known[&(&*wanted.key, wanted.effect.as_str())];
            match (known.there, known.recorded == RecordedTaint::Held) {
                (false, _) => Some(change(wanted, rule, ChangeKind::Added, false)),
                (true, false) => Some(change(wanted, rule, ChangeKind::Adopted, false)),
                (true, true) => None,
            }
        });
        let departures = self.known.values().filter_map(|known| {
            let (taint, rule) = known.managed?;
            let reappeared = known.recorded == RecordedTaint::Released;
            let goes = known.there && !known.stays();
            goes.then(|| change(taint, rule, ChangeKind::Removed, reappeared))
        });
        arrivals.chain(departures).collect()
    }
}
