//! Rules as the engine uses them: compiled once, as often as they change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::core::Selector;
use node_readiness_api::{
    AfterReboot, ConditionPolicy, ConditionRequirement, ConditionStatus, EnforcementMode,
    NodeReadinessRule, Probe, ReporterAccess, RuleTaint,
};
use thiserror::Error;

use crate::Node;
use crate::labels::CompiledSelector;
use crate::reporter::NodeSet;

/// After how many heartbeats what a reporter said counts no more, unless the rule says otherwise.
const HEARTBEATS: u32 = 3;

/// The fewest that a rule may say. A reporter that sees no change is silent for one, and for a tenth more
/// so that not all of them write at the same time.
const FEWEST_HEARTBEATS: u32 = 2;

/// A rule that can be evaluated.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Name of the rule.
    pub name: String,
    /// Uid of the rule, which a rule of the same name made later does not share. What is known of
    /// each node names it.
    pub uid: Arc<str>,
    /// `metadata.generation` of the spec that this is.
    pub generation: Option<i64>,
    /// The taint that it manages.
    pub taint: RuleTaint,
    /// The conditions that it requires.
    pub conditions: Vec<ConditionRequirement>,
    /// For each of them, how long it may be without a heartbeat. [`RuleSet`] sets the defaults, which
    /// depend on other rules.
    pub stale_after: Vec<Option<Duration>>,
    /// For each of them, whether a reboot of the node voids what was reported before it.
    pub reset_by_reboot: Vec<bool>,
    /// The conditions that its own probes decide.
    pub probed: Vec<String>,
    /// By which permissions its reporters write.
    pub access: ReporterAccess,
    /// How they are reported, in the order of `probed`.
    paces: Vec<Pace>,
    /// How its conditions are combined.
    pub policy: ConditionPolicy,
    /// When it applies.
    pub mode: EnforcementMode,
    /// Whether it only says what it would do.
    pub dry_run: bool,
    /// Whether it keeps everything as it is.
    pub suspend: bool,
    /// How many nodes it may hold because they regressed.
    pub max_unavailable: Option<IntOrString>,
    /// Whether it is being deleted, and so wants nothing any more.
    pub deleting: bool,
    /// When it was created.
    pub created: Timestamp,
    /// The nodes that it covers unless it is being deleted, as its reporters' affinity says it.
    pub nodes: NodeSet,
    /// The same as the rule says it.
    pub node_selector: LabelSelector,
    selector: CompiledSelector,
}

