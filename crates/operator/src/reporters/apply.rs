//! Applies and deletes the objects of a rule's reporters.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use node_readiness_api::{NodeReadinessRule, RULE_UID_LABEL, ReporterStatus};
use node_readiness_engine::reporter::ReporterObjects;
use node_readiness_engine::status::Reporters;

use super::applier::Applier;
use super::error::ApplyError;
use super::propagation::PropagationDelay;
use crate::cache::OwnedStores;

/// Applies the desired objects of a rule, in the order of [`ReporterObjects`], and deletes its other objects.
/// Skips objects that are as desired.
///
/// A policy is applied before the permission that it limits and deleted after it, each with the propagation delay
/// in between.
pub(crate) async fn apply(
    applier: &Applier,
    rule: &NodeReadinessRule,
    desired: Option<&ReporterObjects>,
    stores: &OwnedStores,
    propagation: &PropagationDelay,
) -> Result<Reporters, ApplyError> {
    let uid = rule.uid().unwrap_or_default();
    let Some(desired) = desired else {
        delete_all(applier, &uid, stores, propagation).await?;
        return Ok(Reporters::None);
    };
    // Names every field, so that a new field does not compile until it is applied.
    let ReporterObjects { service_account, policy, roles, role_bindings, config_map, daemon_set } =
        desired;
    let accounts = &stores.service_accounts;
    let account = applier.ensure(&applier.namespaced(), service_account, accounts).await?;
    if let Some(policy) = policy {
        let placed = applier.put_in_place(policy, stores).await;
        propagation.start(&uid, &placed);
        placed?;
        if propagation.left(&uid).is_some() {
            return Ok(Reporters::AwaitingPolicy);
        }
    }
    let granted = grant(applier, roles, stores).await;
    if policy.is_none() {
        // A role that keeps the name of a limited one is changed and not deleted.
        note_changed(&uid, &granted, stores, propagation);
    }
    granted?;
    for binding in role_bindings {
        applier.ensure(&applier.cluster(), binding, &stores.cluster_role_bindings).await?;
    }
    let config_maps = &stores.config_maps;
    let map = applier.ensure(&applier.namespaced(), config_map, config_maps).await?;
    let daemon_sets = &stores.daemon_sets;
    let live = applier.ensure(&applier.namespaced(), daemon_set, daemon_sets).await?;
    delete_outdated(applier, &uid, desired, stores, propagation).await?;
    let changed = live.changed.or(map.changed).or(account.changed);
    Ok(reporters(&live.object, changed))
}

/// Applies roles. Returns whether something was written.
async fn grant(
    applier: &Applier,
    roles: &[ClusterRole],
    stores: &OwnedStores,
) -> Result<bool, ApplyError> {
    let mut written = false;
    for role in roles {
        written |= applier.ensure(&applier.cluster(), role, &stores.cluster_roles).await?.written;
    }
    Ok(written)
}

/// Deletes the objects of the rule's previous access, permissions before policies.
async fn delete_outdated(
    applier: &Applier,
    uid: &str,
    desired: &ReporterObjects,
    stores: &OwnedStores,
    propagation: &PropagationDelay,
) -> Result<(), ApplyError> {
    let ReporterObjects { role_bindings, roles, policy, .. } = desired;
    let bindings =
        |object: &ClusterRoleBinding| is_of(object, uid) && !is_among(object, role_bindings);
    let roles = |object: &ClusterRole| is_of(object, uid) && !is_among(object, roles);
    let withdrawn = withdraw(applier, stores, bindings, roles).await;
    if policy.is_some() {
        return withdrawn.map(drop);
    }
    note_changed(uid, &withdrawn, stores, propagation);
    withdrawn?;
    delete_policies(applier, uid, stores, propagation).await.map(drop)
}

/// Deletes permissions. Returns whether there were any.
async fn withdraw(
    applier: &Applier,
    stores: &OwnedStores,
    bindings: impl Fn(&ClusterRoleBinding) -> bool,
    roles: impl Fn(&ClusterRole) -> bool,
) -> Result<bool, ApplyError> {
    let OwnedStores { cluster_roles, cluster_role_bindings, .. } = stores;
    let bound = applier.delete(&applier.cluster(), cluster_role_bindings, bindings).await?;
    let granted = applier.delete(&applier.cluster(), cluster_roles, roles).await?;
    Ok(bound + granted > 0)
}

