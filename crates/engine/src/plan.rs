//! The plan for one node: its taints and records, for all rules at once.
//!
//! The desired taints of a node are the union over the covering rules that hold it. So rules that share a taint
//! do not conflict: the taint stays while any of them holds the node. Taints and records change in one patch,
//! conditional on the state that the plan was made from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use node_readiness_api::{CLAIMS_ANNOTATION, Claim, ClaimState, Claims, HoldCause};

use crate::claims::{Recorded, is_held};
use crate::decision::{Decision, Intent, NodeState, PlanContext, decide};
use crate::patch::{self, Record, Records};
use crate::taints::{Change, Taints};
use crate::{Evaluation, Node, NodeCondition, Rule, RuleSet, Taint, bootstrap, claims, reboot};

/// What to change on one node, and the state of the node for each rule.
#[derive(Debug, Default)]
pub struct NodePlan {
    /// The patch that changes the node as planned; `None` if nothing changes.
    pub patch: Option<json_patch::Patch>,
    /// A hash of the patched node without times; 0 without a patch. If somebody reverts the patch, the next plan
    /// has the same hash.
    pub content_hash: u64,
    /// The patch's changes to taints, for events and metrics.
    pub changes: Vec<Change>,
    /// The state of the node for each rule that covers it, after the patch.
    pub results: Vec<RuleResult>,
    /// Names of the rules that hold the node because it regressed, after the patch.
    pub regressed: Vec<String>,
    /// Names of the bootstrap-only rules that the patch completes on the node.
    pub completed: Vec<String>,
    /// Names of the rules for which the node becomes overdue.
    pub newly_overdue: Vec<String>,
    /// The holds that the patch ends.
    pub ended_holds: Vec<EndedHold>,
    /// When to requeue the node although nothing changes, because a condition then becomes stale.
    pub recheck_in: Option<Duration>,
}

/// A hold that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedHold {
    /// Name of the rule.
    pub rule: String,
    /// Why it held the node; `None` in records of version 0.1.0.
    pub cause: Option<HoldCause>,
    /// How long it held the node.
    pub held_for: Duration,
}

/// The result of one rule for the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleResult {
    /// Uid of the rule.
    pub rule_uid: Arc<str>,
    /// `metadata.generation` of the rule that was evaluated.
    pub generation: Option<i64>,
    /// The state of the node.
    pub state: NodeState,
    /// The evaluation of the rule's requirements.
    pub evaluation: Evaluation,
    /// Whether the node was held for longer than `holdTimeout` and has not been ready since.
    pub overdue: bool,
    /// The taint before the patch.
    pub before: TaintState,
    /// The taint after the patch.
    pub after: TaintState,
}

/// The state of a rule's taint on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaintState {
    /// Whether the node carries the rule's taint, for any reason.
    pub tainted: bool,
    /// Whether the node's record states that the rule holds it.
    pub held: bool,
    /// Whether the record states that another rule holds the node by the same taint, which then stays. Set only
    /// for a dry run.
    pub held_by_another: bool,
}

/// Claims by the name of the rule. Unchanged claims are borrowed from the record.
type NextClaims<'a> = BTreeMap<&'a str, Cow<'a, Claim>>;