/// Why a rule cannot be evaluated. The CRD's schema lets no such rule through; this is for rules
/// that were stored before it was so.
#[derive(Debug, Error)]
pub enum Rejection {
    /// The API server sets these on every object.
    #[error("NodeReadinessRule has no {0}, which the API server sets on every object")]
    Metadata(&'static str),
    /// The selector does not parse.
    #[error(
        "spec.nodeSelector of NodeReadinessRule {rule} cannot be evaluated: {cause}; correct it"
    )]
    Selector {
        /// Name of the rule.
        rule: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl Rule {
    /// Compiles a rule as it was read.
    ///
    /// # Errors
    /// When the selector cannot be evaluated.
    pub fn compile(object: &NodeReadinessRule) -> Result<Self, Rejection> {
        let metadata = &object.metadata;
        let spec = &object.spec;
        let name = metadata.name.clone().ok_or(Rejection::Metadata("metadata.name"))?;
        let reporter = spec.reporter.clone().unwrap_or_default();
        let pace = |probe| Pace::of(probe, &spec.conditions, reporter.heartbeat_seconds);
        let probed: Vec<_> = spec.probes.iter().map(|p| p.condition_type.clone()).collect();
        let reset_by_reboot = |condition: &ConditionRequirement| match spec.after_reboot {
            Some(AfterReboot::Hold) => true,
            Some(AfterReboot::Keep) => false,
            None => probed.contains(&condition.type_),
        };
        let selector = Selector::try_from(spec.node_selector.clone()).map_err(|error| {
            Rejection::Selector { rule: name.clone(), cause: error.to_string() }
        })?;
        Ok(Self {
            name,
            uid: metadata.uid.as_deref().ok_or(Rejection::Metadata("metadata.uid"))?.into(),
            generation: metadata.generation,
            taint: spec.taint.clone(),
            stale_after: spec.conditions.iter().map(own_limit).collect(),
            paces: spec.probes.iter().map(pace).collect(),
            access: reporter.access,
            conditions: spec.conditions.clone(),
            reset_by_reboot: spec.conditions.iter().map(reset_by_reboot).collect(),
            probed,
            policy: spec.condition_policy,
            mode: spec.enforcement_mode,
            dry_run: spec.dry_run,
            suspend: spec.suspend,
            max_unavailable: spec.max_unavailable.clone(),
            node_selector: spec.node_selector.clone(),
            deleting: metadata.deletion_timestamp.is_some(),
            nodes: NodeSet::of(selector.clone()),
            selector: CompiledSelector::new(selector),
            created: metadata
                .creation_timestamp
                .as_ref()
                .ok_or(Rejection::Metadata("metadata.creationTimestamp"))?
                .0,
        })
    }

    /// What rules are ordered by, oldest first. Times of creation are in whole seconds.
    pub(crate) fn age(&self) -> (Timestamp, &str) {
        (self.created, &self.name)
    }

    /// Whether the rule writes no node, though it is there.
    pub fn is_frozen(&self) -> bool {
        (self.dry_run || self.suspend) && !self.deleting
    }

    /// Whether a reboot of a node voids any of the rule's conditions.
    pub(crate) fn is_reset_by_reboots(&self) -> bool {
        self.reset_by_reboot.contains(&true)
    }

    /// Whether one of the rule's own probes decides a condition.
    pub fn probes(&self, type_: &str) -> bool {
        self.probed.iter().any(|probed| probed == type_)
    }

    /// Whether the rule covers a node. A rule that is being deleted covers none, and a node that is being
    /// deleted is covered by none.
    pub fn covers(&self, node: &Node) -> bool {
        !self.deleting && !node.is_terminating() && self.selects(node)
    }

    /// Whether the rule's selector matches a node, so that its reporters run there.
    pub fn selects(&self, node: &Node) -> bool {
        self.selector.matches(node.labels())
    }
}

/// How long a condition may be without a heartbeat, as the rule says.
fn own_limit(condition: &ConditionRequirement) -> Option<Duration> {
    condition.stale_after_seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

/// How often a condition is reported, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// The longest time between two reports.
    heartbeat: u32,
    /// How long a reporter that starts on a node where all is well needs for its first verdict, before
    /// which it reports nothing.
    warm_up: u32,
}

impl Pace {
    fn of(probe: &Probe, conditions: &[ConditionRequirement], heartbeat: u32) -> Self {
        let required = conditions.iter().find(|c| c.type_ == probe.condition_type);
        let threshold = match required.map(|condition| condition.required_status) {
            Some(ConditionStatus::True) => probe.success_threshold,
            Some(ConditionStatus::False) => probe.failure_threshold,
            Some(ConditionStatus::Unknown) | None => 1,
        };
        let repeats = threshold.saturating_sub(1).saturating_mul(probe.period_seconds);
        Self { heartbeat, warm_up: probe.initial_delay_seconds.saturating_add(repeats) }
    }

    fn or_slower(self, other: Self) -> Self {
        Self {
            heartbeat: self.heartbeat.max(other.heartbeat),
            warm_up: self.warm_up.max(other.warm_up),
        }
    }

    fn heartbeats(self, number: u32) -> u32 {
        self.heartbeat.saturating_mul(number)
    }
}

/// Sees to it that no healthy reporter is silent for too long for a rule whose own probe decides the
/// condition.
///
/// A condition without a limit of its own gets three heartbeats, or as long as it takes until a reporter was
/// started anew shortly before its next heartbeat, of the slowest reporter that may write it, which can be
/// another rule's. One with a limit gets two heartbeats at least: rules may be stored that are older than
/// the schema's asking for that.
fn allow_for_slow_reporters(rules: &mut [Rule]) {
    let mut slowest: BTreeMap<String, Pace> = BTreeMap::new();
    for rule in &*rules {
        for (probed, pace) in rule.probed.iter().zip(&rule.paces) {
            let known = slowest.entry(probed.clone()).or_default();
            *known = known.or_slower(*pace);
        }
    }
    for rule in rules {
        let Rule { conditions, probed, paces, stale_after, .. } = rule;
        for (condition, stale_after) in conditions.iter().zip(stale_after) {
            let Some(own) = probed.iter().position(|probed| *probed == condition.type_) else {
                continue;
            };
            let seconds = if let Some(limit) = condition.stale_after_seconds {
                limit.max(paces[own].heartbeats(FEWEST_HEARTBEATS))
            } else {
                let pace = slowest.get(&condition.type_).copied().unwrap_or_default();
                let started_anew = pace.heartbeats(FEWEST_HEARTBEATS).saturating_add(pace.warm_up);
                pace.heartbeats(HEARTBEATS).max(started_anew)
            };
            *stale_after = Some(Duration::from_secs(seconds.into()));
        }
    }
}

/// Every rule of the cluster, oldest first.
///
/// Age decides between rules that disagree, so that adding a rule never changes what an existing
/// one does.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    unreadable: Vec<Unreadable>,
}

