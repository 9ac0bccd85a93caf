//! What one node's taints and records should be, over all rules at once.
//!
//! The desired taints of a node are the union over the rules that cover it and are not satisfied.
//! So rules that share a taint cannot fight over it: it stays while any of them wants it. Taints
//! and records change in one patch, conditional on the state that it was computed from.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use node_readiness_api::{Claim, ClaimState, Claims, EnforcementMode, RuleTaint};

use crate::patch::{self, Records};
use crate::{Evaluation, Node, Rule, RuleSet, Taint, claims, completion};

/// What to do about one node, and what was found on the way.
#[derive(Debug)]
pub struct NodePlan {
    /// The patch that brings the node to where it should be; `None` where it is there.
    pub patch: Option<json_patch::Patch>,
    /// What the patch does to taints, for events and metrics.
    pub changes: Vec<Change>,
    /// How the node stands to each rule that covers it, once the patch is applied.
    pub findings: Vec<Finding>,
}

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

/// How a node stands to a rule that covers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Uid of the rule.
    pub rule_uid: String,
    /// How the node stands to it.
    pub standing: Standing,
    /// How its conditions were found.
    pub evaluation: Evaluation,
    /// Whether the node carries the rule's taint.
    pub tainted: bool,
}

/// How a node stands to a rule that covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The conditions are not met: the rule holds its taint on the node.
    Held,
    /// The conditions are met.
    Ready,
    /// The conditions were met once, and the rule is bootstrap-only.
    Bootstrapped,
}

/// What a rule wants of a node.
enum Intent {
    /// Keep the taint on it.
    Hold,
    /// The conditions are met: let go of the taint.
    Release,
    /// The conditions of a bootstrap-only rule are met for the first time: let go of the taint and
    /// of the node.
    Complete,
    /// Nothing: the rule is bootstrap-only and was completed here, or it does not cover the node.
    /// What it claims goes.
    Withdraw,
    /// The rule changes nothing: what it claims stays.
    Freeze,
}

/// A rule with what it wants of the node, and how the node stands to it if it covers it.
struct Decision<'r> {
    rule: &'r Rule,
    intent: Intent,
    standing: Option<(Standing, Evaluation)>,
}

/// Plans a node over all rules.
///
/// `now` is recorded as the time of changes; nothing else depends on it.
pub fn plan(node: &Node, rules: &RuleSet, now: Timestamp) -> NodePlan {
    let recorded = claims::recorded(node);
    let decisions: Vec<_> = rules.iter().map(|rule| decide(node, rule)).collect();

    let desired = desired_taints(&decisions, &recorded, rules);
    let managed = managed_taints(&decisions, &recorded);
    let taints = merged(node.taints(), &desired, &managed);
    let claims = next_claims(&decisions, &recorded, rules, now);
    let completed = decisions.iter().filter(|d| matches!(d.intent, Intent::Complete));
    let records = Records {
        claims: claims::to_record(&claims),
        completed: completed
            .map(|d| (completion::key(d.rule), completion::value(d.rule)))
            .collect(),
        obsolete: completion::obsolete(node, rules),
    };

    let patch = patch::conditional(node, &taints, &records);
    let changes = changes(node.taints(), &recorded, &desired, &managed);
    let findings = decisions.into_iter().filter_map(|d| finding(d, &taints)).collect();
    NodePlan { patch, changes, findings }
}

/// What a rule wants of a node, and how the node stands to it if it covers it.
fn decide<'r>(node: &Node, rule: &'r Rule) -> Decision<'r> {
    if !rule.covers(node) {
        let intent = if rule.dry_run && !rule.deleting { Intent::Freeze } else { Intent::Withdraw };
        return Decision { rule, intent, standing: None };
    }
    let evaluation = Evaluation::of(node, rule);
    let bootstrap = rule.mode == EnforcementMode::BootstrapOnly;
    let (intent, standing) = if bootstrap && completion::is_recorded(node, rule) {
        (Intent::Withdraw, Standing::Bootstrapped)
    } else if !evaluation.satisfied {
        (Intent::Hold, Standing::Held)
    } else if bootstrap {
        (Intent::Complete, Standing::Bootstrapped)
    } else {
        (Intent::Release, Standing::Ready)
    };
    let intent = if rule.dry_run { Intent::Freeze } else { intent };
    Decision { rule, intent, standing: Some((standing, evaluation)) }
}

fn finding(decision: Decision<'_>, taints: &[Taint]) -> Option<Finding> {
    let Decision { rule, standing, .. } = decision;
    let (standing, evaluation) = standing?;
    let tainted = taints.iter().any(|taint| taint.is(&rule.taint));
    Some(Finding { rule_uid: rule.uid.clone(), standing, evaluation, tainted })
}

/// A taint that some rule wants on the node, and the rule's name. Of rules that want the same key
/// and effect with different values, the oldest decides.
type Desired<'a> = Vec<(&'a RuleTaint, &'a str)>;

