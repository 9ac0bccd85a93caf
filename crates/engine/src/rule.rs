//! Rules as the engine uses them: compiled once for each change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::core::Selector;
use node_readiness_api::{
    AfterReboot, ConditionPolicy, ConditionRequirement, ConditionStatus, EnforcementMode,
    HoldTimeout, NodeReadinessRule, Probe, ReporterAccess, RuleTaint,
};
use thiserror::Error;

use crate::Node;
use crate::labels::CompiledSelector;
use crate::signals::{Signal, Source};

/// The number of heartbeats after which a condition becomes stale, unless the rule sets a time.
const HEARTBEATS: u32 = 3;

/// The smallest number of heartbeats that a rule may set. A reporter renews an unchanged condition after one
/// heartbeat plus up to a tenth.
const FEWEST_HEARTBEATS: u32 = 2;

/// A rule that can be evaluated.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Name of the rule.
    pub name: String,
    /// Uid of the rule. A rule that is created later under the same name has another one. Evaluations and
    /// labels use it.
    pub uid: Arc<str>,
    /// `metadata.generation` of the compiled spec.
    pub generation: Option<i64>,
    /// The taint that it manages.
    pub taint: RuleTaint,
    /// The conditions that it requires.
    pub conditions: Vec<ConditionRequirement>,
    /// For each condition, the longest time without a heartbeat. [`RuleSet`] sets the defaults, which depend on
    /// other rules.
    pub stale_after: Vec<Option<Duration>>,
    /// For each condition, whether a reboot of the node voids earlier reports.
    pub reset_by_reboot: Vec<bool>,
    /// What it requires besides conditions.
    pub signals: Vec<Signal>,
    /// How long the requirements must have been met before a held node is released.
    pub min_ready: Duration,
    /// When a held node is overdue, and what happens then.
    pub hold_timeout: Option<HoldTimeout>,
    /// The conditions of the rule's own probes.
    pub probed: Vec<String>,
    /// The access of its reporters.
    pub access: ReporterAccess,
    /// The reporting intervals, in the order of `probed`.
    paces: Vec<Pace>,
    /// How its conditions are combined.
    pub policy: ConditionPolicy,
    /// When it applies.
    pub mode: EnforcementMode,
    /// Whether it only reports what it would do.
    pub dry_run: bool,
    /// Whether it is suspended.
    pub suspend: bool,
    /// The maximum number of nodes that it holds because they regressed.
    pub max_unavailable: Option<IntOrString>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// When it was created.
    pub created: Timestamp,
    selector: CompiledSelector,
}

/// Why a rule cannot be evaluated. The CRD's schema refuses such rules, but older ones may be stored.
#[derive(Debug, Error)]
pub enum Rejection {
    /// A field of the metadata is missing that the API server sets on every object.
    #[error("NodeReadinessRule has no {0}, which the API server sets on every object")]
    Metadata(&'static str),
    /// The selector does not parse.
    #[error(
        "spec.nodeSelector of NodeReadinessRule {rule} cannot be evaluated: {cause}; correct it"
    )]
    Selector {
        /// Name of the rule.
        rule: String,
        /// Why it does not parse.
        cause: String,
    },
    /// A requirement cannot be evaluated.
    #[error("{field} of NodeReadinessRule {rule} cannot be evaluated: {cause}; correct it")]
    Requirement {
        /// Name of the rule.
        rule: String,
        /// The field.
        field: String,
        /// Why it cannot be evaluated.
        cause: String,
    },
}

