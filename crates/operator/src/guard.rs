//! The guard around whoever acts as a node: the only writer of the policies that are no rule's.
//!
//! It follows the rules, since one of its policies lists the conditions that they probe. Reporters
//! wait until it admits what they write.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use node_readiness_api::{NodeReadinessRule, REPORTER_CONFIG_FILE, RULE_UID_LABEL, ReporterAccess};
use node_readiness_engine::RuleSet;
use node_readiness_engine::admission::{BoundPolicy, Strength, guard};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::applier::{Applier, ApplyError};
use crate::leadership::Leadership;
use crate::nodes::Rules;
use crate::retries::Retries;
use crate::settling::Settling;
use crate::watches::OwnedStores;

/// What it is called among what waits for itself in [`Retries`], and for API servers in [`Settling`].
const GUARD: &str = "guard";

/// What the guard works with.
pub(crate) struct GuardPath {
    pub applier: Applier,
    pub rules: Rules,
    pub stores: OwnedStores,
    /// Told when somebody edited or deleted one of its policies.
    pub touched: Arc<Notify>,
    pub strength: Strength,
    pub leadership: Leadership,
    pub synced: watch::Receiver<bool>,
}

/// How the guard stands, for those who wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Guard(watch::Receiver<Standing>);

/// How the guard stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not been put up.
    #[default]
    Pending,
    /// It could not be put up, or not as it should be.
    Failed(String),
    /// It is in force, and lets these conditions through.
    InForce(BTreeSet<String>),
}

impl Guard {
    /// How the guard stands to a rule: in its way, or not.
    pub(crate) fn stands_to(&self, rule: &NodeReadinessRule) -> Standing {
        let standing = self.0.borrow().clone();
        match &standing {
            Standing::InForce(types) if !admits(types, rule) => Standing::Pending,
            _ => standing,
        }
    }

    /// How it stands, and whenever that changes.
    pub(crate) fn changes(&self) -> watch::Receiver<Standing> {
        self.0.clone()
    }
}

fn admits(types: &BTreeSet<String>, rule: &NodeReadinessRule) -> bool {
    let access = rule.spec.reporter.as_ref().map(|reporter| reporter.access).unwrap_or_default();
    access != ReporterAccess::ConstrainedImpersonation
        || rule.spec.probes.iter().all(|probe| types.contains(&probe.condition_type))
}

impl GuardPath {
    /// The path, and how the guard stands.
    pub(crate) fn new_standing() -> (watch::Sender<Standing>, Guard) {
        let (standing, seen) = watch::channel(Standing::default());
        (standing, Guard(seen))
    }

    /// Keeps the guard up until `end`, while this process leads.
    pub(crate) async fn run(self, standing: watch::Sender<Standing>, end: CancellationToken) {
        let keep = self.keep(standing);
        tokio::select! {
            () = keep => {}
            () = end.cancelled() => {}
        }
    }