fn desired_taints<'a>(
    decisions: &[Decision<'a>],
    recorded: &'a Claims,
    rules: &RuleSet,
) -> Desired<'a> {
    let mut desired: Desired<'a> = Vec::new();
    let mut want = |taint: &'a RuleTaint, rule: &'a str| {
        if !desired.iter().any(|(known, _)| same(known, taint)) {
            desired.push((taint, rule));
        }
    };
    for Decision { rule, intent, .. } in decisions {
        match intent {
            Intent::Hold => want(&rule.taint, &rule.name),
            Intent::Freeze => {
                if let Some(claim) = recorded.get(&rule.name).filter(|claim| is_held(claim)) {
                    want(&claim.taint, &rule.name);
                }
            }
            Intent::Release | Intent::Complete | Intent::Withdraw => {}
        }
    }
    for (name, claim) in recorded {
        if rules.is_unreadable(name) && is_held(claim) {
            want(&claim.taint, name);
        }
    }
    desired
}

/// The taints that this plan may change, by key and effect, each with the rule that has a hand in
/// it: those that are claimed, and those of rules that act on the node now. Any other taint is
/// somebody else's.
type Managed<'a> = BTreeMap<(&'a str, &'a str), (&'a RuleTaint, &'a str)>;

fn managed_taints<'a>(decisions: &[Decision<'a>], recorded: &'a Claims) -> Managed<'a> {
    // A claim says more exactly than mere interest which rule lets go of a taint, so claims come
    // first.
    let claimed = recorded
        .iter()
        .filter(|(_, claim)| is_held(claim))
        .map(|(name, claim)| (&claim.taint, name.as_str()));
    let acting = decisions
        .iter()
        .filter(|d| matches!(d.intent, Intent::Hold | Intent::Release | Intent::Complete))
        .map(|d| (&d.rule.taint, d.rule.name.as_str()));
    let mut managed = Managed::new();
    for (taint, rule) in claimed.chain(acting) {
        managed.entry((taint.key.as_str(), taint.effect.as_str())).or_insert((taint, rule));
    }
    managed
}

/// The node's taints with the managed ones as desired and all others untouched.
fn merged(current: &[Taint], desired: &Desired<'_>, managed: &Managed<'_>) -> Vec<Taint> {
    let mut taints: Vec<Taint> = current
        .iter()
        .filter_map(|taint| {
            if let Some((wanted, _)) = desired.iter().find(|(wanted, _)| taint.is(wanted)) {
                return Some(Taint { value: wanted.value.clone(), ..taint.clone() });
            }
            let managed = managed.contains_key(&(taint.key.as_str(), taint.effect.as_str()));
            (!managed).then(|| taint.clone())
        })
        .collect();
    for (wanted, _) in desired {
        if !current.iter().any(|taint| taint.is(wanted)) {
            taints.push(Taint::from(*wanted));
        }
    }
    taints
}

fn next_claims(
    decisions: &[Decision<'_>],
    recorded: &Claims,
    rules: &RuleSet,
    now: Timestamp,
) -> Claims {
    let mut next = Claims::new();
    for Decision { rule, intent, .. } in decisions {
        let known = recorded.get(&rule.name);
        let claim = |state| match known {
            Some(known) if known.state == state && known.taint == rule.taint => known.clone(),
            _ => Claim { taint: rule.taint.clone(), state, since: Time(now) },
        };
        let claim = match intent {
            Intent::Hold => Some(claim(ClaimState::Held)),
            Intent::Release => Some(claim(ClaimState::Released)),
            Intent::Freeze => known.cloned(),
            Intent::Complete | Intent::Withdraw => None,
        };
        if let Some(claim) = claim {
            next.insert(rule.name.clone(), claim);
        }
    }
    let unreadable = recorded.iter().filter(|(name, _)| rules.is_unreadable(name));
    next.extend(unreadable.map(|(name, claim)| (name.clone(), claim.clone())));
    next
}

fn changes(
    current: &[Taint],
    recorded: &Claims,
    desired: &Desired<'_>,
    managed: &Managed<'_>,
) -> Vec<Change> {
    let change = |taint: &RuleTaint, rule: &str, kind| Change {
        rule: rule.to_owned(),
        taint: taint.clone(),
        kind,
    };
    let is_claimed = |taint: &Taint| recorded.values().any(|c| is_held(c) && taint.is(&c.taint));
    let arrivals = desired.iter().filter_map(|(wanted, rule)| {
        match current.iter().find(|taint| taint.is(wanted)) {
            None => Some(change(wanted, rule, ChangeKind::Added)),
            Some(taint) if !is_claimed(taint) => Some(change(wanted, rule, ChangeKind::Adopted)),
            Some(_) => None,
        }
    });
    let departures = managed.values().filter_map(|(taint, rule)| {
        let goes = current.iter().any(|t| t.is(taint))
            && !desired.iter().any(|(wanted, _)| same(wanted, taint));
        goes.then(|| change(taint, rule, ChangeKind::Removed))
    });
    arrivals.chain(departures).collect()
}

fn same(a: &RuleTaint, b: &RuleTaint) -> bool {
    a.key == b.key && a.effect == b.effect
}

fn is_held(claim: &Claim) -> bool {
    claim.state == ClaimState::Held
}
