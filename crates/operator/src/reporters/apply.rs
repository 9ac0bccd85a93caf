//! Bringing a rule's reporters to where they should be.

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

/// Applies what a rule should have, in the order that [`ReporterObjects`] states, and deletes what it
/// should not. An object that is as it should be is not written.
///
/// Where a policy limits a permission, the policy comes first and goes last, and API servers are given
/// time to see it.
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
    // Every field by name: one that is added does not compile until it is applied.
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
        // A role under the same name as one that a policy limits is not deleted but changed.
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

/// Applies roles, and says whether that took a write.
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

/// Deletes what a rule had under another access: permissions before what limits them.
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

/// Deletes permissions, and says whether there were any.
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

/// Notes that what a rule's policies limit has changed, if it has any.
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

/// Deletes everything generated for a rule, the pods first: a reporter that has lost its permissions
/// would only fill the log. Says whether all of it has gone; if not, it is to be called again.
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

/// Deletes the policies of a rule once API servers have seen that what they limit is gone, and says
/// whether none is left.
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

/// Whether an object was generated for a rule.
fn is_of(object: &impl Resource, rule_uid: &str) -> bool {
    object.labels().get(RULE_UID_LABEL).is_some_and(|uid| uid == rule_uid)
}

/// Whether one of these objects has the same name.
fn is_among<K: Resource>(object: &K, wanted: &[K]) -> bool {
    wanted.iter().any(|wanted| wanted.name_any() == object.name_any())
}

/// How the reporters of a rule are whose objects are to be left alone.
pub(crate) fn observe(desired: Option<&ReporterObjects>, stores: &OwnedStores) -> Reporters {
    let wanted = desired.map(|objects| ObjectRef::from_obj(&objects.daemon_set));
    let live = wanted.and_then(|wanted| stores.daemon_sets.get(&wanted));
    live.map_or(Reporters::None, |daemon_set| reporters(&daemon_set, None))
}

fn reporters(daemon_set: &DaemonSet, changed: Option<String>) -> Reporters {
    let namespace = daemon_set.namespace().unwrap_or_default();
    let name = format!("{namespace}/{}", daemon_set.name_any());
    match &daemon_set.status {
        // Counts of an older generation say nothing about this one.
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