impl Rule {
    /// Compiles a rule.
    ///
    /// # Errors
    ///
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
        let signals = Signal::compile(spec).map_err(|(field, cause)| Rejection::Requirement {
            rule: name.clone(),
            field,
            cause,
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
            signals,
            min_ready: Duration::from_secs(spec.min_ready_seconds.into()),
            hold_timeout: spec.hold_timeout,
            probed,
            policy: spec.condition_policy,
            mode: spec.enforcement_mode,
            dry_run: spec.dry_run,
            suspend: spec.suspend,
            max_unavailable: spec.max_unavailable.clone(),
            deleting: metadata.deletion_timestamp.is_some(),
            selector: CompiledSelector::new(selector),
            created: metadata
                .creation_timestamp
                .as_ref()
                .ok_or(Rejection::Metadata("metadata.creationTimestamp"))?
                .0,
        })
    }

    /// Returns the sort key of rules, oldest first. Creation times are in whole seconds.
    pub(crate) fn age(&self) -> (Timestamp, &str) {
        (self.created, &self.name)
    }

    /// Returns whether the rule exists and writes no node.
    pub fn is_frozen(&self) -> bool {
        (self.dry_run || self.suspend) && !self.deleting
    }

    /// Returns whether a reboot of a node voids any of the rule's requirements.
    pub(crate) fn is_reset_by_reboots(&self) -> bool {
        self.reset_by_reboot.contains(&true) || self.resets_pods()
    }

    /// Returns whether pods count after a reboot of a node only if their containers have restarted.
    pub(crate) fn resets_pods(&self) -> bool {
        let resets = |signal: &Signal| matches!(signal, Signal::Pods { reset_by_reboot: true, .. });
        self.signals.iter().any(resets)
    }

    /// Returns the names of what the rule requires: types of conditions, and others as `pods/calico`.
    pub fn requirements(&self) -> impl Iterator<Item = String> {
        let conditions = self.conditions.iter().map(|condition| condition.type_.clone());
        conditions.chain(self.signals.iter().map(ToString::to_string))
    }

    /// Returns whether one of the rule's own probes decides a condition.
    pub fn probes(&self, type_: &str) -> bool {
        self.probed.iter().any(|probed| probed == type_)
    }

    /// Returns whether the rule covers a node. A rule that is being deleted covers no node, and no rule covers
    /// a node that is being deleted.
    pub fn covers(&self, node: &Node) -> bool {
        !self.deleting && !node.is_terminating() && self.selects(node)
    }

    /// Returns whether the rule's selector matches a node, so its reporters run there.
    pub fn selects(&self, node: &Node) -> bool {
        self.selector.matches(node.labels())
    }
}

/// Returns the staleness limit that the rule sets for a condition.
fn own_limit(condition: &ConditionRequirement) -> Option<Duration> {
    condition.stale_after_seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

/// The reporting intervals of a condition, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// The longest time between two reports.
    heartbeat: u32,
    /// The longest time from a reporter's start on a healthy node to its first verdict.
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

/// Raises the staleness limits of the rule's own conditions so that no healthy reporter is late.
///
/// The default limit is three heartbeats of the slowest reporter that may write the condition, which can belong
/// to another rule. It is longer if a reporter that restarts just before its heartbeat needs longer. A set
/// limit is at least two heartbeats, because stored rules may be older than this check of the schema.
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
/// The older rule decides where rules disagree, so a new rule never changes the effect of an existing one.
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
    /// Collects rules. The effects of an unreadable rule stay until somebody corrects or deletes it.
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

    /// Returns whether both sets evaluate every node alike. A write of a rule's status changes nothing here.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        let version =
            |rule: &Rule| (rule.name.clone(), rule.uid.clone(), rule.generation, rule.deleting);
        self.unreadable == other.unreadable
            && self.rules.iter().map(version).eq(other.rules.iter().map(version))
    }

    /// Returns the rules that can be evaluated, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Returns the rule with that name, if it can be evaluated.
    pub fn get(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// Returns the watches that observe what the rules require besides conditions.
    pub fn sources(&self) -> BTreeSet<Source> {
        let rules = self.rules.iter().filter(|rule| !rule.deleting);
        rules.flat_map(|rule| rule.signals.iter().filter_map(Signal::source)).collect()
    }

    /// Returns the conditions that reporters write as their nodes.
    pub fn written_as_nodes(&self) -> BTreeSet<String> {
        let as_nodes = self.rules.iter().filter(|rule| {
            !rule.deleting && rule.access == ReporterAccess::ConstrainedImpersonation
        });
        as_nodes.flat_map(|rule| rule.probed.iter().cloned()).collect()
    }

    /// Returns whether a rule's reporters keep their configuration, because the rule is suspended or cannot be
    /// evaluated.
    pub fn keeps_reporters(&self, uid: &str) -> bool {
        self.unreadable.iter().any(|unreadable| unreadable.uid == uid)
            || self.by_uid(uid).is_some_and(|rule| rule.suspend && !rule.deleting)
    }

    /// Returns the rule with that uid, if it can be evaluated.
    pub fn by_uid(&self, uid: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| *rule.uid == *uid)
    }

    /// Returns the rules that cannot be evaluated.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Returns whether a rule with that name exists and cannot be evaluated.
    pub fn is_unreadable(&self, name: &str) -> bool {
        self.unreadable.iter().any(|unreadable| unreadable.name == name)
    }
}