/// Plans a node for all rules. A node that is being deleted stays unchanged, and no rule counts it, because no
/// pod can start there and it must not use up `maxUnavailable`.
pub fn plan(node: &Node, rules: &RuleSet, context: &PlanContext<'_>) -> NodePlan {
    if node.is_terminating() {
        return NodePlan::default();
    }
    let recorded = claims::recorded(node);
    let claim = |rule: &Rule| recorded.claims.get(&rule.name);
    let heartbeats = context.heartbeats.of(node, context.uptime);
    let decisions: Vec<_> = rules
        .iter()
        .map(|rule| decide(node, rule, rules, claim(rule), heartbeats, context))
        .collect();

    let taints = Taints::of(&decisions, &recorded.claims, rules, node.taints());
    let next = taints.merged(node.taints());
    let claims = next_claims(node, &decisions, &recorded.claims, rules, context.now);
    let completing = || decisions.iter().filter(|d| matches!(d.intent, Intent::Complete));
    let completed = completing().map(|d| d.rule.name.clone()).collect();
    let records = Records {
        claims: next_record(node, &recorded, &claims),
        completed: completing()
            .map(|d| (bootstrap::key(d.rule), bootstrap::value(d.rule)))
            .collect(),
        obsolete: bootstrap::obsolete(node, rules, |rule| {
            let mut holding = decisions.iter().filter(|d| matches!(d.intent, Intent::Hold(_)));
            holding.any(|decision| decision.rule.uid == rule.uid)
        }),
        boot_id: reboot::next_record(node, &decisions, rules),
    };

    let patch = patch::conditional(node, &next, &records);
    // Most plans change nothing and need no hash.
    let content_hash = patch.as_ref().map_or(0, |_| content_hash(node, &next, &claims, &records));
    let regressed = claims.iter().filter(|(_, claim)| claim.is_regression());
    let taint_states = |rule: &Rule| {
        let (tainted_before, tainted_after) = taints.before_and_after(&rule.taint);
        let recorded = recorded.claims.iter().map(|(name, claim)| (name.as_str(), claim));
        let before = TaintState {
            tainted: tainted_before,
            held: claim(rule).is_some_and(is_held),
            held_by_another: held_by_another(rule, recorded),
        };
        let after = TaintState {
            tainted: tainted_after,
            held: claims.get(&*rule.name).is_some_and(|claim| is_held(claim)),
            held_by_another: held_by_another(rule, claims.iter().map(|(name, c)| (*name, &**c))),
        };
        (before, after)
    };
    NodePlan {
        patch,
        content_hash,
        changes: taints.changes(),
        regressed: regressed.map(|(rule, _)| (*rule).to_owned()).collect(),
        completed,
        newly_overdue: newly_overdue(&recorded.claims, &claims),
        ended_holds: ended_holds(&decisions, &recorded.claims, &claims, context.now),
        recheck_in: decisions.iter().filter_map(|d| d.recheck_in).min(),
        results: decisions
            .into_iter()
            .filter_map(|Decision { rule, state, overdue, .. }| {
                let (state, evaluation) = state?;
                let (before, after) = taint_states(rule);
                Some(RuleResult {
                    rule_uid: Arc::clone(&rule.uid),
                    generation: rule.generation,
                    state,
                    evaluation,
                    overdue,
                    before,
                    after,
                })
            })
            .collect(),
    }
}

fn content_hash(
    node: &Node,
    taints: &[Taint],
    claims: &NextClaims<'_>,
    records: &Records<'_>,
) -> u64 {
    let mut hasher = DefaultHasher::new();
    node.metadata.uid.hash(&mut hasher);
    for Taint { key, value, effect, rest: _ } in taints {
        (key, value, effect).hash(&mut hasher);
    }
    for (rule, claim) in claims {
        let Claim {
            taint,
            state,
            since: _,
            cause,
            expired_heartbeats,
            containers,
            overdue,
            regressed,
        } = &**claim;
        (rule, &taint.key, &taint.value, taint.effect.as_str()).hash(&mut hasher);
        (state, cause, regressed, containers, overdue).hash(&mut hasher);
        for (condition, heartbeat) in expired_heartbeats {
            (condition, heartbeat.as_ref().map(|time| time.0)).hash(&mut hasher);
        }
    }
    (&records.completed, &records.obsolete, &records.boot_id).hash(&mut hasher);
    hasher.finish()
}

fn newly_overdue(recorded: &Claims, next: &NextClaims<'_>) -> Vec<String> {
    let was_overdue = |rule| recorded.get(rule).is_some_and(|claim| claim.overdue);
    let overdue = next.iter().filter(|(rule, claim)| claim.overdue && !was_overdue(**rule));
    overdue.map(|(rule, _)| (*rule).to_owned()).collect()
}