/// A rule that exists and cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unreadable {
    /// Name of the rule.
    pub name: String,
    /// Uid of the rule.
    pub uid: String,
}

impl RuleSet {
    /// Collects rules. Whatever an unreadable one did stays as it is until somebody repairs or
    /// deletes it.
    pub fn new(
        rules: impl IntoIterator<Item = Rule>,
        unreadable: impl IntoIterator<Item = Unreadable>,
    ) -> Self {
        let mut rules: Vec<_> = rules.into_iter().collect();
        rules.sort_by(|a, b| a.age().cmp(&b.age()));
        let mut unreadable: Vec<_> = unreadable.into_iter().collect();
        unreadable.sort();
        allow_for_slow_reporters(&mut rules);
        Self { rules, unreadable }
    }

    /// Whether two sets make the same of every node. Writing a rule's status changes no such thing.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        let version =
            |rule: &Rule| (rule.name.clone(), rule.uid.clone(), rule.generation, rule.deleting);
        self.unreadable == other.unreadable
            && self.rules.iter().map(version).eq(other.rules.iter().map(version))
    }

    /// The rules that can be evaluated, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The rule of that name, if it can be evaluated.
    pub fn get(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// The conditions that reporters write as their nodes.
    pub fn written_as_nodes(&self) -> BTreeSet<String> {
        let as_nodes = self.rules.iter().filter(|rule| {
            !rule.deleting && rule.access == ReporterAccess::ConstrainedImpersonation
        });
        as_nodes.flat_map(|rule| rule.probed.iter().cloned()).collect()
    }

    /// Whether a rule's reporters go on as they are, whatever the rule says: it is suspended, or cannot be
    /// evaluated.
    pub fn keeps_reporters(&self, uid: &str) -> bool {
        self.unreadable.iter().any(|unreadable| unreadable.uid == uid)
            || self.by_uid(uid).is_some_and(|rule| rule.suspend && !rule.deleting)
    }

    /// The rule of that uid, if it can be evaluated.
    pub fn by_uid(&self, uid: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| *rule.uid == *uid)
    }

    /// The rules that cannot be evaluated.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Whether a rule of that name exists and cannot be evaluated.
    pub fn is_unreadable(&self, name: &str) -> bool {
        self.unreadable.iter().any(|unreadable| unreadable.name == name)
    }
}
