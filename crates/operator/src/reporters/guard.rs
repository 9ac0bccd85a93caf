//! The policy controller: the only writer of the guard policies.
//!
//! It reconciles when rules change, because one of the policies lists the conditions that they probe. A rule's probes
//! do not run until the guard admits their conditions.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use node_readiness_api::{REPORTER_CONFIG_KEY, REPORTER_SET_LABEL, RULE_UID_LABEL};
use node_readiness_engine::RuleSet;
use node_readiness_engine::admission::{BoundPolicy, Strength, guard};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::applier::Applier;
use super::error::ApplyError;
use super::propagation::PropagationDelay;
use crate::backoff::Backoff;
use crate::cache::{Caches, OwnedStores};
use crate::leader::Leadership;

/// The guard's key in [`Backoff`] and [`PropagationDelay`].
const GUARD: &str = "guard";

/// The policy controller with its dependencies.
pub(crate) struct PolicyController {
    pub applier: Applier,
    pub strength: Strength,
    pub leadership: Leadership,
}

/// The guard's state, for reading and for waiting.
#[derive(Clone, Debug)]
pub(crate) struct Guard(watch::Receiver<GuardState>);

/// The state of the guard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum GuardState {
    /// It is not applied yet.
    #[default]
    Pending,
    /// It could not be applied.
    Failed(String),
    /// It is in force and admits these conditions.
    InForce(BTreeSet<String>),
}

impl Guard {
    /// Returns the sender of the guard's state, and the guard that others read.
    pub(crate) fn channel() -> (watch::Sender<GuardState>, Self) {
        let (state, seen) = watch::channel(GuardState::default());
        (state, Self(seen))
    }

    /// Returns the state.
    pub(crate) fn state(&self) -> watch::Ref<'_, GuardState> {
        self.0.borrow()
    }

    /// Returns the state and its changes.
    pub(crate) fn changes(&self) -> watch::Receiver<GuardState> {
        self.0.clone()
    }
}

impl PolicyController {
    /// Keeps the guard in force until `end`, while this process leads. Applies the policies again when rules
    /// change, and when `touched` is notified because a policy was changed or deleted.
    pub(crate) async fn run(
        self,
        caches: Caches,
        touched: watch::Receiver<()>,
        state: watch::Sender<GuardState>,
        end: CancellationToken,
    ) {
        tokio::select! {
            () = self.keep_in_force(caches, touched, &state) => {}
            () = end.cancelled() => {}
        }
    }

    async fn keep_in_force(
        self,
        mut caches: Caches,
        mut touched: watch::Receiver<()>,
        state: &watch::Sender<GuardState>,
    ) {
        if caches.synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        self.leadership.clone().acquired().await;
        let (backoff, propagation) = (Backoff::default(), PropagationDelay::default());
        loop {
            let rules = caches.rule_sets.borrow_and_update().clone();
            touched.mark_unchanged();
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
                    warn!("{error}; retrying in {wait:.1?}");
                    state.send_replace(GuardState::Failed(error.to_string()));
                    wait
                }
            };
            tokio::select! {
                changed = caches.rule_sets.changed() => if changed.is_err() { return },
                changed = touched.changed() => if changed.is_err() { return },
                () = sleep(wait) => {}
            }
        }
    }

    /// Applies the policies. When their propagation delay is over, deletes outdated ones and reports the guard as
    /// in force. So an upgrade that renames a policy leaves no time without either.
    async fn apply(
        &self,
        rules: &RuleSet,
        stores: &OwnedStores,
        state: &watch::Sender<GuardState>,
        propagation: &PropagationDelay,
    ) -> Result<(), ApplyError> {
        let types = written_as_nodes(rules, &stores.config_maps, &stores.policies);
        let policies = guard(self.strength, &types);
        for policy in &policies {
            let placed = self.applier.put_in_place(policy, stores).await;
            propagation.start(GUARD, &placed);
            placed?;
        }
        let in_force = GuardState::InForce(types);
        let changes = *state.borrow() != in_force;
        if changes && let Some(left) = propagation.left(GUARD) {
            sleep(left).await;
            info!(strength = ?self.strength, "the guard is in force");
        }
        self.delete_outdated(&policies, stores).await?;
        if changes {
            state.send_replace(in_force);
        }
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
            is_of_guard(object) && outdated(&object.name_any())
        };
        applier.delete(&applier.cluster(), &stores.policy_bindings, bindings).await?;
        let policies = |object: &ValidatingAdmissionPolicy| {
            is_of_guard(object) && outdated(&object.name_any())
        };
        applier.delete(&applier.cluster(), &stores.policies, policies).await?;
        Ok(())
    }
}