fn ended_holds(
    decisions: &[Decision<'_>],
    recorded: &Claims,
    next: &NextClaims<'_>,
    now: Timestamp,
) -> Vec<EndedHold> {
    let ended = decisions.iter().filter_map(|Decision { rule, .. }| {
        let claim = recorded.get(&rule.name).filter(|claim| is_held(claim))?;
        if next.get(&*rule.name).is_some_and(|next| is_held(next)) {
            return None;
        }
        // The time may be another operator's, whose clock is ahead.
        let held_for = Duration::try_from(now.duration_since(claim.since.0)).unwrap_or_default();
        Some(EndedHold { rule: rule.name.clone(), cause: claim.cause, held_for })
    });
    ended.collect()
}

fn held_by_another<'a>(
    rule: &Rule,
    mut claims: impl Iterator<Item = (&'a str, &'a Claim)>,
) -> bool {
    let holds = |name, claim| name != &*rule.name && is_held(claim) && claim.taint == rule.taint;
    rule.dry_run && claims.any(|(name, claim)| holds(name, claim))
}

fn next_claims<'a>(
    node: &Node,
    decisions: &[Decision<'a>],
    recorded: &'a Claims,
    rules: &RuleSet,
    now: Timestamp,
) -> NextClaims<'a> {
    let mut next = NextClaims::new();
    for decision in decisions {
        let Decision { rule, intent, state: evaluated, overdue, containers, .. } = decision;
        let known = recorded.get(&rule.name);
        let expired_heartbeats = |evaluation: &Evaluation| {
            let heartbeat =
                |type_| node.find_condition(type_).and_then(NodeCondition::heartbeat_time);
            let expired = evaluation.expired_types(rule);
            expired.map(|type_| (type_.to_owned(), heartbeat(type_))).collect()
        };
        let claim = |state, cause: Option<HoldCause>| {
            let same = known.filter(|known| known.state == state && known.taint == rule.taint);
            let since = same.map_or(Time(now), |known| known.since.clone());
            let found = evaluated.as_ref().filter(|_| cause.is_some());
            let expired_heartbeats = found.map(|(_, found)| expired_heartbeats(found));
            let next = Claim {
                taint: rule.taint.clone(),
                state,
                since,
                cause,
                expired_heartbeats: expired_heartbeats.unwrap_or_default(),
                containers: containers.clone(),
                overdue: *overdue,
                regressed: false,
            };
            match known {
                Some(known) if *known == next => Cow::Borrowed(known),
                _ => Cow::Owned(next),
            }
        };
        let claim = match intent {
            Intent::Hold(cause) => Some(claim(ClaimState::Held, Some(*cause))),
            Intent::Release | Intent::Defer => Some(claim(ClaimState::Released, None)),
            Intent::Freeze => known.map(Cow::Borrowed),
            Intent::Wait | Intent::Complete | Intent::Completed | Intent::Withdraw => None,
        };
        if let Some(claim) = claim {
            next.insert(&rule.name, claim);
        }
    }
    let unreadable = recorded.iter().filter(|(name, _)| rules.is_unreadable(name));
    next.extend(unreadable.map(|(name, claim)| (name.as_str(), Cow::Borrowed(claim))));
    next
}

fn next_record(node: &Node, recorded: &Recorded, next: &NextClaims<'_>) -> Record {
    let is_as_read = next.len() == recorded.claims.len()
        && next.values().all(|claim| matches!(claim, Cow::Borrowed(_)));
    if recorded.whole && is_as_read {
        return Record::Keep;
    }
    let current = node.annotation(CLAIMS_ANNOTATION);
    if next.is_empty() {
        return if current.is_some() { Record::Remove } else { Record::Keep };
    }
    let text = claims::to_record(next);
    if current == Some(&*text) { Record::Keep } else { Record::Write(text) }
}
