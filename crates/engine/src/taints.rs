//! The rules' taints on one node: which should be there, which may be changed, and what that does.

use std::collections::BTreeMap;
use std::fmt;

use node_readiness_api::{Claims, RuleTaint};

use crate::claims::is_held;
use crate::decision::{Decision, Intent};
use crate::{Interned, RuleSet, Taint};

/// A change to one taint of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the rule that the change is made for.
    pub rule: String,
    /// The taint.
    pub taint: RuleTaint,
    /// What happens to it.
    pub kind: ChangeKind,
    /// Whether it goes because somebody put it on a node that the rule had let go of: a provider that
    /// adds startup taints late, or an autoscaler that puts them back.
    pub reappeared: bool,
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
    /// Whether the node carries it.
    there: bool,
    /// Which of the desired taints it is, if it is one.
    desired: Option<usize>,
    /// The taint with the rule that has a hand in it: what is claimed, and what belongs to rules that
    /// act on the node now. No other may be changed by the plan.
    managed: Option<(&'a RuleTaint, &'a str)>,
    /// What the node's record says of it.
    recorded: RecordedTaint,
    /// Whether a frozen rule holds it. It stays if it is there, and does not come back if not.
    kept: bool,
}

/// What a node's record says of a taint, over all rules that have a hand in it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum RecordedTaint {
    /// Nothing.
    #[default]
    Unknown,
    /// A rule had let go of the node.
    Released,
    /// A rule holds the node by it.
    Held,
}

impl Known<'_> {
    /// Whether the node is to carry it.
    fn stays(&self) -> bool {
        self.desired.is_some() || (self.there && (self.managed.is_none() || self.kept))
    }
}

impl<'a> Taints<'a> {
    /// The taints that follow from what every rule wants of a node that carries these, and from its
    /// record.
    pub(crate) fn of(
        decisions: &[Decision<'a>],
        recorded: &'a Claims,
        rules: &RuleSet,
        current: &'a [Taint],
    ) -> Self {
        let mut taints = Self { desired: Vec::new(), known: BTreeMap::new() };
        // A claim says more exactly than mere interest which rule lets go of a taint, so claims come
        // first.
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

    /// Whether the node carries a rule's taint now, and whether it is to.
    pub(crate) fn before_and_after(&self, taint: &RuleTaint) -> (bool, bool) {
        let known = self.known.get(&(&*taint.key, taint.effect.as_str()));
        known.map_or((false, false), |known| (known.there, known.stays()))
    }

    /// The node's taints with those of rules as they should be, and all others untouched.
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

    /// What that does to the taints that are there.
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
