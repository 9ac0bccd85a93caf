//! The rules' taints on one node: which should be there, which may be changed, and what that does.

use std::collections::BTreeMap;
use std::fmt;

use node_readiness_api::{Claims, RuleTaint};

use crate::claims::is_held;
use crate::decision::{Decision, Intent};
use crate::{RuleSet, Taint};

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
    /// Those that a frozen rule holds. They stay if they are there, and do not come back if not.
    kept: Vec<&'a RuleTaint>,
    /// Those that this plan may change, by key and effect, each with the rule that has a hand in it:
    /// what is claimed, and what belongs to rules that act on the node now. Any other taint is
    /// somebody else's.
    managed: BTreeMap<(&'a str, &'a str), (&'a RuleTaint, &'a str)>,
}

fn desired_taints<'a>(decisions: &[Decision<'a>]) -> Vec<(&'a RuleTaint, &'a str)> {
    let mut desired: Vec<(&RuleTaint, &str)> = Vec::new();
    for Decision { rule, intent, .. } in decisions {
        let holds = matches!(intent, Intent::Hold { .. });
        if holds && !desired.iter().any(|(known, _)| same(known, &rule.taint)) {
            desired.push((&rule.taint, &rule.name));
        }
    }
    desired
}

fn kept_taints<'a>(
    decisions: &[Decision<'_>],
    recorded: &'a Claims,
    rules: &RuleSet,
) -> Vec<&'a RuleTaint> {
    let is_frozen = |name: &str| {
        rules.is_unreadable(name)
            || decisions.iter().any(|d| d.rule.name == name && matches!(d.intent, Intent::Freeze))
    };
    let frozen = recorded.iter().filter(|(name, claim)| is_held(claim) && is_frozen(name));
    frozen.map(|(_, claim)| &claim.taint).collect()
}

fn managed_taints<'a>(
    decisions: &[Decision<'a>],
    recorded: &'a Claims,
) -> BTreeMap<(&'a str, &'a str), (&'a RuleTaint, &'a str)> {
    // A claim says more exactly than mere interest which rule lets go of a taint, so claims come
    // first.
    let claimed = recorded
        .iter()
        .filter(|(_, claim)| is_held(claim))
        .map(|(name, claim)| (&claim.taint, name.as_str()));
    let acting = decisions
        .iter()
        .filter(|d| matches!(d.intent, Intent::Hold { .. } | Intent::Release | Intent::Complete))
        .map(|d| (&d.rule.taint, d.rule.name.as_str()));
    let mut managed = BTreeMap::new();
    for (taint, rule) in claimed.chain(acting) {
        managed.entry((taint.key.as_str(), taint.effect.as_str())).or_insert((taint, rule));
    }
    managed
}

impl<'a> Taints<'a> {
    /// The taints that follow from what every rule wants of a node, and from its record.
    pub(crate) fn of(decisions: &[Decision<'a>], recorded: &'a Claims, rules: &RuleSet) -> Self {
        Self {
            desired: desired_taints(decisions),
            kept: kept_taints(decisions, recorded, rules),
            managed: managed_taints(decisions, recorded),
        }
    }

    /// The node's taints with those of rules as they should be, and all others untouched.
    pub(crate) fn merged(&self, current: &[Taint]) -> Vec<Taint> {
        let stays = current.iter().filter_map(|taint| {
            if let Some((wanted, _)) = self.desired.iter().find(|(wanted, _)| taint.is(wanted)) {
                return Some(Taint { value: wanted.value.clone(), ..taint.clone() });
            }
            let managed = self.managed.contains_key(&(taint.key.as_str(), taint.effect.as_str()));
            let kept = self.kept.iter().any(|kept| taint.is(kept));
            (!managed || kept).then(|| taint.clone())
        });
        let missing = self.desired.iter().filter(|(wanted, _)| !carries(current, wanted));
        stays.chain(missing.map(|(wanted, _)| Taint::from(*wanted))).collect()
    }

    /// What that does to the taints that are there.
    pub(crate) fn changes(&self, current: &[Taint], recorded: &Claims) -> Vec<Change> {
        let change = |taint: &RuleTaint, rule: &str, kind| Change {
            rule: rule.to_owned(),
            taint: taint.clone(),
            kind,
        };
        let is_claimed = |taint: &RuleTaint| {
            recorded.values().any(|claim| is_held(claim) && same(&claim.taint, taint))
        };
        let arrivals = self.desired.iter().filter_map(|(wanted, rule)| {
            if !carries(current, wanted) {
                Some(change(wanted, rule, ChangeKind::Added))
            } else if !is_claimed(wanted) {
                Some(change(wanted, rule, ChangeKind::Adopted))
            } else {
                None
            }
        });
        let departures = self.managed.values().filter_map(|(taint, rule)| {
            let stays = self.desired.iter().any(|(wanted, _)| same(wanted, taint))
                || self.kept.iter().any(|kept| same(kept, taint));
            (carries(current, taint) && !stays).then(|| change(taint, rule, ChangeKind::Removed))
        });
        arrivals.chain(departures).collect()
    }
}

fn carries(taints: &[Taint], wanted: &RuleTaint) -> bool {
    taints.iter().any(|taint| taint.is(wanted))
}

fn same(a: &RuleTaint, b: &RuleTaint) -> bool {
    a.key == b.key && a.effect == b.effect
}