/// Returns the conditions that reporters write as their nodes. Reporters of a suspended or unreadable rule keep
/// their configuration, so its conditions are taken from there. Reporters with a policy of their own do not write as
/// their nodes.
fn written_as_nodes(
    rules: &RuleSet,
    configs: &Store<ConfigMap>,
    policies: &Store<ValidatingAdmissionPolicy>,
) -> BTreeSet<String> {
    let mut types = rules.written_as_nodes();
    let policies = policies.state();
    let is_limited = |config_map: &ConfigMap| {
        let group = group(config_map);
        policies.iter().any(|policy| group.is_some() && self::group(&**policy) == group)
    };
    for config_map in configs.state_filter(|config_map| !is_limited(config_map)) {
        let text = config_map.data.as_ref().and_then(|files| files.get(REPORTER_CONFIG_KEY));
        // Another version may have written it, so unknown fields are ignored.
        let config: Value =
            text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let of_set = config["rules"].as_array().into_iter().flatten();
        let of_set = of_set.filter_map(|rule| Some((rule["uid"].as_str()?, rule)));
        // Version 0.1 configured each rule's reporters by themselves.
        let of_rule = config_map.labels().get(RULE_UID_LABEL).map(|uid| (uid.as_str(), &config));
        for (_, rule) in of_set.chain(of_rule).filter(|(uid, _)| rules.keeps_reporters(uid)) {
            types.extend(probed(rule));
        }
    }
    types
}

fn probed(rule: &Value) -> impl Iterator<Item = String> {
    let probes = rule["probes"].as_array().into_iter().flatten();
    probes.filter_map(|probe| Some(probe["conditionType"].as_str()?.to_owned()))
}

/// Returns the reporter set of an object, or the rule if version 0.1 generated it.
fn group(object: &impl Resource) -> Option<(&'static str, &str)> {
    let labels = [REPORTER_SET_LABEL, RULE_UID_LABEL];
    labels.into_iter().find_map(|label| Some((label, object.labels().get(label)?.as_str())))
}

/// Returns whether an object belongs to no reporters.
fn is_of_guard(object: &impl Resource) -> bool {
    group(object).is_none()
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use node_readiness_engine::{Rule, Unreadable};
    use serde_json::json;

    use super::*;

    /// A rule whose reporters now write the condition `Now`.
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

    /// A configuration by a later version, which has more fields.
    fn config(set: &str, uids: &[&str]) -> ConfigMap {
        let rule = |uid: &&str| json!({"uid": uid, "probes": [{"conditionType": format!("Of-{uid}"), "someDay": {}}]});
        let config = json!({"later": true, "rules": uids.iter().map(rule).collect::<Vec<_>>()});
        config_map(set, REPORTER_SET_LABEL, &config)
    }

    fn config_map(name: &str, label: &str, config: &Value) -> ConfigMap {
        let config = json!({
            "metadata": {"name": name, "namespace": "n", "labels": {label: name}},
            "data": {REPORTER_CONFIG_KEY: config.to_string()},
        });
        serde_json::from_value(config).unwrap()
    }

    #[test]
    fn configured_conditions_of_reporters_are_admitted() {
        let (configs, mut writer) = reflector::store();
        let of_rule = |type_: &str| json!({"probes": [{"conditionType": type_}]});
        for config in [
            config("reporter", &["edited", "suspended", "gone"]),
            config("reporter-1", &["unreadable"]),
            config("limited", &["elsewhere"]),
            config_map("limited-of-version-0.1", RULE_UID_LABEL, &of_rule("Limited")),
            config_map("of-version-0.1", RULE_UID_LABEL, &of_rule("Old")),
        ] {
            writer.apply_watcher_event(&Event::Apply(config));
        }
        let (policies, mut writer) = reflector::store();
        for (label, group) in
            [(REPORTER_SET_LABEL, "limited"), (RULE_UID_LABEL, "limited-of-version-0.1")]
        {
            let policy = json!({"metadata": {"name": group, "labels": {label: group}}});
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(policy).unwrap()));
        }
        let unreadable = |name: &str| Unreadable { name: name.to_owned(), uid: name.to_owned() };
        let kept = ["unreadable", "elsewhere", "of-version-0.1", "limited-of-version-0.1"];
        let rules =
            RuleSet::new([rule("edited", false), rule("suspended", true)], kept.map(unreadable));
        let types: Vec<_> = written_as_nodes(&rules, &configs, &policies).into_iter().collect();
        assert_eq!(types, ["Now", "Of-suspended", "Of-unreadable", "Old"]);
    }
}
