//! What one node's taints and records should be, over all rules at once.
//!
//! The desired taints of a node are the union over the rules that cover it and are not satisfied.
//! So rules that share a taint cannot fight over it: it stays while any of them wants it. Taints
//! and records change in one patch, conditional on the state that it was computed from.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use node_readiness_api::{Claim, ClaimState, Claims};

use crate::claims::is_held;
use crate::decision::{Decision, Intent, Situation, Standing, decide};
use crate::patch::{self, Records};
use crate::regressions::is_regression;
use crate::taints::{Change, Taints};
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
    /// Names of the rules that hold the node because it regressed, once the patch is applied.
    pub regressed: Vec<String>,
    /// Names of the bootstrap-only rules that are done with the node, once the patch is applied, and
    /// were not before.
    pub completed: Vec<String>,
    /// When the node has to be looked at again although nothing about it changes: a condition then
    /// has been silent for too long.
    pub recheck_in: Option<Duration>,
}

/// How a node stands to a rule that covers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Uid of the rule.
    pub rule_uid: String,
    /// `metadata.generation` of the rule that this is about.
    pub generation: Option<i64>,
    /// How the node stands to it.
    pub standing: Standing,
    /// How its conditions were found.
    pub evaluation: Evaluation,
    /// What the rule does to the node as it is.
    pub before: Grip,
    /// What it does once the patch is applied.
    pub after: Grip,
}

/// What a rule does to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grip {
    /// Whether the node carries the rule's taint, for whatever reason.
    pub tainted: bool,
    /// Whether the node's record says that the rule holds it.
    pub held: bool,
}

/// Plans a node over all rules.
pub fn plan(node: &Node, rules: &RuleSet, situation: &Situation<'_>) -> NodePlan {
    let recorded = claims::recorded(node);
    let decisions: Vec<_> =
        rules.iter().map(|rule| decide(node, rule, recorded.get(&rule.name), situation)).collect();

    let taints = Taints::of(&decisions, &recorded, rules);
    let next = taints.merged(node.taints());
    let claims = next_claims(&decisions, &recorded, rules, situation.now);
    let completing = || decisions.iter().filter(|d| matches!(d.intent, Intent::Complete));
    let completed = completing().map(|d| d.rule.name.clone()).collect();
    let records = Records {
        claims: claims::to_record(&claims),
        completed: completing()
            .map(|d| (completion::key(d.rule), completion::value(d.rule)))
            .collect(),
        obsolete: completion::obsolete(node, rules),
    };

    let regressed = claims.iter().filter(|(_, claim)| is_regression(claim));
    let grip = |rule: &Rule, taints: &[Taint], claims: &Claims| Grip {
        tainted: taints.iter().any(|taint| taint.is(&rule.taint)),
        held: claims.get(&rule.name).is_some_and(is_held),
    };
    NodePlan {
        patch: patch::conditional(node, &next, &records),
        changes: taints.changes(node.taints(), &recorded),
        regressed: regressed.map(|(rule, _)| rule.clone()).collect(),
        completed,
        recheck_in: decisions.iter().filter_map(|d| d.recheck_in).min(),
        findings: decisions
            .into_iter()
            .filter_map(|Decision { rule, standing, .. }| {
                let (standing, evaluation) = standing?;
                Some(Finding {
                    rule_uid: rule.uid.clone(),
                    generation: rule.generation,
                    standing,
                    evaluation,
                    before: grip(rule, node.taints(), &recorded),
                    after: grip(rule, &next, &claims),
                })
            })
            .collect(),
    }
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
        let claim = |state, regressed| match known {
            Some(known) if known.state == state && known.taint == rule.taint => known.clone(),
            _ => Claim { taint: rule.taint.clone(), state, since: Time(now), regressed },
        };
        let claim = match intent {
            Intent::Hold { regressed } => Some(claim(ClaimState::Held, *regressed)),
            Intent::Release | Intent::Defer => Some(claim(ClaimState::Released, false)),
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
