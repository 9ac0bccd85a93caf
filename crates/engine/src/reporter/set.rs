//! Reporter sets: rules with equal pod settings share their reporters.
//!
//! So a node has one reporter for most rules. The reporters of a set learn from their configuration which rules
//! there are, and from their Node's labels which of these cover it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use node_readiness_api::{
    ConditionRequirement, ConditionStatus, NodeReadinessRule, Probe, ReporterConfig,
    ReporterOptions, RuleProbes,
};

use super::{Refusal, set_name};

/// The maximum size of a set's configuration, in bytes. A ConfigMap may have 1 MiB. Without this limit, whoever may
/// create rules could stop all updates of a set.
const MAX_CONFIG: usize = 900 << 10;

/// A rule with probes that has reporters.
#[derive(Clone, Copy, Debug)]
pub enum Member<'a> {
    /// Reporters run the probes of its spec.
    Current(&'a NodeReadinessRule),
    /// Its pods may run, but not its probes yet. Reporters keep what they have of it.
    Waiting(&'a NodeReadinessRule),
    /// Reporters keep what they have of it, because it is suspended, cannot be read, or waits for a policy.
    Kept(&'a ObjectMeta),
}

/// Rules that share their reporters.
#[derive(Clone, Debug, PartialEq)]
pub struct ReporterSet {
    /// Name of the set.
    pub name: String,
    /// The pod settings. The heartbeat is not one of them.
    pub options: ReporterOptions,
    /// The rules of the set, oldest first, also those whose probes may not run yet.
    pub rules: Vec<RuleProbes>,
    /// The configuration of the reporters, with rules of other sets as far as they matter here.
    pub config: ReporterConfig,
}

/// All reporter sets.
#[derive(Clone, Debug, Default)]
pub struct ReporterSets {
    /// The sets to apply, by name.
    pub sets: Vec<ReporterSet>,
    /// The configurations of sets whose rules all keep what they have, by name. Nothing else of these sets changes.
    pub kept: BTreeMap<String, ReporterConfig>,
    /// The rules that do not fit into the configuration of their set, by uid.
    pub refused: BTreeMap<String, Refusal>,
}

/// The probes of a rule with their set.
struct Placed<'a> {
    age: (Option<&'a Time>, Option<&'a str>),
    set: String,
    options: Option<ReporterOptions>,
    probes: RuleProbes,
    waits: bool,
}

impl ReporterSets {
    /// Groups rules by their pod settings. `present` are the configurations in the cluster, by set.
    ///
    /// # Errors
    ///
    /// When a rule cannot be written as JSON, which plain values always can.
    pub fn of(
        members: &[Member<'_>],
        present: &BTreeMap<String, ReporterConfig>,
    ) -> serde_json::Result<Self> {
        let placed = members.iter().map(|member| Placed::of(member, present));
        let mut placed: Vec<_> = placed.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        placed.sort_by(|a, b| a.age.cmp(&b.age));
        let refused = refuse_the_youngest(&mut placed)?;
        let names: BTreeSet<_> = placed.iter().map(|placed| placed.set.clone()).collect();
        let (mut sets, mut kept) = (Vec::new(), BTreeMap::new());
        for name in names {
            let own = placed.iter().filter(|placed| placed.set == name);
            let options = own.clone().find_map(|placed| placed.options.clone());
            let rules = own.map(|placed| placed.probes.clone()).collect();
            let config = ReporterConfig { rules: configured(&name, &placed) };
            match options {
                Some(options) => sets.push(ReporterSet { name, options, rules, config }),
                None => drop(kept.insert(name, config)),
            }
        }
        Ok(Self { sets, kept, refused })
    }

    /// Returns whether there is a set with this name.
    pub fn contains(&self, name: &str) -> bool {
        self.kept.contains_key(name) || self.sets.iter().any(|set| set.name == name)
    }

    /// Returns the set to apply to which the rule with this uid belongs.
    pub fn set_of(&self, uid: &str) -> Option<&ReporterSet> {
        self.sets.iter().find(|set| set.rules.iter().any(|rule| rule.uid == uid))
    }
}

impl ReporterSet {
    /// Returns the probes of its rules.
    pub fn probes(&self) -> impl Iterator<Item = &Probe> {
        self.rules.iter().flat_map(|rule| &rule.probes)
    }
}

/// Returns the owners of a set's objects: all of its rules. The garbage collector deletes an object when all of its
/// owners are gone.
pub(super) fn owners<'a>(rules: impl IntoIterator<Item = &'a RuleProbes>) -> Vec<OwnerReference> {
    let owner = |rule: &RuleProbes| OwnerReference {
        api_version: NodeReadinessRule::api_version(&()).into_owned(),
        kind: NodeReadinessRule::kind(&()).into_owned(),
        name: rule.name.clone(),
        uid: rule.uid.clone(),
        controller: None,
        block_owner_deletion: None,
    };
    rules.into_iter().map(owner).collect()
}

impl<'a> Placed<'a> {
    /// Returns `None` for a rule whose reporters have nothing to keep.
    fn of(
        member: &Member<'a>,
        present: &BTreeMap<String, ReporterConfig>,
    ) -> serde_json::Result<Option<Self>> {
        let kept = |metadata: &'a ObjectMeta| {
            let uid = metadata.uid.as_deref().unwrap_or_default();
            let mut found = present.iter();
            let (set, probes) =
                found.find_map(|(set, config)| Some((set, config.own_rule(uid)?)))?;
            Some(Self {
                age: age(metadata),
                set: set.clone(),
                options: None,
                probes: probes.clone(),
                waits: false,
            })
        };
        match member {
            Member::Current(rule) => Self::by_spec(rule, false).map(Some),
            Member::Waiting(rule) => match kept(&rule.metadata) {
                Some(placed) => Ok(Some(placed)),
                None => Self::by_spec(rule, true).map(Some),
            },
            Member::Kept(metadata) => Ok(kept(metadata)),
        }
    }

    fn by_spec(rule: &'a NodeReadinessRule, waits: bool) -> serde_json::Result<Self> {
        let options = rule.spec.reporter.clone().unwrap_or_default();
        Ok(Self {
            age: age(&rule.metadata),
            set: set_name(&options)?,
            options: Some(options),
            probes: rule_probes(rule),
            waits,
        })
    }
}

