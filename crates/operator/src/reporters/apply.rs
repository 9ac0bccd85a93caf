//! Applies and deletes the objects of reporter sets.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use node_readiness_api::{REPORTER_SET_LABEL, RULE_UID_LABEL, ReporterStatus};
use node_readiness_engine::reporter::ReporterObjects;
use node_readiness_engine::status::Reporters;

use super::applier::Applier;
use super::error::ApplyError;
use super::propagation::PropagationDelay;
use crate::cache::OwnedStores;

/// The objects that belong together, by their label.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Group<'a> {
    /// The objects of the reporter set with this name.
    Set(&'a str),
    /// The objects that version 0.1 generated for the rule with this uid.
    Rule(&'a str),
}

impl Group<'_> {
    fn has(self, metadata: &ObjectMeta) -> bool {
        let (label, value) = match self {
            Self::Set(name) => (REPORTER_SET_LABEL, name),
            Self::Rule(uid) => (RULE_UID_LABEL, uid),
        };
        let labels = metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(label)).is_some_and(|found| found == value)
    }

    /// Returns whether there is an object.
    pub(super) fn exists(self, stores: &OwnedStores) -> bool {
        stores.any(|metadata| self.has(metadata))
    }

    /// Returns whether the rule with this uid owns one of the objects.
    pub(super) fn is_owned_by(self, uid: &str, stores: &OwnedStores) -> bool {
        let owns = |metadata: &ObjectMeta| {
            metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
        };
        stores.any(|metadata| self.has(metadata) && owns(metadata))
    }

    /// Returns the key in [`PropagationDelay`].
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Set(key) | Self::Rule(key) => key,
        }
    }
}

/// Applies the objects of a set, in the order of [`ReporterObjects`]. Skips objects that are as desired.
///
/// After the policy the propagation delay has to pass before the permission that it limits, and before reporters
/// write conditions that are new to it.
pub(crate) async fn apply(
    applier: &Applier,
    set: &str,
    desired: &ReporterObjects,
    stores: &OwnedStores,
    propagation: &PropagationDelay,
) -> Result<Reporters, ApplyError> {
    // Names every field, so that a new field does not compile until it is applied.
    let ReporterObjects {
        service_account,
        policy,
        cluster_roles,
        cluster_role_bindings,
        role,
        role_binding,
        config_map,
        daemon_set,
    } = desired;
    let accounts = &stores.service_accounts;
    let account = applier.ensure(&applier.namespaced(), service_account, accounts).await?;
    if let Some(policy) = policy {
        let placed = applier.put_in_place(policy, stores).await;
        propagation.start(set, &placed);
        placed?;
        if propagation.left(set).is_some() {
            return Ok(Reporters::AwaitingPolicy);
        }
    }
    for role in cluster_roles {
        applier.ensure(&applier.cluster(), role, &stores.cluster_roles).await?;
    }
    for binding in cluster_role_bindings {
        applier.ensure(&applier.cluster(), binding, &stores.cluster_role_bindings).await?;
    }
    applier.ensure(&applier.namespaced(), role, &stores.roles).await?;
    applier.ensure(&applier.namespaced(), role_binding, &stores.role_bindings).await?;
    let map = configure(applier, config_map, stores).await?;
    let daemon_sets = &stores.daemon_sets;
    let live = applier.ensure(&applier.namespaced(), daemon_set, daemon_sets).await?;
    Ok(reporters(&live.object, live.changed.or(map).or(account.changed)))
}

/// Applies only the configuration of a set. Returns the field that somebody else set, if there is one.
pub(crate) async fn configure(
    applier: &Applier,
    config_map: &ConfigMap,
    stores: &OwnedStores,
) -> Result<Option<String>, ApplyError> {
    let config_maps = &stores.config_maps;
    Ok(applier.ensure(&applier.namespaced(), config_map, config_maps).await?.changed)
}

/// Deletes all objects of a group: pods first, because a reporter without permissions would only log errors, and a
/// policy last, when the propagation delay of the deleted permissions is over. Returns whether everything was
/// deleted; otherwise call it again.
pub(crate) async fn delete_all(
    applier: &Applier,
    group: Group<'_>,
    stores: &OwnedStores,
    propagation: &PropagationDelay,
) -> Result<bool, ApplyError> {
    let OwnedStores {
        service_accounts,
        config_maps,
        daemon_sets,
        roles,
        role_bindings,
        cluster_roles: _,
        cluster_role_bindings: _,
        policies,
        policy_bindings,
    } = stores;
    applier.delete(&applier.namespaced(), daemon_sets, |object| group.has(object.meta())).await?;
    let withdrawn = withdraw(applier, group, stores).await;
    let is_limited = !policies.state_filter(|policy| group.has(policy.meta())).is_empty();
    if is_limited {
        propagation.start(group.key(), &withdrawn);
    }
    withdrawn?;
    applier.delete(&applier.namespaced(), role_bindings, |object| group.has(object.meta())).await?;
    applier.delete(&applier.namespaced(), roles, |object| group.has(object.meta())).await?;
    applier.delete(&applier.namespaced(), config_maps, |object| group.has(object.meta())).await?;
    applier
        .delete(&applier.namespaced(), service_accounts, |object| group.has(object.meta()))
        .await?;
    if is_limited && propagation.left(group.key()).is_some() {
        return Ok(false);
    }
    applier.delete(&applier.cluster(), policy_bindings, |object| group.has(object.meta())).await?;
    applier.delete(&applier.cluster(), policies, |object| group.has(object.meta())).await?;
    Ok(true)
}

/// Deletes the permissions for Nodes. Returns whether there were any.
async fn withdraw(
    applier: &Applier,
    group: Group<'_>,
    stores: &OwnedStores,
) -> Result<bool, ApplyError> {
    let OwnedStores { cluster_roles, cluster_role_bindings: bindings, .. } = stores;
    let bound =
        applier.delete(&applier.cluster(), bindings, |object| group.has(object.meta())).await?;
    let granted = applier
        .delete(&applier.cluster(), cluster_roles, |object| group.has(object.meta()))
        .await?;
    Ok(bound + granted > 0)
}

/// Returns the state of the reporters of a DaemonSet, without counts.
pub(crate) fn reporters(daemon_set: &DaemonSet, changed: Option<String>) -> Reporters {
    let namespace = daemon_set.namespace().unwrap_or_default();
    let name = format!("{namespace}/{}", daemon_set.name_any());
    // The DaemonSet controller has seen it. Which generation it saw does not matter, because pods are counted.
    let is_seen =
        daemon_set.status.as_ref().is_some_and(|status| status.observed_generation.is_some());
    if is_seen {
        let status = ReporterStatus { daemon_set: name, desired: 0, ready: 0 };
        Reporters::Applied { status, changed, trouble: None }
    } else {
        Reporters::Starting(name)
    }
}