/// Starts the propagation delay if a rule has policies and their permissions changed.
fn note_changed(
    uid: &str,
    changed: &Result<bool, ApplyError>,
    stores: &OwnedStores,
    propagation: &PropagationDelay,
) {
    if has_policies(uid, stores) {
        propagation.start(uid, changed);
    }
}

fn has_policies(uid: &str, stores: &OwnedStores) -> bool {
    !stores.policies.state_filter(|policy| is_of(policy, uid)).is_empty()
}

/// Deletes all objects of a rule, pods first, because a reporter without permissions would only log errors.
/// Returns whether everything was deleted; otherwise call it again.
pub(crate) async fn delete_all(
    applier: &Applier,
    uid: &str,
    stores: &OwnedStores,
    propagation: &PropagationDelay,
) -> Result<bool, ApplyError> {
    let OwnedStores {
        service_accounts,
        config_maps,
        daemon_sets,
        cluster_roles: _,
        cluster_role_bindings: _,
        policies: _,
        policy_bindings: _,
    } = stores;
    applier.delete(&applier.namespaced(), daemon_sets, |object| is_of(object, uid)).await?;
    applier.delete(&applier.namespaced(), config_maps, |object| is_of(object, uid)).await?;
    let (bindings, roles) = (|object: &_| is_of(object, uid), |object: &_| is_of(object, uid));
    let withdrawn = withdraw(applier, stores, bindings, roles).await;
    note_changed(uid, &withdrawn, stores, propagation);
    withdrawn?;
    let gone = delete_policies(applier, uid, stores, propagation).await?;
    applier.delete(&applier.namespaced(), service_accounts, |object| is_of(object, uid)).await?;
    Ok(gone)
}

/// Deletes the policies of a rule when the propagation delay of the deleted permissions is over. Returns whether
/// all are deleted.
async fn delete_policies(
    applier: &Applier,
    uid: &str,
    stores: &OwnedStores,
    propagation: &PropagationDelay,
) -> Result<bool, ApplyError> {
    if !has_policies(uid, stores) {
        return Ok(true);
    }
    if propagation.left(uid).is_some() {
        return Ok(false);
    }
    let bindings = |object: &_| is_of(object, uid);
    applier.delete(&applier.cluster(), &stores.policy_bindings, bindings).await?;
    applier.delete(&applier.cluster(), &stores.policies, |object| is_of(object, uid)).await?;
    Ok(true)
}

/// Returns whether an object was generated for a rule.
fn is_of(object: &impl Resource, rule_uid: &str) -> bool {
    object.labels().get(RULE_UID_LABEL).is_some_and(|uid| uid == rule_uid)
}

/// Returns whether one of these objects has the same name.
fn is_among<K: Resource>(object: &K, wanted: &[K]) -> bool {
    wanted.iter().any(|wanted| wanted.name_any() == object.name_any())
}

/// Returns the state of reporters whose objects must not change.
pub(crate) fn observe(desired: Option<&ReporterObjects>, stores: &OwnedStores) -> Reporters {
    let wanted = desired.map(|objects| ObjectRef::from_obj(&objects.daemon_set));
    let live = wanted.and_then(|wanted| stores.daemon_sets.get(&wanted));
    live.map_or(Reporters::None, |daemon_set| reporters(&daemon_set, None))
}

fn reporters(daemon_set: &DaemonSet, changed: Option<String>) -> Reporters {
    let namespace = daemon_set.namespace().unwrap_or_default();
    let name = format!("{namespace}/{}", daemon_set.name_any());
    match &daemon_set.status {
        // The status of an older generation is ignored.
        Some(status) if status.observed_generation == daemon_set.metadata.generation => {
            let status = ReporterStatus {
                daemon_set: name,
                desired: status.desired_number_scheduled,
                ready: status.number_ready,
            };
            Reporters::Applied { status, changed, trouble: None }
        }
        _ => Reporters::Starting(name),
    }
}