fn age(metadata: &ObjectMeta) -> (Option<&Time>, Option<&str>) {
    (metadata.creation_timestamp.as_ref(), metadata.name.as_deref())
}

/// Removes the rules that do not fit, after all older ones of their set.
fn refuse_the_youngest(
    placed: &mut Vec<Placed<'_>>,
) -> serde_json::Result<BTreeMap<String, Refusal>> {
    let (mut sizes, mut refused) = (BTreeMap::<String, usize>::new(), BTreeMap::new());
    for Placed { set, probes, .. } in &*placed {
        let size = serde_json::to_string_pretty(probes)?.len();
        let total = sizes.entry(set.clone()).or_default();
        if *total + size > MAX_CONFIG {
            let message = format!(
                "spec.probes take {size} bytes, and the configuration of the reporter set {set} may have {MAX_CONFIG}, \
                 of which older rules take {total}: make the probes shorter, or change spec.reporter, so that the \
                 rule belongs to another set"
            );
            refused.insert(probes.uid.clone(), Refusal { reason: "TooLarge", message });
        } else {
            *total += size;
        }
    }
    placed.retain(|placed| !refused.contains_key(&placed.probes.uid));
    Ok(refused)
}

/// Returns the rules in the configuration of a set: its own, and the conditions that older rules of other sets probe
/// as well.
fn configured(set: &str, placed: &[Placed<'_>]) -> Vec<RuleProbes> {
    let mut younger = BTreeSet::new();
    let mut rules: Vec<_> = placed
        .iter()
        .rev()
        .filter(|placed| !placed.waits)
        .filter_map(|placed| {
            if placed.set == set {
                younger.extend(types(&placed.probes));
                return Some(placed.probes.clone());
            }
            let shared = types(&placed.probes).filter(|type_| younger.contains(type_));
            let shared: Vec<_> = shared.map(str::to_owned).collect();
            (!shared.is_empty()).then(|| RuleProbes {
                probes: Vec::new(),
                required: BTreeMap::new(),
                written_by_other_set: shared,
                ..placed.probes.clone()
            })
        })
        .collect();
    rules.reverse();
    rules
}

fn types(rule: &RuleProbes) -> impl Iterator<Item = &str> {
    rule.probes.iter().map(|probe| probe.condition_type.as_str())
}

fn rule_probes(rule: &NodeReadinessRule) -> RuleProbes {
    let spec = &rule.spec;
    let options = spec.reporter.clone().unwrap_or_default();
    RuleProbes {
        name: rule.metadata.name.clone().unwrap_or_default(),
        uid: rule.metadata.uid.clone().unwrap_or_default(),
        node_selector: spec.node_selector.clone(),
        heartbeat_seconds: options.heartbeat_seconds,
        probes: spec.probes.clone(),
        required: required(&spec.conditions, &spec.probes),
        written_by_other_set: Vec::new(),
    }
}

/// Returns the required status of each probed condition.
fn required(
    conditions: &[ConditionRequirement],
    probes: &[Probe],
) -> BTreeMap<String, ConditionStatus> {
    let is_probed = |type_: &str| probes.iter().any(|probe| probe.condition_type == type_);
    let conditions = conditions.iter().filter(|condition| is_probed(&condition.type_));
    conditions.map(|condition| (condition.type_.clone(), condition.required_status)).collect()
}
