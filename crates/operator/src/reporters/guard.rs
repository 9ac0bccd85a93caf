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

use super::applier::Applier;
use super::error::ApplyError;
use super::propagation::PropagationDelay;
use crate::backoff::Backoff;
use crate::cache::{Caches, OwnedStores};
use crate::leader::Leadership;

/// What it is called among what waits for itself in [`Backoff`], and for API servers in [`PropagationDelay`].
const GUARD: &str = "guard";

/// What the policy controller works with.
pub(crate) struct PolicyController {
    pub applier: Applier,
    pub strength: Strength,
    pub leadership: Leadership,
}

/// How the guard stands, for those who wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Guard(watch::Receiver<GuardState>);

/// How the guard stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum GuardState {
    /// It has not been put up.
    #[default]
    Pending,
    /// It could not be put up, or not as it should be.
    Failed(String),
    /// It is in force, and lets these conditions through.
    InForce(BTreeSet<String>),
}

impl Guard {
    /// The guard's state to set, and the guard that others read.
    pub(crate) fn channel() -> (watch::Sender<GuardState>, Self) {
        let (state, seen) = watch::channel(GuardState::default());
        (state, Self(seen))
    }

    /// How the guard stands to a rule: in its way, or not.
    pub(crate) fn state_for(&self, rule: &NodeReadinessRule) -> GuardState {
        let state = self.0.borrow().clone();
        match &state {
            GuardState::InForce(types) if !admits(types, rule) => GuardState::Pending,
            _ => state,
        }
    }

    /// How it stands, and whenever that changes.
    pub(crate) fn changes(&self) -> watch::Receiver<GuardState> {
        self.0.clone()
    }
}

fn admits(types: &BTreeSet<String>, rule: &NodeReadinessRule) -> bool {
    let access = rule.spec.reporter.as_ref().map(|reporter| reporter.access).unwrap_or_default();
    access != ReporterAccess::ConstrainedImpersonation
        || rule.spec.probes.iter().all(|probe| types.contains(&probe.condition_type))
}

impl PolicyController {
    /// Keeps the guard in force until `end`, while this process leads. It applies the policies again when
    /// rules change, and when `touched` is notified because somebody changed or deleted one of them.
    pub(crate) async fn run(
        self,
        caches: Caches,
        touched: Arc<Notify>,
        state: watch::Sender<GuardState>,
        end: CancellationToken,
    ) {
        tokio::select! {
            () = self.keep_in_force(caches, &touched, &state) => {}
            () = end.cancelled() => {}
        }
    }

    async fn keep_in_force(
        self,
        mut caches: Caches,
        touched: &Notify,
        state: &watch::Sender<GuardState>,
    ) {
        if caches.synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        self.leadership.clone().acquired().await;
        let (backoff, propagation) = (Backoff::default(), PropagationDelay::default());
        loop {
            let rules = caches.rule_sets.borrow_and_update().clone();
            let applied = match rules {
                Some(rules) => self.apply(&rules, &caches.owned, state, &propagation).await,
                None => Ok(()),
            };
            let wait = match applied {
                Ok(()) => {
                    backoff.succeeded(GUARD);
                    Duration::MAX
                }
                Err(error) => {
                    let wait = backoff.failed(GUARD);
                    warn!("{error}; trying again in {wait:.1?}");
                    state.send_replace(GuardState::Failed(error.to_string()));
                    wait
                }
            };
            tokio::select! {
                changed = caches.rule_sets.changed() => if changed.is_err() { return },
                () = touched.notified() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Applies the policies, and reports the guard as in force when API servers have had time to see them.
    async fn apply(
        &self,
        rules: &RuleSet,
        stores: &OwnedStores,
        state: &watch::Sender<GuardState>,
        propagation: &PropagationDelay,
    ) -> Result<(), ApplyError> {
        let types = written_as_nodes(rules, &stores.config_maps);
        let policies = guard(self.strength, &types);
        for policy in &policies {
            let placed = self.applier.put_in_place(policy, stores).await;
            propagation.start(GUARD, &placed);
            placed?;
        }
        self.delete_outdated(&policies, stores).await?;
        let in_force = GuardState::InForce(types);
        if *state.borrow() == in_force {
            return Ok(());
        }
        if let Some(left) = propagation.left(GUARD) {
            sleep(left).await;
            info!(strength = ?self.strength, "the guard is in force");
        }
        state.send_replace(in_force);
        Ok(())
    }

    /// Deletes the policies of another strength, or of an earlier version.
    async fn delete_outdated(
        &self,
        policies: &[BoundPolicy],
        stores: &OwnedStores,
    ) -> Result<(), ApplyError> {
        let applier = &self.applier;
        let outdated = |name: &str| !policies.iter().any(|bound| bound.policy.name_any() == name);
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
            types.extend(configured_types(&config));
        }
    }
    types
}

/// The conditions that reporters were told to write as their nodes. Another version of the project may
/// have told them, so whatever else there is does not matter.
fn configured_types(config: &ConfigMap) -> Vec<String> {
    let text = config.data.as_ref().and_then(|files| files.get(REPORTER_CONFIG_FILE));
    let config: Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let access: ReporterAccess =
        serde_json::from_value(config["access"].clone()).unwrap_or_default();
    if access != ReporterAccess::ConstrainedImpersonation {
        return Vec::new();
    }
    let probes = config["probes"].as_array().into_iter().flatten();
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

    /// The configuration of a rule's reporters by a later version, which has more fields.
    fn config(uid: &str, access: &str, condition: &str) -> ConfigMap {
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
            config("edited", "ConstrainedImpersonation", "Edited"),
            config("suspended", "ConstrainedImpersonation", "Suspended"),
            config("unreadable", "ConstrainedImpersonation", "Unreadable"),
            config("elsewhere", "AdmissionPolicy", "Elsewhere"),
            config("gone", "ConstrainedImpersonation", "Gone"),
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