    async fn keep(mut self, standing: watch::Sender<Standing>) {
        if self.synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        self.leadership.clone().acquired().await;
        let (retries, settling) = (Retries::default(), Settling::default());
        loop {
            let wait = match self.put_up(&standing, &settling).await {
                Ok(()) => {
                    retries.succeeded(GUARD);
                    Duration::MAX
                }
                Err(error) => {
                    let wait = retries.failed(GUARD);
                    warn!("{error}; trying again in {wait:.1?}");
                    standing.send_replace(Standing::Failed(error.to_string()));
                    wait
                }
            };
            tokio::select! {
                changed = self.rules.changed() => if changed.is_err() { return },
                () = self.touched.notified() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Puts the guard up as it should be now, and says so once API servers have had time to see it.
    async fn put_up(
        &mut self,
        standing: &watch::Sender<Standing>,
        settling: &Settling,
    ) -> Result<(), ApplyError> {
        let Some(rules) = self.rules.borrow_and_update().clone() else { return Ok(()) };
        let types = written_as_nodes(&rules, &self.stores.config_maps);
        let policies = guard(self.strength, &types);
        for guard in &policies {
            let placed = self.applier.put_in_place(guard, &self.stores).await;
            settling.note(GUARD, &placed);
            placed?;
        }
        self.delete_outdated(&policies).await?;
        let in_force = Standing::InForce(types);
        if *standing.borrow() == in_force {
            return Ok(());
        }
        if let Some(left) = settling.left(GUARD) {
            sleep(left).await;
            info!(strength = ?self.strength, "the guard is in force");
        }
        standing.send_replace(in_force);
        Ok(())
    }

    /// Deletes what is left of another strength.
    async fn delete_outdated(&self, policies: &[BoundPolicy]) -> Result<(), ApplyError> {
        let Self { applier, stores, .. } = self;
        let outdated = |name: &str| !policies.iter().any(|guard| guard.policy.name_any() == name);
        let bindings = |object: &ValidatingAdmissionPolicyBinding| {
            is_no_rules(object) && outdated(&object.name_any())
        };
        applier.delete(&applier.cluster(), &stores.policy_bindings, bindings).await?;
        let policies = |object: &ValidatingAdmissionPolicy| {
            is_no_rules(object) && outdated(&object.name_any())
        };
        applier.delete(&applier.cluster(), &stores.policies, policies).await?;
        Ok(())
    }
}

/// The conditions that reporters write as their nodes. Those of a rule that is suspended or cannot be read
/// go on with what they were told, whatever the rule says now.
fn written_as_nodes(rules: &RuleSet, configs: &Store<ConfigMap>) -> BTreeSet<String> {
    let mut types = rules.written_as_nodes();
    for config in configs.state() {
        if config.labels().get(RULE_UID_LABEL).is_some_and(|uid| rules.keeps_reporters(uid)) {
            types.extend(told(&config));
        }
    }
    types
}

/// The conditions that reporters were told to write as their nodes. Another version of the project may
/// have told them, so whatever else there is does not matter.
fn told(config: &ConfigMap) -> Vec<String> {
    let text = config.data.as_ref().and_then(|files| files.get(REPORTER_CONFIG_FILE));
    let told: Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let access: ReporterAccess = serde_json::from_value(told["access"].clone()).unwrap_or_default();
    if access != ReporterAccess::ConstrainedImpersonation {
        return Vec::new();
    }
    let probes = told["probes"].as_array().into_iter().flatten();
    probes.filter_map(|probe| Some(probe["conditionType"].as_str()?.to_owned())).collect()
}

fn is_no_rules(object: &impl Resource) -> bool {
    !object.labels().contains_key(RULE_UID_LABEL)
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use node_readiness_engine::{Rule, Unreadable};
    use serde_json::json;

    use super::*;

    /// A rule that says now that its reporters write the condition `Now`.
    fn rule(name: &str, suspend: bool) -> Rule {
        let rule = json!({
            "apiVersion": "readiness.node.x-k8s.io/v1alpha1", "kind": "NodeReadinessRule",
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "nodeSelector": {}, "enforcementMode": "continuous", "suspend": suspend,
                "conditions": [{"type": "Now", "requiredStatus": "True"}],
                "taint": {"key": "readiness.k8s.io/r", "effect": "NoSchedule"},
                "probes": [{"conditionType": "Now", "tcpSocket": {"port": 1}}],
            },
        });
        Rule::compile(&serde_json::from_value(rule).unwrap()).unwrap()
    }

    /// Reporters of a rule that were told to write a condition, by a version that tells them more.
    fn told(uid: &str, access: &str, condition: &str) -> ConfigMap {
        let config = json!({
            "access": access, "later": true,
            "probes": [{"conditionType": condition, "someDay": {}}],
        });
        let config = json!({
            "metadata": {"name": uid, "namespace": "n", "labels": {RULE_UID_LABEL: uid}},
            "data": {REPORTER_CONFIG_FILE: config.to_string()},
        });
        serde_json::from_value(config).unwrap()
    }

    #[test]
    fn what_reporters_go_on_with_is_let_through() {
        let (configs, mut writer) = reflector::store();
        for config in [
            told("edited", "ConstrainedImpersonation", "Edited"),
            told("suspended", "ConstrainedImpersonation", "Suspended"),
            told("unreadable", "ConstrainedImpersonation", "Unreadable"),
            told("elsewhere", "AdmissionPolicy", "Elsewhere"),
            told("gone", "ConstrainedImpersonation", "Gone"),
        ] {
            writer.apply_watcher_event(&Event::Apply(config));
        }
        let unreadable = |name: &str| Unreadable { name: name.to_owned(), uid: name.to_owned() };
        let rules = RuleSet::new(
            [rule("edited", false), rule("suspended", true)],
            [unreadable("unreadable"), unreadable("elsewhere")],
        );
        let types: Vec<_> = written_as_nodes(&rules, &configs).into_iter().collect();
        assert_eq!(types, ["Now", "Suspended", "Unreadable"]);
    }
}
